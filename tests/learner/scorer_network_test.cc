// The scorer without LibTorch against the learner's own, of every backbone, on random shapes, weights and pasts; and what it refuses.
#include "fuseline/fusion/scorer_network.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/sparse_rows.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "scorer/scorer_model.h"

namespace fuseline {
namespace {

auto FailsWith(Code code, const std::string& part) { return testing::AllOf(HasCode(code), MessageNames(part)); }

const std::vector<std::string> kBackbones = {"single_task", "shared_bottom", "esmm", "mmoe", "ple"};

// A schema of up to three features in each scope, and of one to four tasks, the last with another range than 0 to 1.
v1::FeatureSchema RandomSchema(Random& random) {
  v1::FeatureSchema schema;
  for (const v1::FeatureScope scope : {v1::ITEM, v1::USER, v1::CONTEXT}) {
    const std::uint64_t features = random.NextBelow(4);
    for (std::uint64_t i = 0; i < features; ++i) {
      v1::Feature& feature = *schema.add_features();
      feature.set_name("f" + std::to_string(schema.features_size()));
      feature.set_scope(scope);
      if (random.NextBelow(2) == 0) {
        feature.mutable_categorical()->set_buckets(1 + static_cast<std::uint32_t>(random.NextBelow(9)));
        feature.mutable_categorical()->set_default_value(random.NextU64());
      } else {
        feature.mutable_dense()->set_width(1 + static_cast<std::uint32_t>(random.NextBelow(3)));
        feature.mutable_dense()->set_default_value(static_cast<float>(random.NextNormal()));
      }
    }
  }
  const std::uint64_t tasks = 1 + random.NextBelow(4);
  for (std::uint64_t i = 0; i < tasks; ++i) {
    v1::Task& task = *schema.add_tasks();
    task.set_name("t" + std::to_string(i));
    task.set_max(1);
  }
  schema.mutable_tasks()->rbegin()->set_min(-2);
  schema.mutable_tasks()->rbegin()->set_max(30);
  return schema;
}

// Tasks in another order than the schema's, and now and then one fewer.
std::string RandomTasks(const v1::FeatureSchema& schema, Random& random) {
  std::vector<std::string> names;
  for (const v1::Task& task : schema.tasks()) names.insert(names.begin(), task.name());
  if (names.size() > 1 && random.NextBelow(3) == 0) names.pop_back();
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ",") + name;
  return joined;
}

v1::Config RandomConfig(const std::string& backbone, Random& random) {
  const auto number = [&](std::uint64_t most) { return std::to_string(1 + random.NextBelow(most)); };
  const auto widths = [&](bool may_be_one) {
    std::string text = number(20);
    if (!may_be_one || random.NextBelow(2) == 0) text += ',' + number(20);
    return text;
  };
  SettingsSources sources;
  sources.flags = {"scorer.backbone=" + backbone, "scorer.embedding_width=" + number(9), "scorer.bottom=" + widths(true),
                   "scorer.tower=" + widths(true), "scorer.experts=" + number(4), "scorer.task_experts=" + number(3),
                   "scorer.min_frequency=" + number(4), "scorer.dropout=0",
                   "scorer.user_buckets=" + std::to_string(random.NextBelow(3) == 0 ? 0 : 40),
                   "scorer.item_buckets=" + std::to_string(random.NextBelow(3) == 0 ? 0 : 40),
                   "scorer.rate_prior=" + std::string(random.NextBelow(3) == 0 ? "0" : "7.5")};
  v1::Config config = LoadSettings(sources).value();
  *config.mutable_schema() = RandomSchema(random);
  config.mutable_scorer()->set_tasks(RandomTasks(config.schema(), random));
  return config;
}

void Fill(TensorMap& tensors, const std::string& name, std::vector<std::uint32_t> shape, const std::function<double()>& draw) {
  Tensor& tensor = tensors[name];
  std::size_t values = 1;
  for (const std::uint32_t extent : shape) values *= extent;
  tensor.shape = std::move(shape);
  tensor.values.clear();
  for (std::size_t i = 0; i < values; ++i) tensor.values.push_back(static_cast<float>(draw()));
}

std::uint32_t TableRows(const ScorerFields& fields) {
  std::uint32_t rows = 0;
  for (const std::uint32_t buckets : fields.shape().buckets()) rows += buckets + 1;
  return rows;
}

// Embeddings of two rows in three: the others were never learned.
void FillTable(const ScorerFields& fields, std::uint32_t width, Random& random, TensorMap& tensors) {
  std::vector<float> table;
  for (std::uint32_t row = 0; row < TableRows(fields); ++row) {
    const double size = random.NextBelow(3) == 0 ? 0 : 1;
    for (std::uint32_t i = 0; i < width; ++i) table.push_back(static_cast<float>(size * random.NextNormal()));
  }
  PackRows("embedding", table, width, &tensors);
}

// What a scorer knows of its inputs: ids seen and not, and numbers that the normaliser cuts.
void FillInputs(const ScorerFields& fields, Random& random, TensorMap& tensors) {
  const v1::ScorerShape& shape = fields.shape();
  const auto tasks = static_cast<std::uint32_t>(fields.tasks().size());
  const std::uint32_t rows = TableRows(fields);
  const auto pack = [&](const char* name, std::size_t width) {
    const std::vector<float> table = std::move(tensors[name].values);
    PackRows(name, table, width, &tensors);
  };
  const auto numbers = static_cast<std::uint32_t>(ScorerNumbers(shape, tasks));
  Fill(tensors, "frequency", {rows}, [&] { return static_cast<double>(random.NextBelow(6)); });
  pack("frequency", 1);
  Fill(tensors, "normaliser.mean", {numbers}, [&] { return random.NextNormal(); });
  Fill(tensors, "normaliser.scale", {numbers}, [&] { return random.NextBelow(5) == 0 ? 30.0 : random.NextUniform(0.3, 2); });
  if (shape.rate_prior() <= 0) return;
  Fill(tensors, "seen", {rows}, [&] { return static_cast<double>(random.NextBelow(3) * random.NextBelow(500)); });
  Fill(tensors, "rates", {tasks}, [&] { return random.NextUniform(0.001, 0.9); });
  std::size_t value = 0;
  Fill(tensors, "outcomes", {rows, tasks}, [&] { return random.NextUniform() * tensors["seen"].values[value++ / tasks]; });
  pack("seen", 1);
  pack("outcomes", tasks);
}

struct Made {
  v1::Config config;
  std::optional<ScorerFields> fields;
  TensorMap tensors;
  PolicyVersion version;

