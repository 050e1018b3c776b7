// EnhancedRL behind its port: what each batch moves, what each form of the TD error identifies, and the golden file that the ranker
// must reproduce. What every algorithm must do is in every_algorithm_test.cc.

#include "algorithm.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <span>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "learner_world.h"
#include "random_batch.h"

namespace fuseline {
namespace {

using test::RandomBatch;
constexpr std::size_t kState = test::kBatchState, kAction = test::kActionWidth;

std::unique_ptr<Algorithm> Make(const v1::Config& config) { return CreateAlgorithm(config, test::kBatchProblem).value(); }

TEST(EnhancedRlTest, AnActorGradientThatIsNotFiniteUndoesTheCriticsStepToo) {
  const auto algorithm = Make(test::SmallConfig());
  const std::string before = algorithm->WeightsSha256();
  TransitionBatch batch = RandomBatch(2, 8, 2);
  batch.baseline[0] = std::numeric_limits<float>::infinity();  // Only the actor's box term sees it.
  ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, 0));
  EXPECT_TRUE(figures.undone);
  EXPECT_EQ(algorithm->WeightsSha256(), before);
}

TEST(EnhancedRlTest, Bfloat16IsInTheLineageAndIsRefusedWhereTheCpuHasNone) {
  v1::Config config = test::SmallConfig();
  const auto exact = Make(config);
  config.mutable_learner()->set_precision("bfloat16");
  const auto made = CreateAlgorithm(config, test::kBatchProblem);
  if (!made) {
    EXPECT_THAT(made.error(), HasCode(Code::kInvalidInput));
    EXPECT_THAT(made.error(), MessageNames("learner.precision"));
    return;
  }
  EXPECT_THAT((*made)->facts().blas, testing::EndsWith("own kernels: avx512_bf16"));
  for (std::uint64_t step = 0; step < 20; ++step) {
    ASSERT_OK_AND_ASSIGN(const StepFigures one, exact->Step(RandomBatch(step, 16, 2), step));
    ASSERT_OK_AND_ASSIGN(const StepFigures other, (*made)->Step(RandomBatch(step, 16, 2), step));
    EXPECT_FALSE(other.undone);
    EXPECT_NEAR(other.critic_loss, one.critic_loss, 0.05 * one.critic_loss) << "step " << step;
  }
  EXPECT_NE((*made)->WeightsSha256(), exact->WeightsSha256());
}

TEST(EnhancedRlTest, TransitionsOutsideTheTermMoveTheCriticsAndNeverTheActor) {
  const auto algorithm = Make(test::SmallConfig());
  const auto actor = algorithm->actor_parameters();
  const std::string before = algorithm->WeightsSha256();
  TransitionBatch batch = RandomBatch(2, 8, 2);
  batch.trains_actor.assign(8, 0);
  ASSERT_OK_AND_ASSIGN(const StepFigures figures, algorithm->Step(batch, 0));
  EXPECT_FALSE(figures.actor_moved);
  EXPECT_EQ(algorithm->actor_parameters(), actor);
  EXPECT_NE(algorithm->WeightsSha256(), before);
}

// Sessions of one list of two, an item of quality +1 and one of -1, earning exactly that, whatever the action.
TransitionBatch GoodAndBad(std::uint64_t seed) {
  TransitionBatch batch = RandomBatch(seed, 16, 2);
  batch.terminated.assign(16, 1);
  for (std::size_t pair = 0; pair < 32; ++pair) {
    const float quality = pair % 2 == 0 ? 1.0F : -1.0F;
    batch.state[pair * kState + 1] = quality;
    batch.reward[pair] = batch.reward[32 + pair] = quality;
  }
  return batch;
}

