// What the learner computed with LibTorch once (policy_v1.*, written by its own test) is what a ranker computes without it:
// the same bytes are read, and the same actions and scores come out.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

class PolicyGoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* const source = std::getenv("FUSELINE_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "run by ctest, or set FUSELINE_SOURCE_DIR";
    const auto folder = std::filesystem::path(source) / "tests/golden";
    ASSERT_OK_AND_ASSIGN(weights_, ReadFile(folder / "policy_v1.safetensors"));
    ASSERT_OK_AND_ASSIGN(const std::string manifest, ReadFile(folder / "policy_v1.manifest.pb"));
    ASSERT_TRUE(manifest_.ParseFromString(manifest));
    ASSERT_OK_AND_ASSIGN(const std::string exposure, ReadFile(folder / "policy_v1.exposure.json"));
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(exposure, &exposure_).ok());
  }

  std::string weights_;
  v1::PolicyManifest manifest_;
  v1::Exposure exposure_;
};

TEST_F(PolicyGoldenTest, TheWeightsFileIsReadAndWrittenToTheByte) {
  ASSERT_OK_AND_ASSIGN(const TensorMap tensors, DecodeWeights(weights_));
  EXPECT_EQ(ToHex(Sha256Of(EncodeWeights(tensors))), ToHex(Sha256Of(weights_)));
}

TEST_F(PolicyGoldenTest, TheDefaultSchemaIsStillTheOneThatItWasLearnedOn) {
  EXPECT_EQ(ToHex(SchemaDigest(manifest_.schema())), ToHex(exposure_.schema_digest()));
  EXPECT_EQ(ToHex(SchemaDigest(DefaultSchema())), ToHex(exposure_.schema_digest()));
}

TEST_F(PolicyGoldenTest, TheRankersNetworkGivesTheLearnersActions) {
  // given
  ASSERT_OK_AND_ASSIGN(const TensorMap tensors, DecodeWeights(weights_));
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(manifest_, tensors));
  std::vector<CandidateView> candidates;
  for (const v1::ExposedItem& item : exposure_.items()) candidates.push_back(ViewOf(item));
  ASSERT_GE(candidates.size(), 5U);

  // when
  const std::size_t width = network.action_space().width();
  ActorWorkspace workspace;
  std::vector<float> actions(candidates.size() * width);
  ASSERT_THAT(network.Act(ViewOf(exposure_.user_features()), ViewOf(exposure_.context_features()), candidates, workspace, actions), IsOk());

  // then: but for the order in which LibTorch's products are summed
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto& expected = exposure_.items(static_cast<int>(i)).baseline_action();
    ASSERT_EQ(static_cast<std::size_t>(expected.size()), width);
    for (std::size_t d = 0; d < width; ++d) EXPECT_NEAR(actions[i * width + d], expected[static_cast<int>(d)], 1e-6) << i << ", " << d;
  }
}

// The same of a scorer (scorer_v1.*).
TEST(ScorerGoldenTest, TheRankersNetworkGivesTheLearnersScores) {
  // given
  const auto folder = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden";
  ASSERT_OK_AND_ASSIGN(const std::string weights, ReadFile(folder / "scorer_v1.safetensors"));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(folder / "scorer_v1.manifest.pb"));
  ASSERT_OK_AND_ASSIGN(const std::string json, ReadFile(folder / "scorer_v1.exposure.json"));
  v1::PolicyManifest manifest;
  v1::Exposure exposure;
  ASSERT_TRUE(manifest.ParseFromString(bytes));
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &exposure).ok());
  ASSERT_OK_AND_ASSIGN(const TensorMap tensors, DecodeWeights(weights));
  EXPECT_EQ(ToHex(Sha256Of(EncodeWeights(tensors))), ToHex(manifest.weights_sha256()));
  ASSERT_OK_AND_ASSIGN(const ScorerNetwork network, ScorerNetwork::Create(manifest, tensors));
  std::vector<CandidateView> candidates;
  std::vector<std::string_view> names;
  for (const v1::ExposedItem& item : exposure.items()) {
    candidates.push_back(ViewOf(item));
    names.push_back(item.item_id());
  }
  ASSERT_GE(candidates.size(), 5U);

  // when
  const int tasks = manifest.schema().tasks_size();
  std::vector<float> scores(candidates.size() * static_cast<std::size_t>(tasks));
  ScorerWorkspace workspace;
  ASSERT_THAT(network.Score(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), exposure.request_id(), candidates, names,
                            workspace, scores),
              IsOk());

  // then
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const int item = static_cast<int>(i) / tasks, k = static_cast<int>(i) % tasks;
    const v1::Task& task = manifest.schema().tasks(k);
    EXPECT_NEAR(scores[i], exposure.items(item).task_scores(k), 1e-5 * (task.max() - task.min())) << item << ", " << k;
  }
}

}  // namespace
}  // namespace fuseline