  void Seal() {
    version.weights = EncodeWeights(tensors);
    version.manifest.set_weights_sha256(Sha256Of(version.weights));
  }
};

Made RandomScorer(const std::string& backbone, std::uint64_t seed) {
  Random random(seed, "scorer." + backbone, 0);
  Made made;
  while (true) {
    made.config = RandomConfig(backbone, random);
    auto fields = ScorerFields::Create(made.config);
    EXPECT_TRUE(fields.has_value()) << fields.error().message;
    made.fields = *std::move(fields);
    if (made.fields->shape().buckets_size() > 0 || made.fields->shape().dense_width() > 0) break;
  }
  auto model = CreateScorerModel(made.config, made.fields->shape(), made.fields->tasks().size());
  EXPECT_TRUE(model.has_value()) << model.error().message;
  made.tensors = (*model)->Weights();
  FillTable(*made.fields, made.tensors["embedding"].shape[1], random, made.tensors);
  FillInputs(*made.fields, random, made.tensors);
  DescribeScorer(made.config, *made.fields, made.version.manifest);
  made.version.manifest.mutable_lineage()->set_settings(CanonicalBytes(made.config));
  made.Seal();
  return made;
}

// A request with random values, a scope now and then absent; owns what its views borrow.
struct Request {
  struct Values {
    std::vector<float> dense;
    std::vector<std::uint64_t> ids;
    FeatureView View() const { return {dense, ids}; }
  };
  Values user, context;
  std::string user_id;
  std::vector<Values> items;
  std::vector<std::string> names;
  std::vector<std::string_view> item_ids;
  std::vector<CandidateView> candidates;