// The list's total is always zero, so its TD error says nothing about either; the items' TD error says it all.
TEST(EnhancedRlTest, OnlyTheItemsTdErrorTellsWhichItemOfAListEarned) {
  const auto learned_difference = [](const char* td) {
    v1::Config config = test::SmallConfig();
    config.mutable_learner()->set_td(td);
    config.mutable_learner()->set_critic_rate(0.003);
    const auto algorithm = Make(config);
    for (std::uint64_t step = 0; step < 600; ++step) {
      EXPECT_THAT(algorithm->Step(GoodAndBad(step), step), IsOk());
    }
    const std::vector<float> states{0, 1, 0, 0, 0, -1, 0, 0}, actions(2 * kAction, 0.0F);
    const CriticValues values = algorithm->Values(states, actions).value();
    return values.mean[0] - values.mean[1];
  };
  EXPECT_NEAR(learned_difference("item"), 2.0, 0.3);
  EXPECT_LT(std::abs(learned_difference("list")), 1.0);
}

// Here Q has no slope in an action, and which actions bring up the better items only their fused scores say.
TEST(EnhancedRlTest, AnActorThatAimsAtSelectionLiftsTheItemsThatEarn) {
  const auto lead_of_the_better = [](const char* aim) {
    v1::Config config = test::SmallConfig();
    config.mutable_learner()->set_actor_aim(aim);
    config.mutable_learner()->set_td("item");
    config.mutable_learner()->set_critic_rate(0.003);
    config.mutable_learner()->set_actor_rate(0.003);
    const auto algorithm = Make(config);
    for (std::uint64_t step = 0; step < 600; ++step) {
      EXPECT_THAT(algorithm->Step(GoodAndBad(step), step), IsOk());
    }
    v1::ActionRanges ranges;
    for (std::size_t d = 0; d < kAction; ++d) {
      ranges.add_lower(test::kBatchProblem.lower[d]);
      ranges.add_upper(test::kBatchProblem.upper[d]);
      ranges.add_static_action(0);
    }
    const ActionSpace space = ActionSpace::Create(ranges).value();
    const std::vector<float> actions = algorithm->Act(std::vector<float>{0, 1, 0, 0, 0, -1, 0, 0}).value();
    const std::vector<float> scores(kAction / 2, 0.3F);
    return space.FusedScore(scores, std::span(actions).first(kAction)) - space.FusedScore(scores, std::span(actions).last(kAction));
  };
  const double lead = lead_of_the_better("selection");
  EXPECT_GT(lead, 0.1);
  EXPECT_LT(std::abs(lead_of_the_better("value")), 0.3 * lead);
}

TEST(EnhancedRlTest, CriticsWithoutScoresSeeAllOfAStateButItsTaskScores) {
  constexpr std::size_t kTasks = kAction / 2;
  const auto values = [](const char* critic_state, std::size_t changed) {
    v1::Config config = test::SmallConfig();
    config.mutable_learner()->set_critic_state(critic_state);
    std::vector<float> states(kState, 0.5F);
    states[changed] = -1;
    return Make(config)->Values(states, std::vector<float>(kAction, 0.1F)).value().mean;
  };
  for (std::size_t score = kState - kTasks; score + 1 < kState; ++score) {
    EXPECT_EQ(values("without_scores", score), values("without_scores", score + 1));
    EXPECT_NE(values("full", score), values("full", score + 1));
  }
  EXPECT_NE(values("without_scores", 0), values("without_scores", kState - 1));
}

