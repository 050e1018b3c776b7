// What an update of EnhancedRL costs on one core, from a session's bytes on: beside the same step in PyTorch
// (bench/peers/pytorch), whose losses must agree with ours first, and beside what the machine's sgemm reaches in the
// same rounds. BENCHMARKS.md holds the figures.

#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "fuseline/test_support/temp_dir.h"
#include "learner_case.h"
#include "measure.h"
#include "peer_process.h"
#include "torch/dense_kernels.h"

namespace fuseline::bench {
namespace {

struct Arguments {
  std::size_t rounds = 5;
  double seconds = 1;  // Of each way in each round.
  std::int64_t threads = 1;
  std::size_t memory_steps = 0;
  std::vector<std::string> cases;  // PRESET_BATCH.
  std::vector<std::string> forms{"modules+eager", "batched+eager", "modules+compiled",
                                 "batched+compiled"};  // Of the peer.
};

constexpr std::size_t kAgreeingSteps = 20;
constexpr double kAgreement =
    2e-4;  // Largest relative difference of a loss: float32 sums in another order, through twenty steps of Adam.
constexpr std::size_t kTransitionsAStep = 10;  // 1 / learner.steps_per_transition, by default.

struct Way {
  std::string name;
  std::function<void()> work;  // A pass; or, of a peer, null:
  std::function<Cost(double seconds, double& passes)> foreign;
  int threads = 1;                        // Of LibTorch in this process.
  std::vector<double> cpu_s{}, wall_s{};  // Of a pass, in each round.

