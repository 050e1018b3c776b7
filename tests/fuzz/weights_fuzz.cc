// Any bytes at all: DecodeWeights must refuse, or return tensors whose values fill their shapes, and which come back from their
// own encoding.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuseline/core/check.h"
#include "fuseline/fusion/weights_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tensors = fuseline::DecodeWeights({reinterpret_cast<const char*>(data), size});
  if (!tensors) return 0;
  for (const auto& [name, tensor] : *tensors) {
    std::uint64_t values = 1;
    for (const std::uint32_t extent : tensor.shape) values *= extent;
    FUSELINE_CHECK(values == tensor.values.size());
  }
  const auto again = fuseline::DecodeWeights(fuseline::EncodeWeights(*tensors));
  FUSELINE_CHECK(again.has_value() && again->size() == tensors->size());
  return 0;
}
