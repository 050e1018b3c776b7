// The ranker's dense kernels beside the libraries that could do their work, at the ranker's shapes, on one core: Eigen,
// oneDNN, libxsmm and OpenBLAS, each where it is installed. docs/decisions/0006 rests on what this prints.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <unistd.h>

#include "bf16_net.h"
#include "dense_layer.h"
#include "dense_ways.h"
#include "fuseline/core/random.h"
#include "packed_net.h"
#include "rounds.h"

namespace fuseline::bench {
namespace {

constexpr std::size_t kBlockRows = 96;  // As PolicyNetwork has it.

DenseNet RandomNet(const std::vector<std::size_t>& widths) {
  DenseNet net;
  Random random(1, "dense", widths.size());
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    DenseNet::Layer layer{widths[i], widths[i + 1], std::vector<float>(widths[i] * widths[i + 1]),
                          std::vector<float>(widths[i + 1])};
    for (float& value : layer.weight)
      value = static_cast<float>(random.NextNormal() / std::sqrt(static_cast<double>(widths[i])));
    for (float& value : layer.bias) value = static_cast<float>(0.1 * random.NextNormal());
    net.layers.push_back(std::move(layer));
  }
  return net;
}

std::vector<PackedLayer> Packed(const DenseNet& net) {
  std::vector<PackedLayer> packed;
  for (const DenseNet::Layer& layer : net.layers) {
    const Tensor weight{{static_cast<std::uint32_t>(layer.outputs), static_cast<std::uint32_t>(layer.inputs)},
                        layer.weight};
    const bool is_last = packed.size() + 1 == net.layers.size();
    packed.push_back(
        Pack(weight, 0, layer.inputs, is_last ? Activation::kNone : Activation::kRelu, BestDenseKernel().lanes));
    std::copy(layer.bias.begin(), layer.bias.end(), packed.back().bias.begin());
  }
  return packed;
}

// Ours: blocks of rows through all layers. `run` takes a block: rows, in, and out [rows, columns of the last layer].
template <typename Run>
Forward InBlocks(const DenseNet& net, std::size_t rows, std::size_t columns, Run run) {
  return [=, inputs = net.layers.front().inputs, outputs = net.layers.back().outputs,
          padded = std::vector<float>(kBlockRows * columns)](const float* in, float* out) mutable {
    for (std::size_t start = 0; start < rows; start += kBlockRows) {
      const std::size_t block = std::min(kBlockRows, rows - start);
      run(block, in + start * inputs, padded.data());
      for (std::size_t row = 0; row < block; ++row)
        std::copy_n(padded.data() + row * columns, outputs, out + (start + row) * outputs);
    }
  };
}

Forward OursFloat32(const DenseNet& net, std::size_t rows) {
  const std::vector<PackedLayer> packed = Packed(net);
  std::size_t widest = 0;
  for (const PackedLayer& layer : packed) widest = std::max(widest, layer.dense.columns);
  std::vector<float> values[2] = {std::vector<float>(kBlockRows * widest), std::vector<float>(kBlockRows * widest)};
  return InBlocks(
      net, rows, packed.back().dense.columns,
      [packed, first = values[0], second = values[1]](std::size_t block, const float* in, float* out) mutable {
        std::size_t stride = packed.front().dense.inputs;
        for (std::size_t i = 0; i < packed.size(); ++i) {
          float* const y = i + 1 == packed.size() ? out : first.data();
          BestDenseKernel().run(packed[i].View(), in, stride, packed[i].bias.data(), block, y);
          stride = packed[i].dense.columns;
          in = y;
          std::swap(first, second);
        }
      });
}

Forward OursBfloat16(const DenseNet& net, std::size_t rows) {
  const std::vector<PackedLayer> packed = Packed(net);
  const std::size_t inputs = net.layers.front().inputs, stride = RoundUp(inputs, BestDenseKernel().lanes);
  return InBlocks(
      net, rows, packed.back().dense.columns,
      [=, narrow = *Bf16Net::Create(packed, stride), bias = packed.front().bias, buffers = Bf16Net::Buffers(),
       padded = std::vector<float>(kBlockRows * stride)](std::size_t block, const float* in, float* out) mutable {
        for (std::size_t row = 0; row < block; ++row)
          std::copy_n(in + row * inputs, inputs, padded.data() + row * stride);
        narrow.Forward(block, padded.data(), bias.data(), buffers, out);
      });
}

struct Library {
  std::string name;
  Forward forward;
  double within;  // Largest difference of an output from ours in float32.
};

std::vector<Library> Libraries(const DenseNet& net, std::size_t rows) {
  std::vector<Library> libraries{{"ours, float32", OursFloat32(net, rows), 0}};
  if (BestBf16Kernel() != nullptr) libraries.push_back({"ours, bfloat16", OursBfloat16(net, rows), 0.2});
  [[maybe_unused]] const bool wide = __builtin_cpu_supports("avx512vl");  // What three of them are compiled for.
#ifdef FUSELINE_BENCH_WITH_EIGEN
  if (wide) libraries.push_back({"Eigen", EigenForward(net, rows), 1e-4});
#endif
#ifdef FUSELINE_BENCH_WITH_ONEDNN
  libraries.push_back({"oneDNN", OneDnnForward(net, rows), 1e-4});
#endif
#ifdef FUSELINE_BENCH_WITH_XSMM
  if (wide) libraries.push_back({"libxsmm", XsmmForward(net, rows), 1e-4});
#endif
#ifdef FUSELINE_BENCH_WITH_OPENBLAS
  if (wide) libraries.push_back({"OpenBLAS", OpenBlasForward(net, rows), 1e-4});
#endif
  return libraries;
}

void Run(const char* preset, const std::vector<std::size_t>& widths, std::size_t rows, std::size_t rounds) {
  const DenseNet net = RandomNet(widths);
  Random random(2, "rows", rows);
  std::vector<float> in(rows * widths.front());
  for (float& value : in) value = static_cast<float>(random.NextNormal());
  double gflop = 0;
  for (const DenseNet::Layer& layer : net.layers)
    gflop += 2e-9 * static_cast<double>(rows * layer.inputs * layer.outputs);

  std::vector<float> expected;
  std::vector<Way> ways;
  for (const Library& library : Libraries(net, rows)) {
    std::vector<float> out(rows * widths.back());
    library.forward(in.data(), out.data());
    if (expected.empty()) expected = out;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (std::abs(out[i] - expected[i]) <= library.within) continue;
      std::fprintf(stderr, "%s computes another net: %g instead of %g\n", library.name.c_str(), out[i], expected[i]);
      std::exit(1);
    }
    ways.push_back(
        WayHere(library.name, [forward = library.forward, &in, out]() mutable { forward(in.data(), out.data()); }));
  }
  MeasureInTurn(ways, rounds, 0.1);
  std::printf("%s, %zu rows, %.2f MFLOP (%s)\n", preset, rows, 1e3 * gflop, Load().c_str());
  for (const Way& way : ways) {
    std::printf("  %6.1f GFLOP/s", 1e6 * gflop / SpreadOf(way).median);
    Print(way, &ways.front());
  }
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  const std::size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 5;
  if (argc > 2 || rounds < 1) {
    std::fprintf(stderr, "usage: dense_bench [ROUNDS]\n");
    return 2;
  }
  // What libraries ask for once, as they are loaded: one thread; and AVX-512 also of a library older than the
  // processor.
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    setenv("OMP_NUM_THREADS", "1", 1);
    if (__builtin_cpu_supports("avx512vl")) {
      setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
      setenv("LIBXSMM_TARGET", "skx", 0);
    }
    execv("/proc/self/exe", argv);
  }
  for (const std::size_t rows : {1U, 96U, 300U, 1'000U}) {
    fuseline::bench::Run("small", {31, 64, 64, 10}, rows, rounds);
    fuseline::bench::Run("paper", {31, 256, 128, 64, 10}, rows, rounds);
  }
}
