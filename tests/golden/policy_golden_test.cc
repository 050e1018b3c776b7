// What the learner computed with LibTorch once (policy_v1.*, written by its own test) is what a ranker computes without it:
// the same bytes are read, and the same actions come out.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
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

}  // namespace
}  // namespace fuseline