// After steps too: what serves is an actor as any other, which ranks by what it was never taught to look at if a weight is left there.
TEST(EnhancedRlTest, AnActorWithoutScoresActsAlikeWhateverTheTaskScores) {
  constexpr std::size_t kTasks = kAction / 2;
  const auto actions = [](const char* actor_state, std::size_t changed) {
    v1::Config config = test::SmallConfig();
    config.mutable_learner()->set_actor_state(actor_state);
    config.mutable_learner()->set_inside_pull(0.1);
    config.mutable_learner()->set_power_sum_pull(1);
    config.mutable_learner()->set_list_pull(0.1);
    const auto algorithm = Make(config);
    for (std::uint64_t step = 0; step < 30; ++step) EXPECT_THAT(algorithm->Step(RandomBatch(step, 16, 2), step), IsOk());
    std::vector<float> states(kState, 0.5F);
    states[changed] = -1;
    return algorithm->Act(states).value();
  };
  for (std::size_t score = kState - kTasks; score + 1 < kState; ++score) {
    EXPECT_EQ(actions("without_scores", score), actions("without_scores", score + 1));
    EXPECT_NE(actions("full", score), actions("full", score + 1));
  }
  EXPECT_NE(actions("without_scores", 0), actions("without_scores", kState - 1));
}

// The actor as it starts (from the seed alone, so that the file does not depend on a BLAS) with a normaliser that is not
// trivial, one request, and the actions that LibTorch computes. FUSELINE_UPDATE_GOLDEN=1 writes the files.
class GoldenPolicyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = DefaultSettings();
    const v1::FeatureSchema schema = DefaultSchema();
    const FeatureEncoder encoder(schema);
    const auto ranges = ActionRangesOf(config_.policy(), schema).value();
    algorithm_ = CreateAlgorithm(config_, {encoder.shared_width(), encoder.item_width(),
                                           {ranges.static_action().begin(), ranges.static_action().end()}})
                     .value();
    normaliser_ = Normaliser::Identity(encoder.state_width());
    for (std::size_t column = 0; column < encoder.state_width(); ++column) {
      if (!encoder.scalable_columns()[column]) continue;
      normaliser_.mean[column] = 0.01F * static_cast<float>(column);
      normaliser_.scale[column] = 1.0F + 0.03125F * static_cast<float>(column);
    }
    manifest_.set_version(1);
    manifest_.set_policy("default");
    manifest_.set_algorithm("enhanced_rl");
    manifest_.set_preset(config_.learner().preset());
    *manifest_.mutable_schema() = schema;
    manifest_.set_schema_digest(SchemaDigest(schema));
    algorithm_->DescribePolicy(manifest_);
    *manifest_.mutable_ranges() = ranges;
    manifest_.mutable_box()->set_lower(-0.15F);
    manifest_.mutable_box()->set_upper(0.15F);
    manifest_.mutable_lineage()->set_seed(config_.fuseline().seed());
    TensorMap tensors = algorithm_->PolicyTensors();
    const auto columns = static_cast<std::uint32_t>(encoder.state_width());
    tensors["normaliser.mean"] = {{columns}, normaliser_.mean};
    tensors["normaliser.scale"] = {{columns}, normaliser_.scale};
    weights_ = EncodeWeights(tensors);
    manifest_.set_weights_sha256(Sha256Of(weights_));
  }

  v1::Exposure Request() const {
    Random random(20, "golden", 0);
    v1::Exposure exposure;
    exposure.set_request_id("golden");
    exposure.set_schema_digest(manifest_.schema_digest());
    for (int i = 0; i < 8; ++i) exposure.mutable_user_features()->add_dense(static_cast<float>(random.NextNormal()));
    exposure.mutable_user_features()->add_ids(5);
    for (int i = 0; i < 3; ++i) exposure.mutable_context_features()->add_dense(static_cast<float>(random.NextNormal()));
    for (int j = 0; j < 6; ++j) {
      v1::ExposedItem& item = *exposure.add_items();
      item.set_item_id("i" + std::to_string(j));
      for (int i = 0; i < 9; ++i) item.mutable_item_features()->add_dense(static_cast<float>(random.NextNormal()));
      item.mutable_item_features()->add_ids(random.NextU64());
      for (int task = 0; task < 5; ++task) item.add_task_scores(static_cast<float>(random.NextUniform()));
      item.set_task_scores(2, static_cast<float>(random.NextUniform(0, 600)));
    }
    return exposure;
  }

  // What LibTorch computes; baseline_action of each item.
  v1::Exposure WithActions(v1::Exposure exposure) const {
    const FeatureEncoder encoder(manifest_.schema());
    const auto items = static_cast<std::size_t>(exposure.items_size());
    std::vector<float> states(items * encoder.state_width());
    for (std::size_t j = 0; j < items; ++j) {
      const std::span state(&states[j * encoder.state_width()], encoder.state_width());
      EXPECT_THAT(encoder.EncodeShared(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()),
                                       state.first(encoder.shared_width())),
                  IsOk());
      EXPECT_THAT(encoder.EncodeItem(ViewOf(exposure.items(static_cast<int>(j))), state.subspan(encoder.shared_width())), IsOk());
      normaliser_.Apply(state, 0);
    }
    const std::vector<float> actions = algorithm_->Act(states).value();
    const std::size_t width = actions.size() / items;
    for (std::size_t j = 0; j < items; ++j)
      for (std::size_t d = 0; d < width; ++d) exposure.mutable_items(static_cast<int>(j))->add_baseline_action(actions[j * width + d]);
    return exposure;
  }

  v1::Config config_;
  std::unique_ptr<Algorithm> algorithm_;
  Normaliser normaliser_;
  v1::PolicyManifest manifest_;
  std::string weights_;
};

