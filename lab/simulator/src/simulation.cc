#include "fuseline/simulator/simulation.h"

#include <algorithm>
#include <queue>
#include <vector>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::int64_t kHourMs = 3'600'000;

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
  Mood mood;
  std::uint32_t requests = 0;   // Ever: the counter of its draws.
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
  ScoresOf scores_of;
  std::priority_queue<Action, std::vector<Action>, LaterAction> due{};
  std::vector<UserState> users{};
  std::uint64_t sequence = 0;
  std::uint64_t appended = 0;
  std::uint64_t sessions = 0;  // Finished.
  std::int64_t now_ms = 0;
  ArmStatistics statistics{};
  // Buffers of one request.
  std::vector<std::uint32_t> candidate_items{};
  std::vector<std::string_view> item_ids{};
  std::vector<CandidateView> candidates{};
  std::vector<float> scores{};
  RequestContext context{};
  std::vector<Response> responses{};

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
  Result<std::int64_t> LookAt(std::uint32_t user, const v1::Exposure& exposure, Random& random);
  void PlanFeedback(Action action, const Response& response, std::int64_t begin_ms, Random& random);
  void PlanNext(std::uint32_t user, const std::string& arm, std::int64_t end_ms, Random& random);
};

RankingRequest Simulation::Impl::BuildRequest(std::uint32_t user, std::string_view user_id,
                                              std::string_view request_id) {
  const std::size_t n = world.candidate_count();
  world.Candidates(user, users[user].requests, &candidate_items);
  item_ids.resize(n);
  candidates.resize(n);
  const std::size_t tasks = scores_of == ScoresOf::kWorld ? world.task_count() : 0;
  scores.resize(n * tasks);
  if (tasks > 0) world.Scores(user, candidate_items, scores);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t item = candidate_items[i];
    item_ids[i] = world.ItemId(item);
    candidates[i] = {world.ItemFeatures(item), std::span(scores).subspan(i * tasks, tasks)};
  }
  world.ContextFeatures(user, now_ms, users[user].mood, &context);
  RankingRequest request;
  request.user_id = user_id;
  request.request_id = request_id;
  request.surface = "feed";
  request.event_time_ms = now_ms;
  request.user = world.UserFeatures(user);
  request.context = context.view();
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
  FUSELINE_ASSIGN_OR_RETURN(const std::int64_t end_ms, LookAt(user, exposure, random));
  ++state.requests;
  ++state.session.requests;
  const std::string arm = exposure.arm();
  FUSELINE_RETURN_IF_ERROR(Send(user, std::move(event)));
  PlanNext(user, arm, end_ms, random);
  return OkStatus();
}

// The user looks at the items one after another. Returns when it is done.
Result<std::int64_t> Simulation::Impl::LookAt(std::uint32_t user, const v1::Exposure& exposure, Random& random) {
  UserState& state = users[user];
  std::int64_t at_ms = now_ms;
  responses.clear();
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
    responses.push_back(response);
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
  if (response.comment) plan(v1::Feedback::COMMENT, end_ms + DrawMs(random, 5'000, 60'000));
  if (response.follow) plan(v1::Feedback::FOLLOW, end_ms + DrawMs(random, 1'000, 15'000));
  if (!response.share) return;
  const bool late = random.NextUniform() < kShareLate;
  plan(v1::Feedback::SHARE, end_ms + (late ? DrawMs(random, 45 * 60'000, 6.0 * kHourMs) : DrawMs(random, 5'000, 60'000)));
}

// Stay, or leave and come back.
void Simulation::Impl::PlanNext(std::uint32_t user, const std::string& arm, std::int64_t end_ms, Random& random) {
  UserState& state = users[user];
  const NextVisit next = world.AfterRequest(user, responses, random, &state.mood);
  if (next.leaves) {
    state.session.sessions = 1;
    statistics.AddSession(arm, user, state.session);
    state.session = {};
    ++sessions;
  }
  Plan({end_ms + next.wait_ms, 0, ActionKind::kRequest, v1::Feedback::UNSPECIFIED, user, 0, 0, 0});
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
                       std::int64_t spread_ms, const Visitors& visitors, ScoresOf scores_of)
    : impl_(new Impl{world, ranker, sink, std::to_string(world.seed()) + "-", scores_of}) {
  FUSELINE_CHECK(visitors.first_user < world.user_count());
  const std::size_t end = std::min<std::size_t>(world.user_count(), std::size_t{visitors.first_user} + visitors.users);
  impl_->now_ms = start_ms;
  impl_->users.resize(end);
  for (std::uint32_t user = visitors.first_user; user < end; ++user) {
    impl_->users[user].mood = world.FirstMood(user);
    impl_->users[user].requests = visitors.first_request;
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
std::uint64_t Simulation::sessions() const { return impl_->sessions; }
const ArmStatistics& Simulation::statistics() const { return impl_->statistics; }

}  // namespace fuseline