  void Measure(double seconds) {
    at::set_num_threads(threads);
    double passes = 0;
    Cost cost;
    if (foreign) {
      cost = foreign(seconds, passes);
    } else {
      while (passes < 3 || cost.wall_s < seconds) {
        const Cost more = CostOf(work);
        cost = {cost.cpu_s + more.cpu_s, cost.wall_s + more.wall_s};
        ++passes;
      }
    }
    cpu_s.push_back(cost.cpu_s / passes);
    wall_s.push_back(cost.wall_s / passes);
  }
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void PrintMs(const char* what, const Way& way) {
  const auto [best, worst] = std::ranges::minmax(way.cpu_s);
  std::printf("  %-34s %9.2f ms of CPU (%.2f .. %.2f), %.2f of wall\n", what, 1e3 * Median(way.cpu_s), 1e3 * best,
              1e3 * worst, 1e3 * Median(way.wall_s));
}

Way Sgemm(const std::string& name, const std::vector<LearnerCase::Shape>& shapes) {
  std::vector<std::array<at::Tensor, 3>> operands;
  for (const auto& shape : shapes)
    operands.push_back(
        {at::rand({shape.rows, shape.in}), at::rand({shape.in, shape.out}), at::rand({shape.rows, shape.out})});
  return {name,
          [operands] {
            for (auto [a, b, c] : operands) at::mm_out(c, a, b);
          },
          nullptr};
}

double FlopsOf(const std::vector<LearnerCase::Shape>& shapes) {
  double flops = 0;
  for (const auto& shape : shapes) flops += 2.0 * static_cast<double>(shape.rows * shape.in * shape.out);
  return flops;
}

// Exits where the peer's step is not ours.
void Agree(PeerProcess& peer, const std::string& form, const std::vector<double>& ours) {
  std::istringstream answer(Must(peer.Ask("losses " + form + " " + std::to_string(ours.size() / 2))));
  double largest = 0;
  for (const double expected : ours) {
    double loss = NAN;
    answer >> loss;
    largest = std::max(largest, std::abs(loss - expected) / std::max(1e-6, std::abs(expected)));
    if (std::isfinite(loss) && largest <= kAgreement) continue;
    std::fprintf(stderr, "%s does another step than ours: a loss of %.9g where ours is %.9g\n", form.c_str(), loss,
                 expected);
    std::exit(1);
  }
  std::printf("  %-34s the same losses for %zu steps, within %.1e\n", form.c_str(), ours.size() / 2, largest);
}

void Run(const std::string& preset, std::int64_t batch, const Arguments& arguments, PeerProcess* peer) {
  LearnerCase ours(preset, batch, arguments.threads);
  const auto shapes = ours.shapes();
  const std::vector<LearnerCase::Shape> large{{1024, 1024, 1024}};
  std::printf("%s: %s, %.2f GFLOP a step; %s; threads %d\n", ours.name().c_str(),
              ours.algorithm().description().c_str(), ours.flops() * 1e-9, ours.algorithm().facts().blas.c_str(),
              at::get_num_threads());

  for (int i = 0; i < 3; ++i) ours.Step();
  const auto threads = static_cast<int>(arguments.threads);
  std::optional<LearnerCase> rounding;
  if (ChooseBfloat16Kernels() != nullptr) rounding.emplace(preset, batch, arguments.threads, "bfloat16");
  std::vector<Way> ways;
  ways.push_back({"step", [&] { ours.Step(); }, nullptr});
  ways.push_back({"ingest", [&] { ours.Ingest(kTransitionsAStep); }, nullptr});
  ways.push_back({"sample", [&] { ours.Sample(); }, nullptr});
  ways.push_back(Sgemm("sgemm", large));
  ways.push_back(Sgemm("sgemm_layers", shapes));
  if (peer != nullptr) {
    const test::TempDir folder;
    ours.Write(folder.path(), arguments.threads);
    Must(peer->Ask("load " + folder.path()));
    const std::vector<double> losses = ours.Losses(kAgreeingSteps);
    for (const std::string& form : arguments.forms) Agree(*peer, form, losses);
    for (const std::string& form : arguments.forms)
      ways.push_back(
          {form, nullptr, [peer, form](double seconds, double& steps) {
             const std::string answer = Must(peer->Ask("time " + form + " " + std::to_string(seconds)));
             Cost cost;
             if (std::sscanf(answer.c_str(), "steps=%lf cpu_s=%lf wall_s=%lf", &steps, &cost.cpu_s, &cost.wall_s) == 3)
               return cost;
             std::fprintf(stderr, "the peer says %s\n", answer.c_str());
             std::exit(1);
           }});
  }
  const std::size_t peers_end = ways.size();
  for (Way& way : ways) way.threads = threads;
  ways.push_back({"twice the threads", [&] { ours.Step(); }, nullptr, 2 * threads});
  if (rounding) ways.push_back({"bfloat16", [&] { rounding->Step(); }, nullptr, threads});
  for (std::size_t round = 0; round < arguments.rounds; ++round)
    for (Way& way : ways) way.Measure(arguments.seconds);

  const double step_s = Median(ways[0].cpu_s), flops = ours.flops();
  const double ceiling = FlopsOf(large) / Median(ways[3].cpu_s), layers = FlopsOf(shapes) / Median(ways[4].cpu_s);
  PrintMs("our step", ways[0]);
  std::printf("  %-34s %9.1f steps/s of CPU, %.1f GFLOP/s\n", "", 1 / step_s, flops / step_s * 1e-9);
  std::printf("  %-34s %9.1f GFLOP/s: ours is %.2f of it\n", "sgemm 1024^3, the ceiling", ceiling * 1e-9,
              flops / step_s / ceiling);
  std::printf("  %-34s %9.1f GFLOP/s: ours is %.2f of it\n", "sgemm of one member's layers", layers * 1e-9,
              flops / step_s / layers);
  const double ingest_s = Median(ways[1].cpu_s), sample_s = Median(ways[2].cpu_s);
  std::printf("  %-34s %9.3f ms for %zu transitions, %.3f ms for both batches: %.2f %% of a step\n",
              "trajectory bytes to batch", 1e3 * ingest_s, kTransitionsAStep, 1e3 * sample_s,
              100 * (ingest_s + sample_s) / step_s);
  const Way& doubled = ways[peers_end];
  PrintMs("our step, twice the threads", doubled);
  std::printf("  %-34s %9.2f times as fast by the clock, for %.2f times the CPU\n", "",
              Median(ways[0].wall_s) / Median(doubled.wall_s), Median(doubled.cpu_s) / step_s);
  if (rounding) {
    PrintMs("our step in bfloat16", ways.back());
    std::printf("  %-34s %9.2f times our step in float32\n", "", Median(ways.back().cpu_s) / step_s);
  }
  for (std::size_t i = 5; i < peers_end; ++i) {
    PrintMs(("PyTorch " + ways[i].name).c_str(), ways[i]);
    std::printf("  %-34s %9.2f times our step\n", "", Median(ways[i].cpu_s) / step_s);
  }
  if (arguments.memory_steps == 0) return;
  at::set_num_threads(threads);
  for (int i = 0; i < 100; ++i) ours.Step();
  const double before = MemoryMib();
  for (std::size_t i = 0; i < arguments.memory_steps; ++i) {
    ours.Sample();
    ours.Step();
  }
  std::printf("  %-34s %9.1f MiB resident after 100 steps, %.1f after %zu more\n", "memory", before, MemoryMib(),
              arguments.memory_steps);
}

void Main(const Arguments& arguments) {
  auto started = PeerProcess::Start("pytorch/run.sh");
  if (!started) std::printf("without PyTorch: %s\n", started.error().message.c_str());
  PeerProcess* const peer = started ? started->get() : nullptr;
  for (const std::string& name : arguments.cases) {
    const std::size_t at = name.find('_');
    Run(name.substr(0, at), std::strtol(name.c_str() + at + 1, nullptr, 10), arguments, peer);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  fuseline::bench::Arguments arguments;
  bool understood = true;
  for (int i = 1; i < argc && understood; ++i) {
    const std::string argument = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--rounds" && value != nullptr) {
      arguments.rounds = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--seconds" && value != nullptr) {
      arguments.seconds = std::strtod(argv[++i], nullptr);
    } else if (argument == "--threads" && value != nullptr) {
      arguments.threads = std::strtol(argv[++i], nullptr, 10);
    } else if (argument == "--memory-steps" && value != nullptr) {
      arguments.memory_steps = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--eager") {  // A compilation takes a minute.
      arguments.forms = {"modules+eager", "batched+eager"};
    } else if ((argument.starts_with("small_") || argument.starts_with("paper_")) &&
               std::strtol(argument.c_str() + 6, nullptr, 10) > 0) {
      arguments.cases.push_back(argument);
    } else {
      understood = false;
    }
  }
  if (!understood || arguments.rounds < 1 || arguments.threads < 1) {
    std::fprintf(stderr,
                 "usage: learner_bench [--rounds N] [--seconds S] [--threads N] [--memory-steps N] [--eager] "
                 "[small_BATCH|paper_BATCH …]\n");
    return 2;
  }
  if (arguments.cases.empty()) arguments.cases = {"small_256", "small_1024", "paper_256", "paper_1024"};
  fuseline::bench::Main(arguments);
}
