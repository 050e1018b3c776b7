// The scorer without LibTorch against the learner's own, of every backbone, on random shapes, weights and pasts; and what it refuses.
#include "fuseline/fusion/scorer_network.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "random_scorer.h"

namespace fuseline {
namespace {

using test::kBackbones;
using test::LearnersScores;
using test::Made;
using test::RandomScorer;
using test::Request;

auto FailsWith(Code code, const std::string& part) { return testing::AllOf(HasCode(code), MessageNames(part)); }

Result<std::vector<float>> Scores(const ScorerNetwork& network, const Request& request, ScorerWorkspace& workspace) {
  std::vector<float> scores(request.candidates.size() * static_cast<std::size_t>(network.manifest().schema().tasks_size()));
  FUSELINE_FAIL_IF_ERROR(network.Score(request.user.View(), request.context.View(), request.user_id, request.candidates, request.item_ids,
                                       workspace, scores));
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

}  // namespace
}  // namespace fuseline