  Request(const v1::FeatureSchema& schema, std::size_t n, Random& random) : user_id("u" + std::to_string(random.NextBelow(30))) {
    const auto values = [&](v1::FeatureScope scope) {
      Values drawn;
      if (random.NextBelow(5) == 0) return drawn;
      for (const v1::Feature& feature : schema.features()) {
        if (feature.scope() != scope) continue;
        if (feature.has_categorical()) drawn.ids.push_back(random.NextBelow(12));
        for (std::uint32_t i = 0; i < feature.dense().width(); ++i) drawn.dense.push_back(static_cast<float>(2 * random.NextNormal()));
      }
      return drawn;
    };
    user = values(v1::USER);
    context = values(v1::CONTEXT);
    for (std::size_t i = 0; i < n; ++i) {
      items.push_back(values(v1::ITEM));
      names.push_back("i" + std::to_string(random.NextBelow(60)));
    }
    for (std::size_t i = 0; i < n; ++i) {
      item_ids.emplace_back(names[i]);
      candidates.push_back({items[i].View(), {}});
    }
  }
};

Result<std::vector<float>> Scores(const ScorerNetwork& network, const Request& request, ScorerWorkspace& workspace) {
  std::vector<float> scores(request.candidates.size() * static_cast<std::size_t>(network.manifest().schema().tasks_size()));
  FUSELINE_FAIL_IF_ERROR(network.Score(request.user.View(), request.context.View(), request.user_id, request.candidates, request.item_ids,
                                       workspace, scores));
  return scores;
}

// What the learner's scorer says of the same, in the schema's order and ranges; of a task that it does not know, the minimum.
std::vector<float> LearnersScores(const Made& made, const Request& request) {
  auto scorer = Scorer::Load(made.version);
  EXPECT_TRUE(scorer.has_value()) << scorer.error().message;
  ScorerRows rows = made.fields->NoRows();
  for (std::size_t i = 0; i < request.candidates.size(); ++i) {
    EXPECT_THAT(made.fields->Append(request.user.View(), request.context.View(), request.items[i].View(), request.user_id, request.names[i], &rows),
                IsOk());
  }
  rows.session.resize(request.candidates.size(), 0);
  const auto shares = (*scorer)->Score(rows, 0, rows.size());
  EXPECT_TRUE(shares.has_value());
  const auto& tasks = made.config.schema().tasks();
  std::vector<float> scores;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const v1::Task& task : tasks) {
      const auto found = std::ranges::find(made.fields->tasks(), task.name());
      const auto number = static_cast<std::size_t>(found - made.fields->tasks().begin());
      const float share = number < rows.tasks ? (*shares)[i * rows.tasks + number] : 0;
      scores.push_back(task.min() + share * (task.max() - task.min()));
    }
  }
  return scores;
}

TEST(ScorerNetworkTest, ScoresAreThoseOfTheLearnersScorer) {
  for (const std::string& backbone : kBackbones) {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      const Made made = RandomScorer(backbone, seed);
      ASSERT_OK_AND_ASSIGN(const ScorerNetwork network, ScorerNetwork::Create(made.version.manifest, made.tensors));
      Random random(seed, "request", 0);
      ScorerWorkspace workspace;
      for (const std::size_t n : {1U, 7U, 150U}) {
        const Request request(made.config.schema(), n, random);

        ASSERT_OK_AND_ASSIGN(const std::vector<float> scores, Scores(network, request, workspace));

        const std::vector<float> expected = LearnersScores(made, request);
        const auto tasks = static_cast<std::size_t>(made.config.schema().tasks_size());
        for (std::size_t i = 0; i < scores.size(); ++i) {
          const v1::Task& task = made.config.schema().tasks(static_cast<int>(i % tasks));
          ASSERT_NEAR(scores[i], expected[i], 1e-5 * (task.max() - task.min())) << backbone << ", seed " << seed << ", n " << n << ", value " << i;
        }
      }
    }
  }
}

