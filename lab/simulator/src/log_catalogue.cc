#include "log_catalogue.h"

#include <algorithm>

#include "fuseline/fusion/whole_numbers.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

Result<const Tensor*> Find(const TensorMap& tensors, const std::string& name) {
  if (const auto found = tensors.find(name); found != tensors.end()) return &found->second;
  return Error(Code::kInvalidInput, "a response model for this kind of world has a tensor", name,
               "; fit it again with: fuseline world fit");
}

Status Misfit(const std::string& name) {
  return ErrorStatus(Code::kCorrupt, "the shape of this tensor does not fit the log's part of a response model:", name);
}

std::vector<std::string> TextsOf(const std::vector<std::uint64_t>& names, std::size_t count) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < std::min(count, names.size()); ++i) texts.push_back(std::to_string(names[i]));
  return texts;
}

}  // namespace

FeatureView LogCatalogue::Side::Of(std::size_t row) const {
  return {std::span(dense).subspan(row * dense_width, dense_width), std::span(ids).subspan(row * ids_width, ids_width)};
}

Result<LogCatalogue::Side> LogCatalogue::SideOf(const TensorMap& tensors, const std::string& scope,
                                                const v1::FeatureSchema& schema) {
  Side side;
  for (const auto& feature : schema.features()) {
    if (feature.scope() != (scope == "user" ? v1::USER : v1::ITEM)) continue;
    side.dense_width += feature.has_dense() ? feature.dense().width() : 0;
    side.ids_width += feature.has_categorical() ? 1 : 0;
  }
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* first, Find(tensors, scope + ".first"));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* names, Find(tensors, scope + ".id"));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* dense, Find(tensors, scope + ".dense"));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* ids, Find(tensors, scope + ".ids"));
  FUSELINE_ASSIGN_OR_FAIL(side.names, IdsOf(*names));
  FUSELINE_ASSIGN_OR_FAIL(side.ids, IdsOf(*ids));
  side.dense = dense->values;
  if (first->shape.size() != 2 || first->values.empty()) return tl::unexpected(Misfit(scope + ".first"));
  const std::size_t rows = first->shape[0];
  if (side.names.size() != rows) return tl::unexpected(Misfit(scope + ".id"));
  if (side.dense.size() != rows * side.dense_width) return tl::unexpected(Misfit(scope + ".dense"));
  if (side.ids.size() != rows * side.ids_width) return tl::unexpected(Misfit(scope + ".ids"));
  return side;
}

Result<LogCatalogue> LogCatalogue::Create(const TensorMap& tensors) {
  LogCatalogue log;
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* schema, Find(tensors, "schema"));
  FUSELINE_ASSIGN_OR_FAIL(const std::string schema_bytes, BytesOf(*schema));
  if (!log.schema_.ParseFromString(schema_bytes) || !ValidateSchema(log.schema_).ok()) {
    return Error(Code::kCorrupt, "the feature schema of a response model cannot be read");
  }
  FUSELINE_ASSIGN_OR_FAIL(log.users_, SideOf(tensors, "user", log.schema_));
  FUSELINE_ASSIGN_OR_FAIL(log.items_, SideOf(tensors, "item", log.schema_));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* tabs, Find(tensors, "tab.id"));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* tab_first, Find(tensors, "tab.first"));
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* tab_of, Find(tensors, "user.tab"));
  FUSELINE_ASSIGN_OR_FAIL(log.tabs_, IdsOf(*tabs));
  const std::size_t columns = tensors.at("user.first").shape[1];
  if (tab_first->values.size() != log.tabs_.size() * columns) return tl::unexpected(Misfit("tab.first"));
  if (tab_of->values.size() != log.users_.names.size()) return tl::unexpected(Misfit("user.tab"));
  for (const float tab : tab_of->values) {
    if (!(tab >= 0 && tab < static_cast<float>(log.tabs_.size()))) return tl::unexpected(Misfit("user.tab"));
    log.tab_of_.push_back(static_cast<std::size_t>(tab));
  }
  return log;
}

std::vector<std::string> LogCatalogue::UserIds(std::size_t users) const { return TextsOf(users_.names, users); }
std::vector<std::string> LogCatalogue::ItemIds(std::size_t items) const { return TextsOf(items_.names, items); }

void LogCatalogue::PutUsersIntoTabs(TensorMap* tensors) const {
  Tensor& users = tensors->at("user.first");
  const Tensor& tabs = tensors->at("tab.first");
  const std::size_t width = users.shape[1];
  for (std::size_t i = 0; i < users.values.size(); ++i) {
    users.values[i] += tabs.values[tab_of_[i / width] * width + i % width];
  }
}

}  // namespace fuseline