TEST_F(GoldenPolicyTest, TheGoldenFileIsWhatTheLearnerComputesAndThePlainNetworkReproduces) {
  const std::filesystem::path folder = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden";
  const v1::Exposure computed = WithActions(Request());
  if (std::getenv("FUSELINE_UPDATE_GOLDEN") != nullptr) {
    std::string json;
    ASSERT_TRUE(google::protobuf::util::MessageToJsonString(computed, &json).ok());
    ASSERT_THAT(WriteFileAtomically(folder / "policy_v1.manifest.pb", CanonicalBytes(manifest_)), IsOk());
    ASSERT_THAT(WriteFileAtomically(folder / "policy_v1.safetensors", weights_), IsOk());
    ASSERT_THAT(WriteFileAtomically(folder / "policy_v1.exposure.json", json + "\n"), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const std::string stored_weights, ReadFile(folder / "policy_v1.safetensors"));
  ASSERT_OK_AND_ASSIGN(const std::string stored_manifest, ReadFile(folder / "policy_v1.manifest.pb"));
  ASSERT_OK_AND_ASSIGN(const std::string stored_exposure, ReadFile(folder / "policy_v1.exposure.json"));
  EXPECT_EQ(ToHex(Sha256Of(stored_weights)), ToHex(Sha256Of(weights_)));
  EXPECT_EQ(stored_manifest, CanonicalBytes(manifest_));
  v1::Exposure golden;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(stored_exposure, &golden).ok());

  ASSERT_OK_AND_ASSIGN(const TensorMap tensors, DecodeWeights(stored_weights));
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(manifest_, tensors));
  std::vector<CandidateView> candidates;
  for (const v1::ExposedItem& item : golden.items()) candidates.push_back(ViewOf(item));
  const std::size_t width = network.action_space().width();
  std::vector<float> actions(candidates.size() * width);
  ActorWorkspace workspace;
  ASSERT_THAT(network.Act(ViewOf(golden.user_features()), ViewOf(golden.context_features()), candidates, workspace, actions), IsOk());
  for (std::size_t j = 0; j < candidates.size(); ++j) {
    for (std::size_t d = 0; d < width; ++d) {
      const float expected = golden.items(static_cast<int>(j)).baseline_action(static_cast<int>(d));
      EXPECT_NEAR(computed.items(static_cast<int>(j)).baseline_action(static_cast<int>(d)), expected, 1e-5);
      EXPECT_NEAR(actions[j * width + d], expected, 1e-5);
    }
  }
}

}  // namespace
}  // namespace fuseline
