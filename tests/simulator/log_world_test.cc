// The world of a log's own users and items, proven with a model small enough to compute by hand: its names, features,
// context and scores are the file's, what users do is what its scores say, and a ranker may be asked without scores.

#include <cmath>
#include <fstream>
#include <numbers>

#include "fuseline/fusion/whole_numbers.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/local_rankers.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "small_response_model.h"

namespace fuseline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint32_t kUsers = 20, kItems = 30, kTabs = 2, kColumns = 16;

v1::FeatureSchema LogSchema() {
  v1::FeatureSchema schema;
  const auto dense = [&](const char* name, v1::FeatureScope scope, std::uint32_t width) {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_dense()->set_width(width);
  };
  const auto categorical = [&](const char* name, v1::FeatureScope scope) {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_categorical()->set_buckets(8);
  };
  dense("age", v1::USER, 1);
  categorical("city", v1::USER);
  dense("hour", v1::CONTEXT, 2);
  categorical("tab", v1::CONTEXT);
  dense("size", v1::ITEM, 2);
  categorical("tag", v1::ITEM);
  for (const char* name : {"click", "long_view", "like", "comment", "forward", "watch"}) {
    v1::Task& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(std::string(name) == "watch" ? 600 : 1);
  }
  return schema;
}

// User u: id 1,000 + u, age u / 10, city 2^40 + u, in tab u % 2; item i: id 500 - i, size (i, -i), tag 7 i. Tab 1 lifts
// the first expert.
TensorMap LogModel() {
  TensorMap model = test::SmallModel(kUsers, kItems);
  model["schema"] = TensorOfBytes(CanonicalBytes(LogSchema()));
  std::vector<std::uint64_t> user_ids, cities, item_ids, tags;
  Tensor ages{{kUsers, 1}, {}}, sizes{{kItems, 2}, {}}, tabs{{kUsers}, {}};
  for (std::uint32_t u = 0; u < kUsers; ++u) {
    user_ids.push_back(1'000 + u);
    cities.push_back((std::uint64_t{1} << 40) + u);
    ages.values.push_back(static_cast<float>(u) / 10);
    tabs.values.push_back(static_cast<float>(u % kTabs));
  }
  for (std::uint32_t i = 0; i < kItems; ++i) {
    item_ids.push_back(500 - i);
    tags.push_back(7 * i);
    sizes.values.insert(sizes.values.end(), {static_cast<float>(i), -static_cast<float>(i)});
  }
  model["user.id"] = TensorOfIds(user_ids, 1);
  model["user.dense"] = ages;
  model["user.ids"] = TensorOfIds(cities, 1);
  model["user.tab"] = tabs;
  model["item.id"] = TensorOfIds(item_ids, 1);
  model["item.dense"] = sizes;
  model["item.ids"] = TensorOfIds(tags, 1);
  model["tab.id"] = TensorOfIds(std::vector<std::uint64_t>{111, 222}, 1);
  Tensor first{{kTabs, kColumns}, std::vector<float>(kTabs * kColumns, 0)};
  first.values[kColumns] = 0.5F;
  model["tab.first"] = first;
  return model;
}

class LogWorldTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<World>> Open(const TensorMap& model) {
    std::ofstream(dir_ / "response_model.safetensors") << EncodeWeights(model);
    std::ofstream(dir_ / "world.yaml") << "kind: kuairand\npopulation: {users: 10, items: 30, candidates: 12, exposed: 3}\n";
    return OpenWorld(dir_ / "world.yaml", 3, DefaultSettings().rewards());
  }
  test::TempDir dir_;
};

TEST_F(LogWorldTest, ItsUsersItemsAndFeaturesAreTheLogs) {
  ASSERT_OK_AND_ASSIGN(const auto world, Open(LogModel()));

  EXPECT_EQ(world->schema_digest(), SchemaDigest(LogSchema()));
  EXPECT_EQ(world->UserId(7), "1007");
  EXPECT_EQ(world->UserOf("1007"), 7U);
  EXPECT_THAT(world->UserOf("1010"), HasCode(Code::kNotFound)) << "the population is the first ten";
  EXPECT_EQ(world->ItemId(3), "497");
  EXPECT_EQ(world->ItemOf("497"), 3U);
  EXPECT_THAT(world->UserFeatures(7).dense, ElementsAre(0.7F));
  EXPECT_THAT(world->UserFeatures(7).ids, ElementsAre((std::uint64_t{1} << 40) + 7));
  EXPECT_THAT(world->ItemFeatures(3).dense, ElementsAre(3, -3));
  EXPECT_THAT(world->ItemFeatures(3).ids, ElementsAre(21));
}

TEST_F(LogWorldTest, TheContextIsTheLocalHourAndTheUsersTab) {
  ASSERT_OK_AND_ASSIGN(const auto world, Open(LogModel()));
  RequestContext context;

  world->ContextFeatures(7, 4 * 3'600'000, {}, &context);  // Noon in UTC+8.

  EXPECT_NEAR(context.dense.at(0), std::sin(std::numbers::pi), 1e-6);
  EXPECT_NEAR(context.dense.at(1), std::cos(std::numbers::pi), 1e-6);
  EXPECT_THAT(context.ids, ElementsAre(222));
  world->ContextFeatures(6, 0, {}, &context);
  EXPECT_THAT(context.ids, ElementsAre(111));
}

