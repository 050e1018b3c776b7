#include "fuseline/simulator/simulation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <queue>
#include <vector>

#include "segments.h"

namespace fuseline {
namespace {

constexpr std::int64_t kHourMs = 3'600'000;
constexpr std::int64_t kDayMs = 24 * kHourMs;

// Satisfaction: where a session starts, how much of it one request replaces, and what it does to leaving and coming back.
constexpr double kFirstMood = 0.2, kMoodCarriesOver = 0.3, kRequestWeighs = 0.4;
constexpr double kLeaveBase = 0.2, kLeaveFalls = 6;  // P(leave) = sigmoid(base - falls * satisfaction).
constexpr double kReturnMeanMs = 5.0 * kHourMs, kReturnFalls = 1.5;
constexpr std::int64_t kReturnLeastMs = 45 * 60'000;  // Beyond the default gap: a new session to the pipeline too.
constexpr std::int64_t kReturnMostMs = 36 * kHourMs;
constexpr double kShareLate = 0.05;                   // Of shares: after the session, an orphan to the pipeline.

enum class ActionKind : std::uint8_t { kRequest, kFeedback };

// What is due: a user's next request, or a piece of feedback.
struct Action {
  std::int64_t time_ms;
  std::uint64_t sequence;  // Among equal times: in the order they were planned.
  ActionKind kind;
  v1::Feedback::Kind feedback;
  std::uint32_t user;
  std::uint32_t item;
  std::uint32_t request;
  std::int64_t watch_ms;
};
struct LaterAction {
  bool operator()(const Action& a, const Action& b) const {
    return a.time_ms != b.time_ms ? a.time_ms > b.time_ms : a.sequence > b.sequence;
  }
};

struct UserState {
  double satisfaction = kFirstMood;
  std::uint32_t requests = 0;   // Ever: the counter of its draws.
  std::uint32_t depth = 0;      // Requests of the session so far.
  std::uint32_t events = 0;     // Ever: the counter of its event ids.
  UserTotals session;
};

std::int64_t DrawMs(Random& random, double lo_ms, double hi_ms) {
  return static_cast<std::int64_t>(random.NextUniform(lo_ms, hi_ms));
}

}  // namespace

struct Simulation::Impl {
  const World& world;
  RankService& ranker;
  EventSink& sink;
  std::string prefix;  // Of ids: the seed.
  std::priority_queue<Action, std::vector<Action>, LaterAction> due{};
  std::vector<UserState> users{};
  std::uint64_t sequence = 0;
  std::uint64_t appended = 0;
  std::int64_t now_ms = 0;
  ArmStatistics statistics{};
  // Buffers of one request.
  std::vector<std::uint32_t> candidate_items{};
  std::vector<std::string_view> item_ids{};
  std::vector<CandidateView> candidates{};
  std::vector<float> scores{};
  std::array<float, 3> context{};

  void Plan(Action action) {
    action.sequence = sequence++;
    due.push(action);
  }
  std::string RequestId(std::uint32_t user, std::uint32_t request) const {
    return prefix + std::to_string(user) + "-r" + std::to_string(request);
  }
  RankingRequest BuildRequest(std::uint32_t user, std::string_view user_id, std::string_view request_id);
  Status Request(std::uint32_t user);
  Status Send(std::uint32_t user, v1::Event&& event);
  Status SendFeedback(const Action& action);
  Result<std::int64_t> LookAt(std::uint32_t user, const v1::Exposure& exposure, Random& random, double* pleased);
  void PlanFeedback(Action action, const Response& response, std::int64_t begin_ms, Random& random);
  void PlanNext(std::uint32_t user, const std::string& arm, std::int64_t end_ms, Random& random);
};

RankingRequest Simulation::Impl::BuildRequest(std::uint32_t user, std::string_view user_id,
                                              std::string_view request_id) {
  const std::size_t n = world.candidate_count();
  world.Candidates(user, users[user].requests, &candidate_items);
  item_ids.resize(n);
  candidates.resize(n);
  scores.resize(n * kScoredTasks);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t item = candidate_items[i];
    const auto of_item = std::span(scores).subspan(i * kScoredTasks, kScoredTasks);
    world.Scores(user, item, of_item);
    item_ids[i] = world.ItemId(item);
    candidates[i] = {world.ItemFeatures(item), of_item};
  }
  const double angle = 2 * std::numbers::pi * static_cast<double>(now_ms % kDayMs) / static_cast<double>(kDayMs);
  context = {static_cast<float>(std::sin(angle)), static_cast<float>(std::cos(angle)),
             static_cast<float>(users[user].depth)};
  RankingRequest request;
  request.user_id = user_id;
  request.request_id = request_id;
  request.surface = "feed";
  request.event_time_ms = now_ms;
  request.user = world.UserFeatures(user);
  request.context = {context, {}};
  request.item_ids = item_ids;
  request.candidates = candidates;
  request.expose_count = world.exposed_count();
  return request;
}

