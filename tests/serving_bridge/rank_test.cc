// What a decision is, before any version exists: arms, noise, order, faults of the input, and the exposure that is logged.
#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/serving_bridge/decision_maker.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

#include "ranker_fixture.h"

namespace fuseline {
namespace {

class RankTest : public testing::Test {
 protected:
  std::unique_ptr<Ranker> Open(const RankerOptions& options) { return *Ranker::Open(options, log_, metrics_, clock_); }
  double Counted(const std::string& name, const MetricLabels& labels = {}) {
    return metrics_.GetCounter(name, "", labels).value();
  }
  static RankerOptions Options() { return TestOptions("/nonexistent-folder/redis.sock"); }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

TEST_F(RankTest, WithoutAVersionTheLearningArmExploresAroundTheStaticAction) {
  // given
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  const OwnedRequest request(50, 1);

  // when
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(5), reader));

  // then
  ASSERT_EQ(decision.order.size(), 5U);
  EXPECT_EQ(decision.policy_version, 0U);
  EXPECT_EQ(decision.arm, "learning");
  EXPECT_FALSE(decision.fell_back);
  ASSERT_TRUE(decision.box && decision.log_density);
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(Options().ranges));
  const std::vector<float> hand_set(space.static_action().begin(), space.static_action().end());
  double log_density = 0;
  for (std::size_t d = 0; d < decision.action_width; ++d) {
    const double room = std::min(0.15, 1.0 - hand_set[d]) - std::max(-0.15, -1.0 - hand_set[d]);
    log_density -= std::log(room);
    const float noise = decision.executed_action(0)[d] - decision.baseline_action(0)[d];
    for (std::size_t position = 0; position < 5; ++position) {
      EXPECT_EQ(decision.baseline_action(position)[d], hand_set[d]);
      EXPECT_EQ(decision.executed_action(position)[d] - decision.baseline_action(position)[d], noise);
    }
    EXPECT_LE(std::abs(noise), 0.151F);
  }
  EXPECT_NEAR(*decision.log_density, log_density, 1e-5);
}

// BatchRL-MTF's mix, with a version that serves: half of the users are explored around the static action and log version 0.
TEST_F(RankTest, InBatchRlsMixHalfOfTheUsersAreExploredAroundTheStaticAction) {
  // given
  RankerOptions options = Options();
  options.exploration.form = ExplorationForm::kBatchRl;
  const PolicyVersion version = VersionThatSays(30, options);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(version.manifest, *DecodeWeights(version.weights)));
  ASSERT_OK_AND_ASSIGN(const DecisionMaker maker, DecisionMaker::Create(options, metrics_));
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(options.ranges));
  DecisionMaker::Workspace workspace;
  Decision decision;

  int around_static = 0;
  for (int user = 0; user < 200; ++user) {
    OwnedRequest request(3, static_cast<std::uint64_t>(user));
    request.user_id = "u" + std::to_string(user);

    // when
    ASSERT_THAT(maker.Decide(request.view(), {&network, {}, 30}, workspace, decision), IsOk());

    // then
    const bool is_static = decision.policy_version == 0;
    around_static += is_static ? 1 : 0;
    EXPECT_NEAR(decision.baseline_action(0)[0], is_static ? space.static_action()[0] : ActionOf(30), 1e-6);
    EXPECT_NE(decision.executed_actions, decision.baseline_actions);
    ASSERT_TRUE(decision.box && decision.log_density);
    EXPECT_FLOAT_EQ(decision.box->upper, is_static ? 0.6F : 0.3F);
    v1::Event event;
    maker.FillExposure(request.view(), decision, event.mutable_exposure());
    event.set_event_id("e");
    event.set_user_id(request.user_id);
    event.set_event_time_ms(1'000);
    EXPECT_THAT(ValidateEvent(event, EventLimits()), IsOk());
  }
  EXPECT_NEAR(around_static, 100, 40);
}

TEST_F(RankTest, WithFixedBiasesThePowersAloneAreExplored) {
  RankerOptions options = Options();
  options.ranges.set_fixed_biases(true);
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  const OwnedRequest request(20, 1);

  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(5), reader));

  const std::size_t powers = decision.action_width / 2;
  double log_density = 0;
  for (std::size_t d = 0; d < decision.action_width; ++d) {
    const float baseline = decision.baseline_action(0)[d], noise = decision.executed_action(0)[d] - baseline;
    EXPECT_EQ(noise == 0, d >= powers) << "dimension " << d;
    if (d < powers) log_density -= std::log(std::min(0.15, 1.0 - baseline) - std::max(-0.15, -1.0 - baseline));
  }
  EXPECT_NEAR(decision.log_density.value(), log_density, 1e-5);
  const v1::Event event = ranker->MakeExposureEvent(request.view(5), decision);
  EXPECT_EQ(event.exposure().items(0).executed_action_size(), static_cast<int>(2 * powers))
      << "the log has whole actions";
}

