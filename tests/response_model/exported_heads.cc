#include "exported_heads.h"

#include "response_model.h"

namespace fuseline::test {

Result<std::array<float, 7>> ExportedHeads(const TensorMap& file, std::size_t user, std::size_t item) {
  FUSELINE_ASSIGN_OR_FAIL(const ResponseModel model, ResponseModel::Create(file));
  std::array<float, kResponseHeads> heads{};
  model.Predict(user, item, heads);
  return heads;
}

}  // namespace fuseline::test