Status Simulation::Impl::Send(std::uint32_t user, v1::Event&& event) {
  event.set_event_id(prefix + std::to_string(user) + "-" + std::to_string(users[user].events++));
  event.set_event_time_ms(now_ms);
  ++appended;
  return sink.Append(std::move(event));
}

Status Simulation::Impl::Request(std::uint32_t user) {
  UserState& state = users[user];
  const std::string user_id = world.UserId(user);
  const std::string request_id = RequestId(user, state.requests);
  v1::Event event;
  event.set_user_id(user_id);
  auto& exposure = *event.mutable_exposure();
  FUSELINE_RETURN_IF_ERROR(ranker.Rank(BuildRequest(user, user_id, request_id), &exposure));

  Random random(world.seed(), "simulator.reaction", (std::uint64_t{user} << 32) ^ state.requests);
  double pleased = 0;
  FUSELINE_ASSIGN_OR_RETURN(const std::int64_t end_ms, LookAt(user, exposure, random, &pleased));
  state.satisfaction += kRequestWeighs * (pleased - state.satisfaction);
  ++state.requests;
  ++state.depth;
  ++state.session.requests;
  const std::string arm = exposure.arm();
  FUSELINE_RETURN_IF_ERROR(Send(user, std::move(event)));
  PlanNext(user, arm, end_ms, random);
  return OkStatus();
}

// The user looks at the items one after another. Returns when it is done; `pleased`: mean satisfaction of the items.
Result<std::int64_t> Simulation::Impl::LookAt(std::uint32_t user, const v1::Exposure& exposure, Random& random,
                                              double* pleased) {
  UserState& state = users[user];
  std::int64_t at_ms = now_ms;
  for (const auto& shown : exposure.items()) {
    const auto found = world.ItemOf(shown.item_id());
    if (!found || std::find(candidate_items.begin(), candidate_items.end(), *found) == candidate_items.end()) {
      return Error(Code::kInvalidInput, "the ranker exposed what was not offered:", shown.item_id());
    }
    const Response response = world.React(user, *found, random);
    at_ms += DrawMs(random, 500, 2000);  // Looking at the cover.
    Action action{0, 0, ActionKind::kFeedback, v1::Feedback::CLICK, user, static_cast<std::uint32_t>(*found), state.requests, 0};
    if (response.click) PlanFeedback(action, response, at_ms, random);
    at_ms += response.watch_ms;
    *pleased += response.satisfaction / exposure.items_size();
    ++state.session.exposed;
    state.session.clicks += response.click;
    state.session.valid += response.valid;
    state.session.likes += response.like;
    state.session.shares += response.share;
    state.session.watch_s += static_cast<double>(response.watch_ms) / 1000;
    state.session.reward += response.reward;
  }
  return at_ms;
}

