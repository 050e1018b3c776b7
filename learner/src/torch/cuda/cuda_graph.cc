// Steps as CUDA graphs: one launch for what would be hundreds, each of which costs more than most of these kernels
// take. Compiled wherever the headers are at hand, linked where LibTorch's CUDA libraries are (FUSELINE_WITH_CUDA).

#include <map>
#include <memory>

#include <ATen/Context.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "torch/fixed_step.h"

namespace fuseline {
namespace {

// Off the default stream, which cannot be captured. What a body makes on the way lives in the graph's own pool for as
// long as the graph.
class CudaGraphRunner final : public StepRunner {
 public:
  void Run(std::uint64_t kind, const std::function<bool()>& body) override {
    const c10::cuda::CUDAStreamGuard on_stream(stream_);
    Kind& known = kinds_[kind];
    if (known.graph) {
      known.graph->replay();
    } else if (known.repeats) {
      Capture(known, body);
    } else {
      known.repeats = body();  // As it is: the libraries make their handles and workspaces, which a capture must not.
    }
    stream_.synchronize();
  }

 private:
  struct Kind {
    bool repeats = false;
    std::unique_ptr<at::cuda::CUDAGraph> graph;
  };

  void Capture(Kind& known, const std::function<bool()>& body) const {
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    graph->capture_begin();
    (void)body();  // Only written down.
    graph->capture_end();
    graph->replay();
    known.graph = std::move(graph);
  }

  const c10::cuda::CUDAStream stream_ = c10::cuda::getStreamFromPool();
  std::map<std::uint64_t, Kind> kinds_;
};

}  // namespace

std::unique_ptr<StepRunner> MakeCudaGraphRunner() {
  return at::hasCUDA() ? std::make_unique<CudaGraphRunner>() : nullptr;
}

}  // namespace fuseline