TEST_F(RankTest, TheStaticArmExecutesItsActionAndLogsNoDensity) {
  RankerOptions options = Options();
  options.experiments = {LearningBesideStatic("test", 1)};
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  const OwnedRequest request(20, 1);
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(), reader));
  EXPECT_EQ(decision.arm, "static");
  EXPECT_FALSE(decision.box || decision.log_density);
  EXPECT_EQ(decision.executed_actions, decision.baseline_actions);
  EXPECT_EQ(decision.order.size(), 20U);
}

TEST_F(RankTest, TheOrderIsThatOfTheFusedScoresAndTiesKeepTheirPlaces) {
  // given: three candidates that are the same, among others
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  OwnedRequest request(40, 3);
  for (const std::size_t twin : {7U, 21U}) request.candidates[twin] = request.candidates[30];

  // when
  ASSERT_OK_AND_ASSIGN(const Decision whole, ranker->Rank(request.view(), reader));
  ASSERT_OK_AND_ASSIGN(const Decision top, ranker->Rank(request.view(10), reader));

  // then
  ASSERT_OK_AND_ASSIGN(const ActionSpace space, ActionSpace::Create(Options().ranges));
  for (std::size_t position = 0; position < whole.order.size(); ++position) {
    const RankedItem& item = whole.order[position];
    EXPECT_EQ(item.fused_score, space.FusedScore(request.candidates[item.candidate].task_scores, whole.executed_action(position)));
    if (position == 0) continue;
    const RankedItem& before = whole.order[position - 1];
    EXPECT_TRUE(before.fused_score > item.fused_score ||
                (before.fused_score == item.fused_score && before.candidate < item.candidate));
  }
  for (std::size_t position = 0; position < 10; ++position) EXPECT_EQ(top.order[position].candidate, whole.order[position].candidate);
}

TEST_F(RankTest, TheSameRequestIsDecidedTheSameWayAndAnotherOneIsNot) {
  const auto first = Open(Options());
  const auto second = Open(Options());
  auto first_reader = first->NewReader();
  auto second_reader = second->NewReader();
  const OwnedRequest request(10, 4);
  OwnedRequest other(10, 4);
  other.request_id = "another";
  ASSERT_OK_AND_ASSIGN(const Decision a, first->Rank(request.view(), first_reader));
  ASSERT_OK_AND_ASSIGN(const Decision b, second->Rank(request.view(), second_reader));
  ASSERT_OK_AND_ASSIGN(const Decision c, first->Rank(other.view(), first_reader));
  EXPECT_EQ(a.executed_actions, b.executed_actions);
  EXPECT_NE(a.executed_actions, c.executed_actions);
}

TEST_F(RankTest, InputThatIsNotFiniteGetsTheStaticWeightsAndAValidExposure) {
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  using Change = void (*)(OwnedRequest&, float);
  const Change changes[] = {[](OwnedRequest& r, float bad) { r.user_dense[0] = bad; }, [](OwnedRequest& r, float bad) { r.context_dense[2] = bad; },
                            [](OwnedRequest& r, float bad) { r.dense[3][1] = bad; }, [](OwnedRequest& r, float bad) { r.scores[3][4] = bad; }};
  for (const Change change : changes) {
    for (const float bad : {nan, infinity, -infinity}) {
      OwnedRequest request(5, 1);
      change(request, bad);
      ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(), reader));
      EXPECT_TRUE(decision.fell_back);
      EXPECT_FALSE(decision.box || decision.log_density);
      EXPECT_EQ(decision.executed_actions, decision.baseline_actions);
      for (const RankedItem& item : decision.order) EXPECT_TRUE(std::isfinite(item.fused_score));
      EXPECT_THAT(ValidateEvent(ranker->MakeExposureEvent(request.view(), decision), EventLimits()), IsOk());
    }
  }
}

