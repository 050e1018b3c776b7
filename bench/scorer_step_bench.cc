// What a scorer's training step costs on one core, beside the same step in PyTorch (bench/peers/pytorch), whose losses
// must agree with ours first; whether that cost depends on the size of the embedding table; and, with --kuairand,
// whether both come to the same log loss on real impressions. BENCHMARKS.md holds the figures.

#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "fuseline/learner/scorer.h"
#include "fuseline/test_support/temp_dir.h"
#include "measure.h"
#include "peer_process.h"
#include "rounds.h"
#include "scorer_case.h"

namespace fuseline::bench {
namespace {

struct Arguments {
  std::size_t rounds = 5;
  double seconds = 1;            // Of each way in each round.
  std::size_t check_steps = 0;   // Instead of measuring.
  bool tables = false;           // Only the table's sizes.
  std::string kuairand;          // Instead of measuring: the log's folder.
  std::size_t epochs = 3;        // On it.
  std::vector<std::string> cases;  // BACKBONE_PRESET.
};

constexpr std::size_t kBatches = 8, kAgreeingSteps = 20, kLooks = 4;
// Largest differences of a batch's loss of a task, in nats: in the first 20 steps; in all, as rounding drives apart.
constexpr double kFirstAgreement = 1e-5, kAgreement = 1e-2;

std::pair<std::string, std::string> Parts(const std::string& name) {
  const std::size_t at = name.rfind('_');
  return {name.substr(0, at), name.substr(at + 1)};
}

std::vector<double> Numbers(const std::string& answer) {
  std::istringstream text(answer);
  std::vector<double> numbers;
  for (double number = 0; text >> number;) numbers.push_back(number);
  return numbers;
}

void Hand(PeerProcess& peer, const ScorerCase& ours) {
  const test::TempDir folder;
  ours.Write(folder.path());
  Must(peer.Ask("load " + folder.path()));
}

std::vector<double> LossesOf(PeerProcess& peer, const std::string& form, std::size_t steps) {
  return Numbers(Must(peer.Ask("losses " + form + " " + std::to_string(steps))));
}

// Of the first `count` losses. Infinite where one is not finite, or is not there.
double LargestDifference(const std::vector<double>& one, const std::vector<double>& other, std::size_t count) {
  count = std::min(count, one.size());
  double largest = count <= other.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < count && i < other.size(); ++i) {
    const double difference = std::abs(one[i] - other[i]);
    largest = std::isfinite(difference) ? std::max(largest, difference) : INFINITY;
  }
  return largest;
}

double LastMean(const std::vector<double>& values) {
  const auto last = std::ssize(values) / 5;
  return std::accumulate(values.end() - last, values.end(), 0.0) / static_cast<double>(last);
}

// Both make so many steps from the same weights by the same batches. Exits where the losses differ. With `details`,
// also how far torch.optim.Adam is from that, whose 1 - beta is not rounded as ours, and float32 from float64.
void Agree(PeerProcess& peer, const ScorerWork& work, std::size_t steps, bool details) {
  ScorerCase ours(work, /*dropout=*/0);
  Hand(peer, ours);
  const std::size_t losses = steps * work.tasks;
  std::vector<double> made;
  while (made.size() < losses) {
    const ScorerStep step = ours.Step();
    made.insert(made.end(), step.loss.begin(), step.loss.end());
  }
  const auto theirs = LossesOf(peer, "lazy+rounded", steps);
  const double first = LargestDifference(made, theirs, kAgreeingSteps * work.tasks);
  const double all = LargestDifference(made, theirs, losses);
  std::printf("  the same losses: largest difference %.1e in %zu steps", first, std::min(steps, kAgreeingSteps));
  if (details) {
    const auto usual = LossesOf(peer, "lazy", steps), exact = LossesOf(peer, "lazy+double", steps);
    for (const std::size_t count : {losses / 5, losses})
      std::printf("\n  in %zu steps %.1e; with torch.optim.Adam %.1e, and of that from itself in float64 %.1e",
                  count / work.tasks, LargestDifference(made, theirs, count), LargestDifference(made, usual, count),
                  LargestDifference(usual, exact, count));
    std::printf("\n  mean of the last fifth: ours %.6f, the peer %.6f, with torch.optim.Adam %.6f, in float64 %.6f",
                LastMean(made), LastMean(theirs), LastMean(usual), LastMean(exact));
  }
  std::printf("\n");
  std::fflush(stdout);
  if (first <= kFirstAgreement && all <= kAgreement) return;
  std::fprintf(stderr, "the peer does another step than ours\n");
  std::exit(1);
}

Way PeerWay(PeerProcess& peer, const std::string& form) {
  return {"PyTorch " + form, [&peer, form](double seconds) {
            const std::string answer = Must(peer.Ask("time " + form + " " + std::to_string(seconds)));
            double steps = 0, cpu_s = 0;
            if (std::sscanf(answer.c_str(), "steps=%lf cpu_s=%lf", &steps, &cpu_s) == 2) return 1e6 * cpu_s / steps;
            std::fprintf(stderr, "the peer says %s\n", answer.c_str());
            std::exit(1);
          }};
}

void PrintSamples(const Way& way, const Way& base, std::size_t batch) {
  const Spread spread = SpreadOf(way);
  const auto rate = [&](double us) { return 1e6 * static_cast<double>(batch) / us; };
  std::printf("  %-26s %9.2f ms %9.0f samples/s (%.0f .. %.0f)  %5.2f times ours\n", way.name.c_str(),
              spread.median / 1e3, rate(spread.median), rate(spread.worst), rate(spread.best),
              spread.median / SpreadOf(base).median);
}

void Measure(const std::string& name, const Arguments& arguments, PeerProcess* peer) {
  const auto [backbone, preset] = Parts(name);
  const ScorerWork work = MadeUpWork(backbone, preset, kBatches);
  ScorerCase plain(work, 0), dropping(work, work.dropout), learned(work, 0);
  std::printf("%s: %d fields, %zu table rows, batch %zu, %.3f GFLOP a step; %s\n", name.c_str(),
              work.shape.buckets_size(), work.table_rows(), work.batch(), plain.flops() * 1e-9, Load().c_str());
  if (peer != nullptr) Agree(*peer, work, kAgreeingSteps, /*details=*/false);
  constexpr std::int64_t kSide = 1'024;
  at::Tensor a = at::rand({kSide, kSide}), b = at::rand({kSide, kSide}), c = at::rand({kSide, kSide});
  std::vector<Way> ways{WayHere("ours", [&] { plain.Step(); }),
                        WayHere("ours, dropout", [&] { dropping.Step(); }),
                        WayHere("ours, a critics' step", [&] { learned.CriticStep(); }),
                        WayHere("ours, a weighted step", [&] { learned.WeightedStep(); }),
                        WayHere("sgemm", [&] { at::mm_out(c, a, b); })};
  const std::size_t own = ways.size();
  if (peer != nullptr)
    for (const char* form : {"dense", "sparse", "sparse+dropout", "lazy"}) ways.push_back(PeerWay(*peer, form));
  MeasureInTurn(ways, arguments.rounds, arguments.seconds);
  for (std::size_t i = 0; i < ways.size(); ++i)
    if (i + 1 != own) PrintSamples(ways[i], ways[0], work.batch());
  const double ceiling = 2e-3 * std::pow(kSide, 3) / SpreadOf(ways[own - 1]).median;
  const double reached = 1e-3 * plain.flops() / SpreadOf(ways[0]).median;
  std::printf("  %-26s %9.1f GFLOP/s, %.2f of sgemm 1024^3 (%.1f)\n", "", reached, reached / ceiling, ceiling);
  std::fflush(stdout);
}

// The same impressions, whose ids are spread over more and more rows.
void MeasureTables(const Arguments& arguments, PeerProcess* peer) {
  for (const std::size_t rows : {10'000UL, 1'000'000UL, 10'000'000UL}) {
    const ScorerWork work = MadeUpWork("mmoe", "small", kBatches, rows);
    ScorerCase ours(work, 0);
    std::printf("mmoe_small, %zu table rows; %s\n", work.table_rows(), Load().c_str());
    std::vector<Way> ways{WayHere("ours", [&] { ours.Step(); })};
    if (peer != nullptr) {
      Hand(*peer, ours);
      for (const char* form : {"dense", "sparse", "lazy"}) ways.push_back(PeerWay(*peer, form));
    }
    MeasureInTurn(ways, arguments.rounds, arguments.seconds);
    for (const Way& way : ways) PrintSamples(way, ways[0], work.batch());
    std::fflush(stdout);
  }
}

// Trains both on real impressions and looks at those behind them.
void Compare(const std::string& name, const Arguments& arguments, PeerProcess& peer) {
  const auto [backbone, preset] = Parts(name);
  const ScorerWork work = KuaiRandWork(backbone, preset, arguments.kuairand, arguments.epochs);
  ScorerCase ours(work, 0);
  Hand(peer, ours);
  std::printf("%s on %zu impressions, looked at on %zu:\n", name.c_str(), work.train_end, work.rows.size - work.train_end);
  std::vector<std::vector<double>> looks;
  const std::vector<std::string> forms{"lazy+rounded", "lazy", "sparse", "dense"};
  const std::string passes = " " + std::to_string(arguments.epochs) + " " + std::to_string(kLooks);
  for (const std::string& form : forms) looks.push_back(Numbers(Must(peer.Ask("looks " + form + passes))));
  double largest = 0;
  const std::size_t batches = work.batches();
  for (std::size_t step = 1, look = 0; step <= arguments.epochs * batches; ++step) {
    ours.Step();
    const std::size_t in_epoch = (step - 1) % batches + 1;
    if (in_epoch * kLooks / batches == (in_epoch - 1) * kLooks / batches) continue;
    const double loss = ours.ValidationLoss();
    std::printf("  step %5zu: ours %.6f", step, loss);
    for (std::size_t i = 0; i < forms.size(); ++i) std::printf(", %s %.6f", forms[i].c_str(), looks[i].at(look));
    std::printf("\n");
    largest = std::max(largest, std::abs(loss - looks[0].at(look++)));
  }
  std::printf("  largest difference from lazy+rounded %.1e\n", largest);
  std::fflush(stdout);
}

void Main(const Arguments& arguments) {
  at::set_num_threads(1);
  auto started = PeerProcess::Start("pytorch/run.sh", "scorer.py");
  if (!started) std::printf("without PyTorch: %s\n", started.error().message.c_str());
  PeerProcess* const peer = started ? started->get() : nullptr;
  if (peer == nullptr && (arguments.check_steps > 0 || !arguments.kuairand.empty())) std::exit(3);
  for (const std::string& name : arguments.cases) {
    if (!arguments.kuairand.empty()) {
      Compare(name, arguments, *peer);
    } else if (arguments.check_steps > 0) {
      const auto [backbone, preset] = Parts(name);
      std::printf("%s\n", name.c_str());
      const ScorerWork work = MadeUpWork(backbone, preset, arguments.check_steps);
      Agree(*peer, work, arguments.check_steps, /*details=*/true);
    } else if (!arguments.tables) {
      Measure(name, arguments, peer);
    }
  }
  if (arguments.check_steps == 0 && arguments.kuairand.empty()) MeasureTables(arguments, peer);
}

bool IsCase(const std::string& name) {
  const auto known = ScorerBackbones();
  const auto [backbone, preset] = Parts(name);
  return std::ranges::find(known, backbone) != known.end() && (preset == "small" || preset == "paper");
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
    } else if (argument == "--check" && value != nullptr) {
      arguments.check_steps = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--kuairand" && value != nullptr) {
      arguments.kuairand = argv[++i];
    } else if (argument == "--epochs" && value != nullptr) {
      arguments.epochs = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--tables") {
      arguments.tables = true;
    } else if (fuseline::bench::IsCase(argument)) {
      arguments.cases.push_back(argument);
    } else {
      understood = false;
    }
  }
  if (!understood || arguments.rounds < 1 || arguments.epochs < 1) {
    std::fprintf(stderr,
                 "usage: scorer_step_bench [--rounds N] [--seconds S] "
                 "[--tables | --check STEPS | --kuairand FOLDER [--epochs N]] [BACKBONE_small|BACKBONE_paper …]\n");
    return 2;
  }
  if (arguments.cases.empty())
    for (const char* preset : {"_small", "_paper"})
      for (const std::string& backbone : fuseline::ScorerBackbones()) arguments.cases.push_back(backbone + preset);
  fuseline::bench::Main(arguments);
}