TEST(ScorerNetworkTest, ACandidatesScoresDoNotDependOnWhatIsScoredBesideIt) {
  for (const std::string& backbone : kBackbones) {
    const Made made = RandomScorer(backbone, 3);
    ASSERT_OK_AND_ASSIGN(const ScorerNetwork network, ScorerNetwork::Create(made.version.manifest, made.tensors));
    Random random(1, "request", 0);
    const Request request(made.config.schema(), 131, random);
    ScorerWorkspace workspace, another;
    ASSERT_OK_AND_ASSIGN(const std::vector<float> together, Scores(network, request, workspace));
    const auto tasks = static_cast<std::size_t>(made.config.schema().tasks_size());
    for (std::size_t i = 0; i < request.candidates.size(); ++i) {
      std::vector<float> alone(tasks);
      ASSERT_THAT(network.Score(request.user.View(), request.context.View(), request.user_id, std::span(request.candidates).subspan(i, 1),
                                std::span(request.item_ids).subspan(i, 1), another, alone),
                  IsOk());
      for (std::size_t k = 0; k < tasks; ++k) ASSERT_EQ(alone[k], together[i * tasks + k]) << backbone << ", candidate " << i;
    }
  }
}

TEST(ScorerNetworkTest, NoCandidatesGiveNoScores) {
  const Made made = RandomScorer("mmoe", 1);
  ASSERT_OK_AND_ASSIGN(const ScorerNetwork network, ScorerNetwork::Create(made.version.manifest, made.tensors));
  ScorerWorkspace workspace;
  EXPECT_THAT(network.Score({}, {}, "u", {}, {}, workspace, {}), IsOk());
}

TEST(ScorerNetworkTest, ARequestThatTheSchemaDoesNotDescribeIsRefused) {
  v1::FeatureSchema schema;
  Made made;
  for (std::uint64_t seed = 0;; ++seed) {  // One with dense values of users.
    made = RandomScorer("shared_bottom", seed);
    const auto& features = made.config.schema().features();
    if (std::ranges::any_of(features, [](const v1::Feature& feature) { return feature.has_dense() && feature.scope() == v1::USER; })) break;
  }
  ASSERT_OK_AND_ASSIGN(const ScorerNetwork network, ScorerNetwork::Create(made.version.manifest, made.tensors));
  Random random(1, "request", 0);
  Request request(made.config.schema(), 2, random);
  while (request.user.dense.empty()) request = Request(made.config.schema(), 2, random);
  ScorerWorkspace workspace;

  Request longer = request, infinite = request;
  longer.user.dense.push_back(0);
  infinite.user.dense[0] = std::numeric_limits<float>::infinity();

  EXPECT_THAT(Scores(network, longer, workspace), FailsWith(Code::kInvalidInput, "disagrees with the schema"));
  EXPECT_THAT(Scores(network, infinite, workspace), FailsWith(Code::kInvalidInput, "not finite"));
}

