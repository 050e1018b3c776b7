#include "torch/compute.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <string>

#include "torch/dense_kernels.h"

namespace fuseline {
namespace {

// Netlib's reference BLAS stays near 2 GFLOP/s, a real one is above 20.
double MeasureSgemm() {
  const at::Tensor a = at::full({256, 256}, 0.5F), b = at::full({256, 256}, 0.25F);
  at::Tensor c = at::mm(a, b);
  double best_s = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    at::mm_out(c, a, b);
    best_s = std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return 2.0 * 256 * 256 * 256 / best_s * 1e-9;
}

// What the build says of its BLAS, with MKL's own version where it has it; and our kernels, if they multiply here.
std::string BlasName(const DenseKernels* kernels) {
  const std::string config = at::show_config();
  const auto field = config.find("BLAS_INFO=");
  std::string name = field == std::string::npos ? "unknown" : config.substr(field + 10, config.find(',', field) - field - 10);
  if (at::hasMKL()) {
    const std::string version = at::get_mkl_version();
    name += ": " + version.substr(0, version.find(" for "));
  }
  if (kernels != nullptr) name += ", own kernels: " + std::string(kernels->name);
  return name;
}

void SetThreads(int threads) {
  at::set_num_threads(threads);
  static std::once_flag once;  // LibTorch allows it once a process, before its first parallel work.
  std::call_once(once, [] {
    try {
      at::set_num_interop_threads(1);
    } catch (const std::exception&) {  // Somebody in this process was first; nothing of ours runs between operations.
    }
  });
}

}  // namespace

Result<Compute> ChooseCompute(const v1::Learner& settings) {
  const std::string& wanted = settings.device();
  if (wanted == "cuda" && !at::hasCUDA())
    return Error(Code::kInvalidInput, "learner.device is cuda, but this build or machine has no usable GPU: take auto or cpu");
  const bool cuda = wanted != "cpu" && at::hasCUDA(), rounds = settings.precision() == "bfloat16";
  const DenseKernels* const kernels = rounds ? ChooseBfloat16Kernels() : ChooseDenseKernels();
  if (rounds && cuda) return Error(Code::kInvalidInput, "learner.precision is bfloat16, which is for CPUs: take float32, or learner.device=cpu");
  if (rounds && kernels == nullptr)
    return Error(Code::kInvalidInput, "learner.precision is bfloat16, but this CPU has no avx512_bf16: take float32");
  const int threads = static_cast<int>(settings.threads());
  SetThreads(threads);
  return Compute{at::Device(cuda ? at::kCUDA : at::kCPU),
                 kernels,
                 {.device = cuda ? "cuda" : "cpu", .blas = BlasName(kernels), .threads = threads, .sgemm_gflops = MeasureSgemm()}};
}

at::Tensor FromHost(std::span<const float> values, at::IntArrayRef shape, at::Device device) {
  return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

Tensor ToHost(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
  Tensor result;
  for (const std::int64_t extent : host.sizes()) result.shape.push_back(static_cast<std::uint32_t>(extent));
  result.values.assign(host.data_ptr<float>(), host.data_ptr<float>() + host.numel());
  return result;
}

DeviceBatch ToDevice(const TransitionBatch& batch, std::int64_t state_width, std::int64_t action_width, at::Device device) {
  const std::int64_t b = Size(batch.batch), l = Size(batch.items);
  const auto copy = [device](const std::vector<float>& values, at::IntArrayRef shape) {
    if (device.is_cpu()) return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat);  // Nothing writes to a batch.
    return FromHost(values, shape, device);
  };
  return {.state = copy(batch.state, {b * l, state_width}),
          .action = copy(batch.action, {b * l, action_width}),
          .baseline = copy(batch.baseline, {b, l, action_width}),
          .mask = copy(batch.mask, {b, l}),
          .reward = copy(batch.reward, {static_cast<std::int64_t>(kRewardGroups), b, l}),
          .next_state = copy(batch.next_state, {b * l, state_width}),
          .next_baseline = copy(batch.next_baseline, {b, l, action_width}),
          .next_mask = copy(batch.next_mask, {b, l}),
          .terminated = copy(batch.terminated, {b}),
          .trains_actor = copy(batch.trains_actor, {b}),
          .box = copy(batch.box, {b, 2}),
          .next_box = copy(batch.next_box, {b, 2}),
          .weight = copy(batch.weight, {b}),
          .scores = batch.scores.empty() ? at::Tensor() : copy(batch.scores, {b, l, Size(batch.scores.size()) / (b * l)})};
}

}  // namespace fuseline
