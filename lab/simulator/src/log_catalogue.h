#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Who stands in the log that a response model was fitted to, and with which features: the file's part for worlds whose
// rankers see what the log's would have seen. Immutable; thread-safe.
// Tensors, beside those of response_model.h, for T tabs (the context's categorical feature); ids as fusion's
// whole_numbers.h has them:
//   schema [bytes]                  the FeatureSchema of the features, canonical bytes
//   user.id [U, 4]  item.id [I, 4]  in the log
//   user.dense [U, .]  user.ids [U, 4 .]  item.dense [I, .]  item.ids [I, 4 .]   features in the schema's order
//   tab.id [T, 4]   tab.first [T, W]  its feature; what it adds to the first layer, beside the context's mean
//   user.tab [U]                    row of the tab where the log shows the user most
class LogCatalogue {
 public:
  // Errors: kInvalidInput naming the command, for a file of before this part existed; kCorrupt for one that contradicts
  // itself.
  static Result<LogCatalogue> Create(const TensorMap& tensors);

  const v1::FeatureSchema& schema() const { return schema_; }
  std::vector<std::string> UserIds(std::size_t users) const;  // Of the first ones.
  std::vector<std::string> ItemIds(std::size_t items) const;
  FeatureView UserFeatures(std::size_t user) const { return users_.Of(user); }
  FeatureView ItemFeatures(std::size_t item) const { return items_.Of(item); }
  std::uint64_t TabOf(std::size_t user) const { return tabs_[tab_of_[user]]; }

  // Adds to each user's part of the first layer that of its tab: a model of the users where they are.
  void PutUsersIntoTabs(TensorMap* tensors) const;

 private:
  struct Side {
    std::vector<std::uint64_t> names, ids;
    std::vector<float> dense;
    std::size_t dense_width = 0, ids_width = 0;
    FeatureView Of(std::size_t row) const;
  };
  static Result<Side> SideOf(const TensorMap& tensors, const std::string& scope, const v1::FeatureSchema& schema);

  v1::FeatureSchema schema_;
  Side users_, items_;
  std::vector<std::uint64_t> tabs_;
  std::vector<std::size_t> tab_of_;
};

}  // namespace fuseline