TEST(ScorerNetworkTest, EveryTensorThatIsMissingOrOfAnotherShapeOrNotFiniteIsRefused) {
  for (const std::string& backbone : kBackbones) {
    const Made made = RandomScorer(backbone, 5);
    for (const auto& [name, tensor] : made.tensors) {
      if (tensor.values.empty()) continue;
      TensorMap missing = made.tensors, longer = made.tensors, infinite = made.tensors;
      missing.erase(name);
      longer[name].shape[0] += 1;
      longer[name].values.resize(longer[name].values.size() + tensor.values.size() / tensor.shape[0]);
      infinite[name].values.back() = std::numeric_limits<float>::infinity();
      const v1::PolicyManifest& manifest = made.version.manifest;
      const std::string shown = name.ends_with(".rows") ? name.substr(0, name.size() - 5) : name;
      const auto refused = [&](Code code) { return FailsWith(code, shown); };
      EXPECT_THAT(ScorerNetwork::Create(manifest, missing), testing::AnyOf(refused(Code::kInvalidInput), refused(Code::kCorrupt)));
      EXPECT_THAT(ScorerNetwork::Create(manifest, longer), testing::AnyOf(refused(Code::kInvalidInput), refused(Code::kCorrupt)));
      EXPECT_THAT(ScorerNetwork::Create(manifest, infinite), refused(Code::kCorrupt));
    }
    TensorMap more = made.tensors;
    more["another"] = {{1}, {0.0F}};
    EXPECT_THAT(ScorerNetwork::Create(made.version.manifest, more), FailsWith(Code::kInvalidInput, "tensors that the manifest does not"));
  }
}

TEST(ScorerNetworkTest, APastThatCannotBeIsRefused) {
  Made made;
  for (std::uint64_t seed = 0; made.tensors.count("seen") == 0; ++seed) made = RandomScorer("mmoe", seed);
  const auto with = [&](const char* name, float value) {
    TensorMap tensors = made.tensors;
    tensors[name].values[0] = value;
    return ScorerNetwork::Create(made.version.manifest, tensors);
  };
  EXPECT_THAT(with("outcomes", 1e6F), FailsWith(Code::kCorrupt, "more outcomes than impressions"));
  EXPECT_THAT(with("seen", -1), FailsWith(Code::kCorrupt, "seen"));
  EXPECT_THAT(with("frequency", -1), FailsWith(Code::kCorrupt, "frequency"));
  EXPECT_THAT(with("rates", 0), FailsWith(Code::kCorrupt, "rates"));
  EXPECT_THAT(with("rates", 1), FailsWith(Code::kCorrupt, "rates"));
}

TEST(ScorerNetworkTest, AFormThatContradictsItsSchemaIsRefused) {
  const Made made = RandomScorer("ple", 2);
  const auto with = [&](const std::function<void(v1::PolicyManifest&)>& change) {
    v1::PolicyManifest manifest = made.version.manifest;
    change(manifest);
    return ScorerNetwork::Create(manifest, made.tensors);
  };
  const auto shape = [&](const std::function<void(v1::ScorerShape&)>& change) {
    return with([&](v1::PolicyManifest& manifest) { change(*manifest.mutable_scorer()->mutable_shape()); });
  };
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.clear_scorer(); }), FailsWith(Code::kInvalidInput, "a policy's"));
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.mutable_actor(); }), FailsWith(Code::kInvalidInput, "at once"));
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.mutable_scorer()->set_backbone("dcn"); }), FailsWith(Code::kInvalidInput, "dcn"));
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.mutable_scorer()->clear_tasks(); }), FailsWith(Code::kInvalidInput, "no task"));
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.mutable_scorer()->set_tasks(0, "sold"); }), FailsWith(Code::kInvalidInput, "sold"));
  EXPECT_THAT(with([](v1::PolicyManifest& manifest) { manifest.mutable_scorer()->add_tasks(manifest.scorer().tasks(0)); }),
              FailsWith(Code::kInvalidInput, "twice"));
  EXPECT_THAT(shape([](v1::ScorerShape& of) { of.add_buckets(3); }), FailsWith(Code::kInvalidInput, "disagree with the schema"));
  EXPECT_THAT(shape([](v1::ScorerShape& of) { of.set_dense_width(of.dense_width() + 1); }), FailsWith(Code::kInvalidInput, "disagree with the schema"));
  for (const auto& change : std::vector<std::function<void(v1::ScorerShape&)>>{
           [](v1::ScorerShape& of) { of.set_embedding_width(0); }, [](v1::ScorerShape& of) { of.set_embedding_width(1U << 20U); },
           [](v1::ScorerShape& of) { of.clear_bottom(); }, [](v1::ScorerShape& of) { of.set_bottom(0, 0); },
           [](v1::ScorerShape& of) { of.set_tower(0, 1U << 30U); }, [](v1::ScorerShape& of) { of.set_experts(0); },
           [](v1::ScorerShape& of) { of.set_task_experts(1U << 31U); }, [](v1::ScorerShape& of) { of.set_rate_prior(-1); },
           [](v1::ScorerShape& of) { of.set_rate_prior(std::numeric_limits<double>::quiet_NaN()); }}) {
    EXPECT_THAT(shape(change), FailsWith(Code::kInvalidInput, "impossible size"));
  }
  EXPECT_THAT(shape([](v1::ScorerShape& of) { of.set_rate_prior(of.rate_prior() > 0 ? 0 : 5); }),
              testing::AnyOf(FailsWith(Code::kInvalidInput, "normaliser.mean"), FailsWith(Code::kInvalidInput, "tensors that the manifest does not")));
}