TEST_F(LogWorldTest, AUserAnswersAsInItsTab) {
  ASSERT_OK_AND_ASSIGN(const auto world, Open(LogModel()));
  TensorMap without = LogModel();
  for (float& value : without["tab.first"].values) value = 0;
  ASSERT_OK_AND_ASSIGN(const auto flat, Open(without));

  EXPECT_GT(world->Truth(7, 3).click, flat->Truth(7, 3).click + 0.05);
  EXPECT_EQ(world->Truth(6, 3).click, flat->Truth(6, 3).click);
}

TEST_F(LogWorldTest, ScoresAreWhatHappensInTheMean) {
  ASSERT_OK_AND_ASSIGN(const auto world, Open(LogModel()));
  const std::uint32_t item = 11;
  std::array<float, 6> scores{};
  world->Scores(7, {&item, 1}, scores);
  std::array<double, 6> mean{};
  Random random(1, "test", 0);
  constexpr int kTries = 200'000;
  for (int n = 0; n < kTries; ++n) {
    const Response response = world->React(7, item, random);
    const bool long_view = response.click && response.watch_ms >= std::min<std::int64_t>(world->DurationMs(item), 18'000);
    const std::array<double, 6> seen = {double(response.click), double(long_view),      double(response.like),
                                        double(response.comment), double(response.share), static_cast<double>(response.watch_ms) / 1000};
    for (std::size_t t = 0; t < seen.size(); ++t) mean[t] += seen[t] / kTries;
  }
  for (std::size_t t = 0; t < 5; ++t) EXPECT_NEAR(scores[t], mean[t], 0.005) << "task " << t;
  EXPECT_NEAR(scores[5], mean[5], 0.02 * mean[5]);
}

// Keeps what it was asked.
class Listener final : public RankService {
 public:
  explicit Listener(const World& world) : world_(world) {}
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override {
    for (const CandidateView& candidate : request.candidates) scores += candidate.task_scores.size();
    ids += request.context.ids.size();
    ++requests;
    for (std::size_t i = 0; i < request.expose_count; ++i) exposure->add_items()->set_item_id(std::string(request.item_ids[i]));
    exposure->set_arm("arm");
    return world_.UserOf(request.user_id) ? OkStatus() : ErrorStatus(Code::kInternal, "unknown user");
  }
  std::size_t scores = 0, ids = 0, requests = 0;

 private:
  const World& world_;
};

class Nowhere final : public EventSink {
 public:
  Status Append(v1::Event&&) override { return OkStatus(); }
};

TEST_F(LogWorldTest, ARankerWithAScorerIsAskedWithoutScores) {
  ASSERT_OK_AND_ASSIGN(const auto world, Open(LogModel()));
  Nowhere nowhere;
  for (const ScoresOf scores_of : {ScoresOf::kWorld, ScoresOf::kRanker}) {
    Listener listener(*world);
    Simulation simulation(*world, listener, nowhere, 1'700'000'000'000, 1'000, {}, scores_of);

    ASSERT_THAT(simulation.RunUntil({.max_events = 500}), IsOk());

    EXPECT_GT(listener.requests, 10U);
    EXPECT_EQ(listener.ids, listener.requests) << "each knows its tab";
    EXPECT_EQ(listener.scores, scores_of == ScoresOf::kWorld ? 6 * 12 * listener.requests : 0);
  }
}

TEST_F(LogWorldTest, AFileWithoutTheLogsPartNamesTheCommandAndABentOneIsCorrupt) {
  const auto old = Open(test::SmallModel(kUsers, kItems));
  ASSERT_THAT(old, HasCode(Code::kInvalidInput));
  EXPECT_THAT(old.error().message, HasSubstr("fuseline world fit"));
  for (const char* name : {"user.id", "user.dense", "user.ids", "user.tab", "item.id", "item.dense", "item.ids", "tab.id", "tab.first"}) {
    TensorMap bent = LogModel();
    bent[name].shape = {4};
    bent[name].values = {1, 1, 1, 1};
    EXPECT_THAT(Open(bent), HasCode(Code::kCorrupt)) << name;
  }
  TensorMap nobody = LogModel();
  nobody["user.tab"].values[3] = 2;
  EXPECT_THAT(Open(nobody), HasCode(Code::kCorrupt));
  TensorMap unreadable = LogModel();
  unreadable["schema"] = TensorOfBytes("no schema");
  EXPECT_THAT(Open(unreadable), HasCode(Code::kCorrupt));
}

TEST_F(LogWorldTest, TwoUsersOfOneNameAreRefused) {
  TensorMap model = LogModel();
  model["user.id"] = TensorOfIds(std::vector<std::uint64_t>(kUsers, 5), 1);
  EXPECT_THAT(Open(model), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