TEST_F(RankTest, RequestsThatTheSchemaDoesNotDescribeAreRefusedAndCountedByReason) {
  RankerOptions options = Options();
  options.max_candidates = 5;
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  struct Case {
    const char* reason;
    void (*change)(OwnedRequest&);
  };
  const Case cases[] = {
      {"identity", [](OwnedRequest& r) { r.request_id.clear(); }},
      {"identity", [](OwnedRequest& r) { r.user_id.clear(); }},
      {"candidates", [](OwnedRequest& r) { r.item_ids.pop_back(); }},
      {"candidates", [](OwnedRequest& r) { r.candidates.push_back(r.candidates[0]); }},
      {"schema", [](OwnedRequest& r) { r.user_dense.pop_back(); }},
      {"schema", [](OwnedRequest& r) { r.context_dense.push_back(1); }},
      {"schema", [](OwnedRequest& r) { r.user_ids.clear(); }},
      {"schema", [](OwnedRequest& r) { r.candidates[1].task_scores = {}; }},
      {"schema", [](OwnedRequest& r) { r.candidates[1].features.ids = {}; }},
  };
  int ranked = 0;
  for (const Case& bad : cases) {
    OwnedRequest request(5, 1);
    EXPECT_THAT(ranker->Rank(request.view(), reader), IsOk());
    ++ranked;
    bad.change(request);
    const auto refused = [&] {
      return Counted("fuseline_serving_bridge_requests_refused_total", {{"reason", bad.reason}});
    };
    const double before = refused();
    EXPECT_THAT(ranker->Rank(request.view(), reader), HasCode(Code::kInvalidInput)) << bad.reason;
    EXPECT_EQ(refused(), before + 1) << bad.reason;
  }
  EXPECT_EQ(Counted("fuseline_serving_bridge_requests_total", {{"experiment", "test"}, {"arm", "learning"}}), ranked)
      << "what is refused was not ranked";
}

TEST_F(RankTest, NoCandidatesAreAnEmptyDecisionThatIsCounted) {
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  const OwnedRequest request(0, 1);
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(5), reader));
  EXPECT_TRUE(decision.order.empty());
  EXPECT_FALSE(decision.log_density);
  EXPECT_EQ(Counted("fuseline_serving_bridge_requests_empty_total"), 1);
}

TEST_F(RankTest, ScoresOutsideTheirTaskAreCutBeforeTheyAreFused) {
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  OwnedRequest inside(2, 1);
  OwnedRequest outside(2, 1);
  inside.scores[0][0] = 1.0F;
  outside.scores[0][0] = 7.0F;
  ASSERT_OK_AND_ASSIGN(const Decision a, ranker->Rank(inside.view(), reader));
  ASSERT_OK_AND_ASSIGN(const Decision b, ranker->Rank(outside.view(), reader));
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(a.order[i].fused_score, b.order[i].fused_score);
}

TEST_F(RankTest, TheExposureHoldsWhatTheTransitionNeeds) {
  // given
  const auto ranker = Open(Options());
  auto reader = ranker->NewReader();
  const OwnedRequest request(30, 8);
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.view(5), reader));

  // when
  const v1::Event event = ranker->MakeExposureEvent(request.view(5), decision);

  // then
  EXPECT_THAT(ValidateEvent(event, EventLimits()), IsOk());
  EXPECT_EQ(event.event_id(), "exposure-request-8");
  EXPECT_EQ(event.user_id(), "u42");
  EXPECT_EQ(event.event_time_ms(), 1'000);
  const v1::Exposure& exposure = event.exposure();
  EXPECT_EQ(exposure.request_id(), "request-8");
  EXPECT_EQ(exposure.surface(), "feed");
  EXPECT_EQ(exposure.schema_digest(), SchemaDigest(Options().schema));
  EXPECT_EQ(exposure.experiment(), "test");
  EXPECT_EQ(exposure.arm(), "learning");
  EXPECT_EQ(exposure.log_density(), *decision.log_density);
  EXPECT_EQ(exposure.box().upper(), 0.15F);
  ASSERT_EQ(exposure.items_size(), 5);
  for (int position = 0; position < 5; ++position) {
    const v1::ExposedItem& item = exposure.items(position);
    const RankedItem& ranked = decision.order[static_cast<std::size_t>(position)];
    EXPECT_EQ(item.item_id(), request.names[ranked.candidate]);
    EXPECT_EQ(item.position(), static_cast<std::uint32_t>(position));
    EXPECT_TRUE(std::equal(item.task_scores().begin(), item.task_scores().end(), request.scores[ranked.candidate].begin()));
    EXPECT_TRUE(std::equal(item.item_features().dense().begin(), item.item_features().dense().end(), request.dense[ranked.candidate].begin()));
    EXPECT_TRUE(std::equal(item.executed_action().begin(), item.executed_action().end(),
                           decision.executed_action(static_cast<std::size_t>(position)).begin()));
    EXPECT_FLOAT_EQ(item.fused_score(), static_cast<float>(ranked.fused_score));
  }
}

TEST_F(RankTest, ThePrecisionIsASettingAndAMetricSaysWhetherTheProcessorHasIt) {
  // given
  ASSERT_OK_AND_ASSIGN(const auto config, LoadSettings({.file = "", .environment = {}, .flags = {"ranker.precision=bfloat16"}}));
  ASSERT_OK_AND_ASSIGN(const RankerOptions asked, RankerOptionsOf(config));
  EXPECT_EQ(asked.precision, Precision::kBfloat16);
  RankerOptions options = Options();
  EXPECT_EQ(options.precision, Precision::kFloat32);
  const auto gauge = [&] { return metrics_.GetGauge("fuseline_serving_bridge_bfloat16", "").value(); };

  // when
  (void)Open(options);
  EXPECT_EQ(gauge(), 0);
  options.precision = asked.precision;
  (void)Open(options);

  // then
  EXPECT_EQ(gauge(), HasBfloat16() ? 1 : 0);
}

