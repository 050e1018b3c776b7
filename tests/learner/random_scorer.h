#pragma once

// Scorers with random shapes, weights and pasts, requests with random values, and what the learner's own scorer says of them.

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/sparse_rows.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "scorer/scorer_model.h"

namespace fuseline::test {

inline const std::vector<std::string> kBackbones = {"single_task", "shared_bottom", "esmm", "mmoe", "ple"};

// A schema of up to three features in each scope, and of one to four tasks, the last with another range than 0 to 1.
inline v1::FeatureSchema RandomSchema(Random& random) {
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
inline std::string RandomTasks(const v1::FeatureSchema& schema, Random& random) {
  std::vector<std::string> names;
  for (const v1::Task& task : schema.tasks()) names.insert(names.begin(), task.name());
  if (names.size() > 1 && random.NextBelow(3) == 0) names.pop_back();
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ",") + name;
  return joined;
}

inline v1::Config RandomConfig(const std::string& backbone, Random& random) {
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

inline void Fill(TensorMap& tensors, const std::string& name, std::vector<std::uint32_t> shape, const std::function<double()>& draw) {
  Tensor& tensor = tensors[name];
  std::size_t values = 1;
  for (const std::uint32_t extent : shape) values *= extent;
  tensor.shape = std::move(shape);
  tensor.values.clear();
  for (std::size_t i = 0; i < values; ++i) tensor.values.push_back(static_cast<float>(draw()));
}

inline std::uint32_t TableRows(const ScorerFields& fields) {
  std::uint32_t rows = 0;
  for (const std::uint32_t buckets : fields.shape().buckets()) rows += buckets + 1;
  return rows;
}

// Embeddings of two rows in three: the others were never learned.
inline void FillTable(const ScorerFields& fields, std::uint32_t width, Random& random, TensorMap& tensors) {
  std::vector<float> table;
  for (std::uint32_t row = 0; row < TableRows(fields); ++row) {
    const double size = random.NextBelow(3) == 0 ? 0 : 1;
    for (std::uint32_t i = 0; i < width; ++i) table.push_back(static_cast<float>(size * random.NextNormal()));
  }
  PackRows("embedding", table, width, &tensors);
}

// What a scorer knows of its inputs: ids seen and not, and numbers that the normaliser cuts.
inline void FillInputs(const ScorerFields& fields, Random& random, TensorMap& tensors) {
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

inline Made RandomScorer(const std::string& backbone, std::uint64_t seed) {
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

// What the learner's scorer says of the same, in the schema's order and ranges; of a task that it does not know, the minimum.
inline std::vector<float> LearnersScores(const Made& made, const Request& request) {
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

}  // namespace fuseline::test