void Simulation::Impl::PlanFeedback(Action action, const Response& response, std::int64_t begin_ms, Random& random) {
  const auto plan = [&](v1::Feedback::Kind kind, std::int64_t time_ms) {
    if (random.NextUniform() < world.feedback_missing()) return;
    action.feedback = kind;
    action.time_ms = time_ms;
    action.watch_ms = kind == v1::Feedback::WATCH || kind == v1::Feedback::COMPLETE ? response.watch_ms : 0;
    Plan(action);
  };
  const std::int64_t end_ms = begin_ms + response.watch_ms;
  plan(v1::Feedback::CLICK, begin_ms);
  plan(v1::Feedback::WATCH, end_ms);
  if (response.complete) plan(v1::Feedback::COMPLETE, end_ms);
  if (response.like) plan(v1::Feedback::LIKE, end_ms + DrawMs(random, 1'000, 15'000));
  if (!response.share) return;
  const bool late = random.NextUniform() < kShareLate;
  plan(v1::Feedback::SHARE, end_ms + (late ? DrawMs(random, 45 * 60'000, 6.0 * kHourMs) : DrawMs(random, 5'000, 60'000)));
}

// Stay, or leave and come back: the less satisfied, the sooner the one and the later the other.
void Simulation::Impl::PlanNext(std::uint32_t user, const std::string& arm, std::int64_t end_ms, Random& random) {
  UserState& state = users[user];
  const double leave = 1 / (1 + std::exp(-(kLeaveBase - kLeaveFalls * state.satisfaction)));
  std::int64_t wait_ms = DrawMs(random, 1'000, 4'000);
  if (random.NextUniform() < leave) {
    state.session.sessions = 1;
    statistics.AddSession(arm, user, state.session);
    const double mean_ms = kReturnMeanMs * std::exp(-kReturnFalls * state.satisfaction);
    const auto drawn_ms = static_cast<std::int64_t>(-mean_ms * std::log(1 - random.NextUniform()));
    wait_ms = std::min(kReturnLeastMs + drawn_ms, kReturnMostMs);
    state.session = {};
    state.depth = 0;
    state.satisfaction = kFirstMood + kMoodCarriesOver * (state.satisfaction - kFirstMood);
  }
  Plan({end_ms + wait_ms, 0, ActionKind::kRequest, v1::Feedback::UNSPECIFIED, user, 0, 0, 0});
}

Status Simulation::Impl::SendFeedback(const Action& action) {
  v1::Event event;
  event.set_user_id(world.UserId(action.user));
  auto& feedback = *event.mutable_feedback();
  feedback.set_request_id(RequestId(action.user, action.request));
  feedback.set_item_id(world.ItemId(action.item));
  feedback.set_kind(action.feedback);
  if (action.feedback == v1::Feedback::WATCH || action.feedback == v1::Feedback::COMPLETE) {
    feedback.set_watch_ms(action.watch_ms);
    feedback.set_item_duration_ms(world.DurationMs(action.item));
  }
  return Send(action.user, std::move(event));
}

Simulation::Simulation(const World& world, RankService& ranker, EventSink& sink, std::int64_t start_ms,
                       std::int64_t spread_ms)
    : impl_(new Impl{world, ranker, sink, std::to_string(world.seed()) + "-"}) {
  impl_->now_ms = start_ms;
  impl_->users.resize(world.user_count());
  for (std::uint32_t user = 0; user < world.user_count(); ++user) {
    Random random(world.seed(), "simulator.entry", user);
    const auto offset_ms = static_cast<std::int64_t>(random.NextUniform() * static_cast<double>(spread_ms));
    impl_->Plan({start_ms + offset_ms, 0, ActionKind::kRequest, v1::Feedback::UNSPECIFIED, user, 0, 0, 0});
  }
}

Simulation::~Simulation() = default;

Status Simulation::Step() {
  const Action action = impl_->due.top();  // Never empty: each user always has its next request there.
  impl_->due.pop();
  impl_->now_ms = action.time_ms;
  return action.kind == ActionKind::kRequest ? impl_->Request(action.user) : impl_->SendFeedback(action);
}

Result<std::uint64_t> Simulation::RunUntil(const SimulationLimits& limits, std::stop_token stop) {
  const std::uint64_t before = impl_->appended;
  while (!stop.stop_requested() && impl_->appended - before < limits.max_events && !impl_->due.empty() &&
         impl_->due.top().time_ms <= limits.until_ms) {
    FUSELINE_FAIL_IF_ERROR(Step());
  }
  return impl_->appended - before;
}

Status Simulation::Drain() {
  for (; !impl_->due.empty(); impl_->due.pop()) {
    const Action& action = impl_->due.top();
    if (action.kind == ActionKind::kRequest) continue;
    impl_->now_ms = action.time_ms;
    FUSELINE_RETURN_IF_ERROR(impl_->SendFeedback(action));
  }
  return OkStatus();
}

std::int64_t Simulation::now_ms() const { return impl_->now_ms; }
std::uint64_t Simulation::events() const { return impl_->appended; }
const ArmStatistics& Simulation::statistics() const { return impl_->statistics; }

}  // namespace fuseline
