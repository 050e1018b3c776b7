// Microseconds in which a scorer's version scores one request: ScorerNetwork, as rankers do, beside the learner's own Scorer of the same
// version, which is LibTorch around the learner's kernels; in one run, in turn. BENCHMARKS.md holds the figures.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "measure.h"
#include "rounds.h"

namespace fuseline::bench {
namespace {

constexpr double kAgreement = 1e-5;  // Largest difference of a score, as a share of its range, that counts as the same network.
constexpr std::size_t kTrained = 4'000;
constexpr std::uint64_t kUsers = 300, kItems = 1'000;

struct Arguments {
  std::size_t rounds = 5;
  double seconds = 0.2;  // Of each way in each round.
  std::string preset = "small";
  std::size_t candidates = 300;
};

// Random impressions of the default schema.
struct Impression {
  explicit Impression(Random& random)
      : user_dense(Floats(8, random)), context_dense(Floats(3, random)), item_dense(Floats(9, random)),
        user_ids{random.NextBelow(40)}, item_ids{random.NextBelow(60)},
        user("u" + std::to_string(random.NextBelow(kUsers))), item("i" + std::to_string(random.NextBelow(kItems))) {}
  static std::vector<float> Floats(std::size_t count, Random& random) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(random.NextNormal());
    return values;
  }
  std::vector<float> user_dense, context_dense, item_dense;
  std::vector<std::uint64_t> user_ids, item_ids;
  std::string user, item;
};

v1::Config ConfigOf(const std::string& backbone, const std::string& preset) {
  SettingsSources sources;
  std::string tasks;
  const v1::FeatureSchema schema = DefaultSchema();
  for (const v1::Task& task : schema.tasks()) tasks += (tasks.empty() ? "" : ",") + task.name();
  sources.flags = {"scorer.backbone=" + backbone, "scorer.preset=" + preset, "scorer.tasks=" + tasks, "scorer.min_frequency=2",
                   "scorer.epochs=1", "learner.threads=1"};
  return Must(LoadSettings(sources));
}

// A version that was trained for a moment: its table has rows, its weights are no zeros.
PolicyVersion Trained(const v1::Config& config, const ScorerFields& fields) {
  Random random(1, "scorer_bench.rows", 0);
  ScorerRows rows = fields.NoRows();
  for (std::size_t i = 0; i < kTrained; ++i) {
    const Impression of(random);
    Must(fields.Append({of.user_dense, of.user_ids}, {of.context_dense, {}}, {of.item_dense, of.item_ids}, of.user, of.item, &rows));
    for (std::size_t k = 0; k < rows.tasks; ++k) rows.labels.push_back(random.NextBelow(3) == 0 ? 1.0F : 0.0F);
    rows.session.push_back(static_cast<std::uint32_t>(i / 4));
    rows.time_ms.push_back(static_cast<std::int64_t>(i) * 1'000);
    rows.known_ms.push_back(rows.time_ms.back() + 500);
  }
  const auto training = Must(ScorerTraining::Create(config, fields, rows, {kTrained * 9 / 10, kTrained}));
  while (!training->done()) Must(training->Advance());
  return training->MakeVersion();
}

void Run(const std::string& backbone, const Arguments& arguments) {
  const v1::Config config = ConfigOf(backbone, arguments.preset);
  const ScorerFields fields = Must(ScorerFields::Create(config));
  const PolicyVersion version = Trained(config, fields);
  const auto scorer = Must(Scorer::Load(version));
  const ScorerNetwork network = Must(ScorerNetwork::Create(version.manifest, Must(DecodeWeights(version.weights))));

  Random random(2, "scorer_bench.request", 0);
  const Impression user(random);
  std::vector<Impression> items;
  for (std::size_t i = 0; i < arguments.candidates; ++i) items.emplace_back(random);
  std::vector<CandidateView> candidates;
  std::vector<std::string_view> names;
  ScorerRows rows = fields.NoRows();
  for (const Impression& item : items) {
    candidates.push_back({{item.item_dense, item.item_ids}, {}});
    names.emplace_back(item.item);
    Must(fields.Append({user.user_dense, user.user_ids}, {user.context_dense, {}}, candidates.back().features, user.user, item.item, &rows));
  }
  rows.session.resize(rows.ids.size() / rows.id_fields, 0);

  ScorerWorkspace workspace;
  std::vector<float> scores(arguments.candidates * rows.tasks), shares;
  std::vector<Way> ways;
  ways.push_back(WayHere("ScorerNetwork", [&] {
    Must(network.Score({user.user_dense, user.user_ids}, {user.context_dense, {}}, user.user, candidates, names, workspace, scores));
  }));
  ways.push_back(WayHere("learner's Scorer", [&] { shares = Must(scorer->Score(rows, 0, rows.size())); }));
  for (Way& way : ways) way.time(0);
  const v1::FeatureSchema schema = DefaultSchema();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const v1::Task& task = schema.tasks(static_cast<int>(i % rows.tasks));
    if (std::abs((scores[i] - task.min()) / (task.max() - task.min()) - shares[i]) <= kAgreement) continue;
    std::fprintf(stderr, "%s: the two compute other networks\n", backbone.c_str());
    std::exit(1);
  }
  MeasureInTurn(ways, arguments.rounds, arguments.seconds);
  std::printf("%s, %s, %zu candidates, %zu tasks, %.1f MB, %s\n", backbone.c_str(), arguments.preset.c_str(), arguments.candidates, rows.tasks,
              static_cast<double>(version.weights.size()) / 1e6, Load().c_str());
  for (const Way& way : ways) Print(way, &ways[0]);
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  fuseline::bench::Arguments arguments;
  std::vector<std::string> backbones = fuseline::ScorerBackbones();
  bool understood = true;
  for (int i = 1; i < argc && understood; ++i) {
    const std::string argument = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--rounds" && value != nullptr) arguments.rounds = std::strtoul(argv[++i], nullptr, 10);
    else if (argument == "--seconds" && value != nullptr) arguments.seconds = std::strtod(argv[++i], nullptr);
    else if (argument == "small" || argument == "paper") arguments.preset = argument;
    else if (std::strtoul(argument.c_str(), nullptr, 10) > 0) arguments.candidates = std::strtoul(argument.c_str(), nullptr, 10);
    else understood = false;
  }
  if (!understood || arguments.rounds < 1) {
    std::fprintf(stderr, "usage: scorer_bench [--rounds N] [--seconds S] [small|paper] [CANDIDATES]\n");
    return 2;
  }
  for (const std::string& backbone : backbones) fuseline::bench::Run(backbone, arguments);
  return 0;
}
