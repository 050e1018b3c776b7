#include "log_part.h"

#include <string>

#include "fuseline/fusion/whole_numbers.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

void PutSideOfLog(const std::string& scope, const std::vector<Side>& sides, const std::vector<std::size_t>& kept, TensorMap* file) {
  std::vector<std::uint64_t> names, ids;
  Tensor dense{{static_cast<std::uint32_t>(kept.size()), static_cast<std::uint32_t>(sides[0].dense.size())}, {}};
  for (const std::size_t index : kept) {
    const Side& side = sides[index];
    names.push_back(side.id);
    dense.values.insert(dense.values.end(), side.dense.begin(), side.dense.end());
    ids.insert(ids.end(), side.ids.begin(), side.ids.end());
  }
  (*file)[scope + ".id"] = TensorOfIds(names, 1);
  (*file)[scope + ".dense"] = std::move(dense);
  (*file)[scope + ".ids"] = TensorOfIds(ids, sides[0].ids.size());
}

}  // namespace

void PutLogPart(const ResponseRows& data, const std::vector<std::size_t>& users, const std::vector<std::size_t>& items,
                TensorMap* file) {
  (*file)["schema"] = TensorOfBytes(CanonicalBytes(KuaiRandSchema()));
  PutSideOfLog("user", data.users, users, file);
  PutSideOfLog("item", data.items, items, file);
  std::vector<std::uint64_t> tabs;
  for (const Tab& tab : data.tabs) tabs.push_back(tab.id);
  (*file)["tab.id"] = TensorOfIds(tabs, 1);
  const std::vector<std::size_t> tab_of = TabsOfUsers(data);
  Tensor& of_users = (*file)["user.tab"];
  of_users.shape = {static_cast<std::uint32_t>(users.size())};
  for (const std::size_t user : users) of_users.values.push_back(static_cast<float>(tab_of[user]));
}

}  // namespace fuseline