TEST_F(RankTest, OptionsThatContradictThemselvesAreRefused) {
  using Change = void (*)(RankerOptions&);
  const Change changes[] = {[](RankerOptions& o) { o.policy = "no {braces}"; }, [](RankerOptions& o) { o.name.clear(); },
                            [](RankerOptions& o) { o.schema.clear_tasks(); },   [](RankerOptions& o) { o.ranges.Clear(); },
                            [](RankerOptions& o) { o.box.lower = 0.1F; },       [](RankerOptions& o) { o.experiments[0].set_coverage(10'001); },
                            [](RankerOptions& o) { o.poll_interval_ms = 0; }};
  for (std::size_t i = 0; i < std::size(changes); ++i) {
    RankerOptions options = Options();
    changes[i](options);
    EXPECT_THAT(Ranker::Open(options, log_, metrics_, clock_), HasCode(Code::kInvalidInput)) << i;
  }
}

TEST_F(RankTest, WithoutAScorerFeaturesAloneAreRankedByTheTasksMinimaAndCounted) {
  // given
  RankerOptions options = Options();
  options.scorer = true;
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  OwnedRequest request(20, 1);

  // when
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.unscored(3), reader));

  // then
  ASSERT_EQ(decision.order.size(), 3U);
  EXPECT_EQ(decision.order[0].candidate, 0U) << "all are equal";
  EXPECT_EQ(decision.scorer_version, 0U);
  const v1::Event event = ranker->MakeExposureEvent(request.unscored(3), decision);
  EXPECT_THAT(ValidateEvent(event, EventLimits()), IsOk());
  for (int k = 0; k < options.schema.tasks_size(); ++k) EXPECT_EQ(event.exposure().items(2).task_scores(k), options.schema.tasks(k).min());
  EXPECT_EQ(Counted("fuseline_serving_bridge_unscored_total", {{"reason", "scorer"}}), 1);
  EXPECT_EQ(Counted("fuseline_serving_bridge_scores_clamped_total"), 0);
}

TEST_F(RankTest, ARequestBringsTaskScoresOfAllItsCandidatesOrOfNone) {
  RankerOptions options = Options();
  options.scorer = true;
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  OwnedRequest request(4, 1);
  for (const std::size_t without : {0U, 2U}) {
    request.bare = request.candidates;
    request.bare[without].task_scores = {};
    RankingRequest mixed = request.view();
    mixed.candidates = request.bare;
    EXPECT_THAT(ranker->Rank(mixed, reader), testing::AllOf(HasCode(Code::kInvalidInput), MessageNames("number of task scores")));
  }
}

// A version in a folder, as the archive writes one.
class VersionFolder {
 public:
  explicit VersionFolder(const PolicyVersion& version) {
    EXPECT_THAT(WriteFileAtomically(folder_ / "manifest.pb", CanonicalBytes(version.manifest)), IsOk());
    EXPECT_THAT(WriteFileAtomically(folder_ / "weights.safetensors", version.weights), IsOk());
  }
  std::string path() const { return folder_.path(); }

 private:
  test::TempDir folder_;
};

TEST_F(RankTest, AScorerBesideAVersionServesFromFoldersWithoutRedis) {
  // given
  RankerOptions options = Options();
  const VersionFolder version(VersionThatSays(3, options)), scorer(ScorerThatSays(8, options));
  options.version_folder = version.path();
  options.scorer_folder = scorer.path();
  const auto ranker = Open(options);
  auto reader = ranker->NewReader();
  OwnedRequest request(20, 1);

  // when
  ASSERT_OK_AND_ASSIGN(const Decision decision, ranker->Rank(request.unscored(3), reader));

  // then
  EXPECT_EQ(decision.policy_version, 3U);
  EXPECT_EQ(decision.scorer_version, 8U);
  EXPECT_NEAR(decision.task_scores_of(2)[0], ShareOf(8), 1e-5);
  EXPECT_EQ(ranker->status().scorer_version, 8U);

  // A feature that is not finite: the static weights and the minima, counted.
  request.dense[1][0] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_OK_AND_ASSIGN(const Decision fallen, ranker->Rank(request.unscored(3), reader));
  EXPECT_TRUE(fallen.fell_back);
  EXPECT_EQ(fallen.scorer_version, 0U);
  EXPECT_EQ(Counted("fuseline_serving_bridge_unscored_total", {{"reason", "input"}}), 1);

  // And a policy's version is no scorer.
  options.scorer_folder = version.path();
  EXPECT_THAT(Ranker::Open(options, log_, metrics_, clock_), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
