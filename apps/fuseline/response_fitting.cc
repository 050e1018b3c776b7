#include "response_fitting.h"

#include <algorithm>
#include <string>

#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/weights_file.h"
#include "progress_line.h"

namespace fuseline {
namespace {

ProgressFunction ShowFitting(ProgressLine& line, const Clock& clock) {
  return [&line, &clock, phase = std::string(), begin_us = std::int64_t{0}](const ImportProgress& progress) mutable {
    if (phase != progress.phase) {
      phase = progress.phase;
      begin_us = clock.monotonic_us();
    }
    if (!line.due()) return;
    const double elapsed_s = std::max(static_cast<double>(clock.monotonic_us() - begin_us) / 1e6, 1e-3);
    const auto done = static_cast<double>(progress.done), total = static_cast<double>(progress.total);
    line.Show(phase + "  " + std::to_string(progress.done) + " rows  " + RateText(done / elapsed_s) + " rows/s  ETA " +
              EtaText(done, total, elapsed_s));
  };
}

}  // namespace

Result<ResponseFitReport> FitResponseModelTo(const std::filesystem::path& out, const ResponseFitOptions& options) {
  const SystemClock clock;
  ProgressLine line;
  ResponseFitReport report;
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, FitResponseModel(options, ShowFitting(line, clock), &report));
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(out, EncodeWeights(tensors)));
  return report;
}

}  // namespace fuseline
