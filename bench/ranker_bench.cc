// Microseconds of one request through the ranker and through its actor alone, in float32 and bfloat16, beside LibTorch
// and ONNX Runtime on the same network, the obvious way, and the peaks of this core: all in one run, in turn.
// BENCHMARKS.md holds the figures.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <immintrin.h>

#include "fuseline/test_support/temp_dir.h"
#include "measure.h"
#include "peer_process.h"
#include "ranker_case.h"
#include "rounds.h"
#ifdef FUSELINE_BENCH_WITH_TORCH
#include "ranker_torch.h"
#endif

namespace fuseline::bench {
namespace {

constexpr std::size_t kExposed = 5;
constexpr double kAgreement = 1e-4;      // Largest difference of an action that counts as the same network,
constexpr double kAgreementBf16 = 0.08;  // and in bfloat16.

struct Arguments {
  std::size_t rounds = 5;
  double seconds = 0.2;  // Of each way in each round.
  std::vector<std::string> presets{"small", "paper"};
  std::vector<std::size_t> candidates{1, 300, 1'000};
};

// Sixteen independent chains in registers: what one core can at most multiply and add.
using Wide = float __attribute__((vector_size(64)));
constexpr int kChains = 16, kLanes = 16, kLinks = 10'000;

__attribute__((target("avx512f"))) float MultiplyAdd(float start) {
  Wide sums[kChains];
  for (int chain = 0; chain < kChains; ++chain)
    sums[chain] = Wide{} + start + static_cast<float>(chain);  // Equal ones would become one.
  const Wide factor = Wide{} + 0.999F;
  for (int i = 0; i < kLinks; ++i) {
#pragma GCC unroll 16
    for (Wide& sum : sums) sum = sum * factor + factor;
  }
  Wide total = {};
  for (const Wide& sum : sums) total += sum;
  return total[0];
}

__attribute__((target("avx512f,avx512bf16"))) float MultiplyAddBf16(float start) {
  __m512 sums[kChains];
  for (int chain = 0; chain < kChains; ++chain) sums[chain] = _mm512_set1_ps(start + static_cast<float>(chain));
  const __m512bh factor = (__m512bh)_mm512_set1_epi16(0x3f7f);
  for (int i = 0; i < kLinks; ++i) {
#pragma GCC unroll 16
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, factor, factor);
  }
  __m512 total = _mm512_setzero_ps();
  for (const __m512& sum : sums) total = _mm512_add_ps(total, sum);
  return _mm512_cvtss_f32(total);
}

// What keeps a computed value from being removed.
volatile float sink;

// A machine's peak, as a way whose pass does so many GFLOP.
struct Peak {
  std::string name;
  std::function<void()> pass;
  double gflop;
};

std::vector<Peak> Peaks() {
  std::vector<Peak> peaks;
  const double gflop = 2e-9 * kChains * kLanes * kLinks;
  if (__builtin_cpu_supports("avx512f")) peaks.push_back({"float32 FMA peak", [] { sink = MultiplyAdd(sink); }, gflop});
  if (HasBfloat16()) peaks.push_back({"AVX512-BF16 peak", [] { sink = MultiplyAddBf16(sink); }, 2 * gflop});
#ifdef FUSELINE_BENCH_WITH_TORCH
  const Product product = TorchProduct();
  peaks.push_back({"sgemm 1024^3 of LibTorch", product.pass, product.gflop});
#endif
  return peaks;
}

void CheckSame(const std::string& name, const std::vector<float>& actions, const std::vector<float>& expected,
               double within) {
  double largest = actions.size() == expected.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < expected.size() && i < actions.size(); ++i)
    largest = std::fmax(largest, std::abs(actions[i] - expected[i]));
  if (largest <= within) return;
  std::fprintf(stderr, "%s computes another network: an action differs by %g\n", name.c_str(), largest);
  std::exit(1);
}

// ONNX Runtime's ways, each as the peer times it; the peer has checked its actions against ours.
void AddForeign(PeerProcess& peer, const RankerCase& from, const ActorInput& input, const std::vector<float>& expected,
                std::vector<Way>& ways) {
  const test::TempDir folder;
  from.Write(folder.path());
  for (const auto& [name, values] : {std::pair{"shared", &input.shared},
                                     {"items", &input.items},
                                     {"states", &input.states},
                                     {"actions", &expected}}) {
    std::FILE* const file = std::fopen((folder / name).c_str(), "wb");
    FUSELINE_CHECK(file != nullptr &&
                   std::fwrite(values->data(), sizeof(float), values->size(), file) == values->size());
    std::fclose(file);
  }
  const std::string largest = Must(peer.Ask("load " + folder.path()));
  if (!(std::strtod(largest.c_str(), nullptr) <= kAgreement)) {
    std::fprintf(stderr, "ONNX Runtime computes another network: %s\n", largest.c_str());
    std::exit(1);
  }
  for (const std::string form : {"identity", "split", "plain"}) {
    ways.push_back({"ONNX Runtime " + form, [&peer, form](double seconds) {
                      return std::strtod(Must(peer.Ask("time " + form + " " + std::to_string(seconds))).c_str(),
                                         nullptr);
                    }});
  }
}

void PrintCase(const RankerCase& from, std::size_t candidates, std::vector<Way>& ways, const std::vector<Peak>& peaks) {
  const Way* const rank = Find(ways, "Rank");
  const Way* const actor = Find(ways, "actor");
  std::printf("%s, %zu candidates (%s)\n", from.preset().c_str(), candidates, Load().c_str());
  for (const Way& way : ways) {
    if (std::ranges::find(peaks, way.name, &Peak::name) != peaks.end()) continue;  // Below, as rates.
    const bool whole = way.name.starts_with("Rank") || way.name == "naive";
    Print(way, whole ? rank : actor);
  }
  if (const Way* const overhead = Find(ways, "ONNX Runtime identity")) {
    for (const char* const form : {"ONNX Runtime split", "ONNX Runtime plain"}) {
      const double net = SpreadOf(*Find(ways, form)).median - SpreadOf(*overhead).median;
      std::printf("  %-34s %10.2f us without the call %17.2f times\n", form, net, net / SpreadOf(*actor).median);
    }
  }
  const double actor_gflops = 1e-3 * from.flops(candidates) / SpreadOf(*actor).median;
  for (const Peak& peak : peaks) {
    const double gflops = 1e6 * peak.gflop / SpreadOf(*Find(ways, peak.name)).median;
    std::printf("  %-34s %10.1f GFLOP/s: the float32 actor, its encoding included, has %.1f, %.2f of it\n",
                peak.name.c_str(), gflops, actor_gflops, actor_gflops / gflops);
  }
}

void Run(RankerCase& from, std::size_t candidates, const Arguments& arguments, PeerProcess* peer) {
  const OwnedRequest request(candidates, 1);
  const RankingRequest view = request.view(kExposed);
  std::vector<Way> ways;
  std::vector<std::unique_ptr<Ranker>> rankers;
  std::vector<std::unique_ptr<PolicyNetwork>> networks;
  std::vector<float> expected;
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    if (precision == Precision::kBfloat16 && !HasBfloat16()) continue;
    const std::string suffix = precision == Precision::kFloat32 ? "" : " bfloat16";
    const Ranker& ranker = *rankers.emplace_back(from.Open(precision));
    ways.push_back(WayHere("Rank" + suffix,
                           [&ranker, &view, reader = std::make_shared<Ranker::Reader>(rankers.back()->NewReader()),
                            decision = std::make_shared<Decision>()] { Must(ranker.Rank(view, *reader, *decision)); }));
    const PolicyNetwork& network = *networks.emplace_back(
        std::make_unique<PolicyNetwork>(Must(PolicyNetwork::Create(from.manifest(), from.tensors(), precision))));
    const auto actions = std::make_shared<std::vector<float>>(candidates * network.action_space().width());
    ways.push_back(
        WayHere("actor" + suffix, [&network, &view, actions, workspace = std::make_shared<ActorWorkspace>()] {
          Must(network.Act(view.user, view.context, view.candidates, *workspace, *actions));
        }));
    ways.back().time(0);
    if (precision == Precision::kFloat32) expected = *actions;
    CheckSame(ways.back().name, *actions, expected, kAgreementBf16);
  }
  ways.push_back(WayHere("naive", from.Naive(request)));