// Tables in which few rows hold anything: of the ids of `request`, three in four.
void FillRowsOf(const Request& request, const ScorerFields& fields, std::uint32_t width, Random& random, TensorMap& tensors) {
  ScorerRows rows = fields.NoRows();
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    ASSERT_THAT(fields.Append(request.user.View(), request.context.View(), request.items[i].View(), request.user_id, request.names[i], &rows),
                IsOk());
  }
  const std::size_t tasks = fields.tasks().size();
  std::vector<float> embeddings(TableRows(fields) * width), frequency(TableRows(fields)), seen(TableRows(fields)), outcomes(seen.size() * tasks);
  for (const std::uint32_t row : rows.ids) {
    if (row % 4 == 0) continue;
    for (std::size_t i = 0; i < width; ++i) embeddings[row * width + i] = static_cast<float>(random.NextNormal());
    frequency[row] = static_cast<float>(random.NextBelow(5));
    seen[row] = static_cast<float>(1 + random.NextBelow(40));
    for (std::size_t k = 0; k < tasks; ++k) outcomes[row * tasks + k] = static_cast<float>(random.NextUniform()) * seen[row];
  }
  PackRows("embedding", embeddings, width, &tensors);
  PackRows("frequency", frequency, 1, &tensors);
  if (fields.shape().rate_prior() <= 0) return;
  PackRows("seen", seen, 1, &tensors);
  PackRows("outcomes", outcomes, tasks, &tensors);
}

// One of each backbone for the fuzz target, small.
void WriteFuzzCorpus(const std::filesystem::path& folder) {
  for (const std::string& backbone : kBackbones) {
    Made made = RandomScorer(backbone, 5);
    Random random(1, "corpus." + backbone, 0);
    const Request request(made.config.schema(), 3, random);
    FillRowsOf(request, *made.fields, made.tensors["embedding"].shape[1], random, made.tensors);
    v1::ExportedVersion exported;
    exported.set_manifest(CanonicalBytes(made.version.manifest));
    exported.set_weights(EncodeWeights(made.tensors));
    ASSERT_THAT(WriteFileAtomically(folder / (backbone + ".pb"), CanonicalBytes(exported)), IsOk());
  }
}

