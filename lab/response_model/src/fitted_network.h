#pragma once

#include <memory>
#include <vector>

#include "fuseline/response_model/fit.h"
#include "response_rows.h"

namespace fuseline {

// The fitted network as LibTorch has it, before it is taken apart into the file that worlds read. One thread. LibTorch's
// exceptions come through.
class FittedNetwork {
 public:
  // REQUIRES: some rows.
  static FittedNetwork Fit(const ResponseRows& data, const ResponseFitOptions& options, const ProgressFunction& progress,
                           ResponseFitReport* report);
  FittedNetwork(FittedNetwork&&) noexcept;
  ~FittedNetwork();

  // The file; `data` and `options` as in Fit.
  TensorMap Export(const ResponseRows& data, const ResponseFitOptions& options, double watch_error) const;

  // Logits of the tasks, then the watch head, of one row.
  std::vector<float> Heads(const ResponseRows& data, const ResponseRow& row) const;

 private:
  struct Parts;
  explicit FittedNetwork(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace fuseline