  const ActorInput input(*networks.front(), from.tensors(), view);
#ifdef FUSELINE_BENCH_WITH_TORCH
  for (const ActorWay& way : TorchWays(from, input)) {
    way.pass();
    CheckSame(way.name, way.actions(), expected, way.name.ends_with("bfloat16") ? kAgreementBf16 : kAgreement);
    ways.push_back(WayHere(way.name, way.pass));
  }
#endif
  if (peer != nullptr) AddForeign(*peer, from, input, expected, ways);
  const std::vector<Peak> peaks = Peaks();
  for (const Peak& peak : peaks) ways.push_back(WayHere(peak.name, peak.pass));
  MeasureInTurn(ways, arguments.rounds, arguments.seconds);
  PrintCase(from, candidates, ways, peaks);
}

void Main(const Arguments& arguments) {
  auto started = PeerProcess::Start("onnxruntime/run.sh");
  if (!started) std::printf("without ONNX Runtime: %s\n", started.error().message.c_str());
  for (const std::string& preset : arguments.presets) {
    RankerCase from(preset);
    for (const std::size_t candidates : arguments.candidates)
      Run(from, candidates, arguments, started ? started->get() : nullptr);
  }
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  fuseline::bench::Arguments arguments;
  bool understood = true;
  std::vector<std::size_t> candidates;
  for (int i = 1; i < argc && understood; ++i) {
    const std::string argument = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--rounds" && value != nullptr) {
      arguments.rounds = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--seconds" && value != nullptr) {
      arguments.seconds = std::strtod(argv[++i], nullptr);
    } else if (argument == "small" || argument == "paper") {
      arguments.presets = {argument};
    } else if (std::strtoul(argument.c_str(), nullptr, 10) > 0) {
      candidates.push_back(std::strtoul(argument.c_str(), nullptr, 10));
    } else {
      understood = false;
    }
  }
  if (!understood || arguments.rounds < 1) {
    std::fprintf(stderr, "usage: ranker_bench [--rounds N] [--seconds S] [small|paper] [CANDIDATES …]\n");
    return 2;
  }
  if (!candidates.empty()) arguments.candidates = candidates;
  fuseline::bench::Main(arguments);
}