// What tests/golden and rankers in other languages are held to: a scorer of the default schema, a request, and the learner's scores of it.
TEST(ScorerNetworkTest, TheGoldenScorerSaysWhatTheLearnerSays) {
  // given
  const std::filesystem::path folder = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden";
  Made made;
  SettingsSources sources;
  sources.flags = {"scorer.backbone=mmoe", "scorer.embedding_width=3", "scorer.bottom=8,6", "scorer.tower=5", "scorer.experts=3",
                   "scorer.user_buckets=12", "scorer.item_buckets=15", "scorer.min_frequency=2", "scorer.dropout=0"};
  made.config = LoadSettings(sources).value();
  *made.config.mutable_schema() = DefaultSchema();
  std::string tasks;
  for (const v1::Task& task : made.config.schema().tasks()) tasks += (tasks.empty() ? "" : ",") + task.name();
  made.config.mutable_scorer()->set_tasks(tasks);
  ASSERT_OK_AND_ASSIGN(made.fields, ScorerFields::Create(made.config));
  Random random(3, "golden request", 0);
  Request request(made.config.schema(), 6, random);
  while (request.user.dense.empty()) request = Request(made.config.schema(), 6, random);
  if (std::getenv("FUSELINE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_OK_AND_ASSIGN(const auto model, CreateScorerModel(made.config, made.fields->shape(), made.fields->tasks().size()));
    made.tensors = model->Weights();
    Random weights(7, "golden", 0);
    FillInputs(*made.fields, weights, made.tensors);
    FillRowsOf(request, *made.fields, made.tensors["embedding"].shape[1], weights, made.tensors);
    DescribeScorer(made.config, *made.fields, made.version.manifest);
    made.version.manifest.set_version(1);
    made.version.manifest.set_policy("default.scorer");
    made.version.manifest.mutable_lineage()->set_settings(CanonicalBytes(made.config));
    made.Seal();
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.manifest.pb", CanonicalBytes(made.version.manifest)), IsOk());
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.safetensors", made.version.weights), IsOk());
    WriteFuzzCorpus(folder / "../fuzz/scorer_corpus");
  }
  ASSERT_OK_AND_ASSIGN(made.version.weights, ReadFile(folder / "scorer_v1.safetensors"));
  ASSERT_OK_AND_ASSIGN(const std::string manifest, ReadFile(folder / "scorer_v1.manifest.pb"));
  ASSERT_TRUE(made.version.manifest.ParseFromString(manifest));

  // when
  const std::vector<float> learners = LearnersScores(made, request);
  v1::Exposure exposure;
  exposure.set_scorer_version(1);
  const auto put = [](const Request::Values& values, v1::Features* to) {
    to->mutable_dense()->Add(values.dense.begin(), values.dense.end());
    to->mutable_ids()->Add(values.ids.begin(), values.ids.end());
  };
  put(request.user, exposure.mutable_user_features());
  put(request.context, exposure.mutable_context_features());
  exposure.set_request_id(request.user_id);  // The file has no other place for it.
  const std::size_t each = learners.size() / request.items.size();
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    v1::ExposedItem& item = *exposure.add_items();
    item.set_item_id(request.names[i]);
    put(request.items[i], item.mutable_item_features());
    for (std::size_t k = 0; k < each; ++k) item.add_task_scores(learners[i * each + k]);
  }
  std::string json;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(exposure, &json).ok());
  if (std::getenv("FUSELINE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.exposure.json", json + "\n"), IsOk());
  }

  // then
  ASSERT_OK_AND_ASSIGN(const std::string stored, ReadFile(folder / "scorer_v1.exposure.json"));
  v1::Exposure golden;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(stored, &golden).ok());
  ASSERT_EQ(golden.items_size(), exposure.items_size());
  for (int i = 0; i < golden.items_size(); ++i) {
    for (int k = 0; k < golden.items(i).task_scores_size(); ++k) {
      const v1::Task& task = made.config.schema().tasks(k);
      EXPECT_NEAR(golden.items(i).task_scores(k), exposure.items(i).task_scores(k), 1e-5 * (task.max() - task.min()));
    }
  }
}

}  // namespace
}  // namespace fuseline
