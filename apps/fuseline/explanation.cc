#include "explanation.h"

#include <array>
#include <cstdio>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "event_text.h"
#include "fuseline/core/digest.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/settings.h"
#include "fuseline/proto/trajectory_name.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;
using Groups = std::array<double, kRewardGroups>;

constexpr std::array<const char*, kRewardComponents> kComponentNames = {
    "watch_ms", "clicks", "completes", "likes", "shares", "comments", "collects", "follows", "profiles", "dislikes"};

std::string GroupsText(const Groups& groups) {
  std::string text;
  for (std::size_t group = 0; group < kRewardGroups; ++group) {
    char value[48];
    std::snprintf(value, sizeof value, "%s%s %.4g", group > 0 ? "  " : "", kRewardGroupNames[group], groups[group]);
    text += value;
  }
  return text;
}

Json GroupsJson(const Groups& groups) {
  Json json = Json::object();
  for (std::size_t group = 0; group < kRewardGroups; ++group) json[kRewardGroupNames[group]] = groups[group];
  return json;
}

RewardSpec SpecificationOf(const v1::Config& config) { return {config.rewards(), config.learner().reward_cap()}; }

std::string LearnedText(const Explanation& explanation, const v1::Config& config) {
  if (!explanation.learned) return "not yet: no version of the archive has taken it";
  const LearnedBy& by = *explanation.learned;
  std::string text = "by version " + std::to_string(by.version) + (by.accepted ? "" : ", which the gate refused");
  if (by.is_oldest_kept) text += ", or one before it that is not kept any more";
  if (explanation.held_back) text += "; held back: its user judges versions and trains none";
  const std::string in_force = ToHex(RewardsDigest(config.rewards()));
  if (!by.rewards_sha256.empty() && by.rewards_sha256 != in_force)
    text += "; under the other rewards " + by.rewards_sha256.substr(0, 16);
  return text;
}

std::string ItemText(const v1::ExposedItem& item, const v1::RewardComponents* rewards,
                     const RewardSpec& specification) {
  char head[96];
  std::snprintf(head, sizeof head, "    position %u  score %.6g  ", item.position(),
                static_cast<double>(item.fused_score()));
  std::string text = head + item.item_id();
  if (rewards == nullptr) return text + '\n';
  const auto components = ComponentsOf(*rewards);
  text += "  reward " + GroupsText(specification.Of(components));
  for (std::size_t c = 0; c < kRewardComponents; ++c) {
    if (components[c] != 0) text += std::string("  ") + kComponentNames[c] + ' ' + std::to_string(components[c]);
  }
  return text + (specification.Capped(components) ? "  (cut to learner.reward_cap)\n" : "\n");
}

std::string StepText(const v1::Step& step, const RewardSpec& specification, const char* what) {
  std::string text =
      std::string("  ") + what + ' ' + TimeText(step.event_time_ms()) + "  " + ExposureText(step.exposure()) + '\n';
  for (int i = 0; i < step.exposure().items_size(); ++i) {
    text += ItemText(step.exposure().items(i), i < step.rewards_size() ? &step.rewards(i) : nullptr, specification);
  }
  return text;
}

std::string EventsText(const Explanation& explanation) {
  if (!explanation.events) return "events        not to be had: " + explanation.events.error().message + '\n';
  std::string text;
  std::set<std::string> ids;
  for (const auto& [offset, event] : *explanation.events) {
    text += "  " + TimeText(event.event_time_ms()) + "  offset " + std::to_string(offset) + "  " + event.event_id() +
            "  " +
            (event.has_exposure() ? "exposure: " + ExposureText(event.exposure()) : FeedbackText(event.feedback())) +
            (ids.insert(event.event_id()).second ? "" : "  (repeat)") + '\n';
  }
  std::string head = "events        of this user in the log between first and last";
  const std::size_t accepted = explanation.found.trajectory.events();
  if (ids.size() != accepted) {
    head += ": " + std::to_string(ids.size()) + ", while the session has " + std::to_string(accepted) +
            (ids.size() > accepted ? "; the others came too late" : "; the log does not hold the others any more");
  }
  return head + '\n' + text;
}

Json StepJson(const v1::Step& step, const RewardSpec& specification) {
  Json items = Json::array();
  for (int i = 0; i < step.exposure().items_size(); ++i) {
    const v1::ExposedItem& item = step.exposure().items(i);
    Json one = {{"item_id", item.item_id()}, {"position", item.position()}, {"fused_score", item.fused_score()}};
    if (i < step.rewards_size()) {
      const auto components = ComponentsOf(step.rewards(i));
      Json by_component = Json::object();
      for (std::size_t c = 0; c < kRewardComponents; ++c) by_component[kComponentNames[c]] = components[c];
      one["components"] = by_component;
      one["reward"] = GroupsJson(specification.Of(components));
      one["capped"] = specification.Capped(components);
    }
    items.push_back(std::move(one));
  }
  return {{"event_time_ms", step.event_time_ms()},
          {"request_id", step.exposure().request_id()},
          {"arm", step.exposure().arm()},
          {"policy_version", step.exposure().policy_version()},
          {"items", items}};
}

Json EventsJson(const std::vector<LoggedEvent>& events) {
  Json json = Json::array();
  for (const auto& [offset, event] : events) {
    Json one = {{"event_time_ms", event.event_time_ms()}, {"offset", offset}, {"event_id", event.event_id()}};
    if (event.has_exposure()) one["exposure"] = event.exposure().request_id();
    if (event.has_feedback()) {
      one["feedback"] = {{"kind", KindText(event.feedback().kind())},
                         {"request_id", event.feedback().request_id()},
                         {"item_id", event.feedback().item_id()},
                         {"watch_ms", event.feedback().watch_ms()}};
    }
    json.push_back(std::move(one));
  }
  return json;
}

}  // namespace

std::string ExplanationText(const Explanation& explanation, const v1::Config& config) {
  const v1::Trajectory& trajectory = explanation.found.trajectory;
  const RewardSpec specification = SpecificationOf(config);
  std::string text = "trajectory    " + NameText(trajectory.name()) + ", " + explanation.found.where +
                     "\nuser          " + trajectory.user_id() + "\nsession       " +
                     TimeText(trajectory.first_ms()) + " to " + TimeText(trajectory.last_ms()) + ", " +
                     std::to_string(trajectory.last_ms() - trajectory.first_ms()) + " ms, " +
                     std::to_string(trajectory.events()) + " events, " + EndText(trajectory.end()) +
                     "\nclosed        at stream time " + TimeText(trajectory.stream_time_ms()) + "\npredecessor   " +
                     (trajectory.has_predecessor() ? NameText(trajectory.predecessor()) : "none") +
                     "\nlearned       " + LearnedText(explanation, config) + "\nrewards       specification " +
                     ToHex(RewardsDigest(config.rewards())).substr(0, 16) + ": session " +
                     GroupsText(specification.OfSession(trajectory)) + '\n';
  if (!trajectory.stub_reason().empty()) text += "stub          " + trajectory.stub_reason() + '\n';
  if (trajectory.steps_size() > 0) {
    text += "policies      versions " + std::to_string(trajectory.oldest_policy_version()) + " to " +
            std::to_string(trajectory.newest_policy_version()) + "\nsteps\n";
  }
  for (const v1::Step& step : trajectory.steps()) text += StepText(step, specification, "request");
  if (trajectory.has_next_step()) text += StepText(trajectory.next_step(), specification, "next session:");
  return text + EventsText(explanation);
}

std::string ExplanationJson(const Explanation& explanation, const v1::Config& config) {
  const v1::Trajectory& trajectory = explanation.found.trajectory;
  const RewardSpec specification = SpecificationOf(config);
  Json json = {{"name", NameText(trajectory.name())}, {"found", explanation.found.where},
               {"user_id", trajectory.user_id()},     {"first_ms", trajectory.first_ms()},
               {"last_ms", trajectory.last_ms()},     {"events_accepted", trajectory.events()},
               {"end", EndText(trajectory.end())},    {"stream_time_ms", trajectory.stream_time_ms()}};
  if (trajectory.has_predecessor()) json["predecessor"] = NameText(trajectory.predecessor());
  if (!trajectory.stub_reason().empty()) json["stub_reason"] = trajectory.stub_reason();
  json["rewards_sha256"] = ToHex(RewardsDigest(config.rewards()));
  json["session_reward"] = GroupsJson(specification.OfSession(trajectory));
  json["learned_by"] = explanation.learned ? Json(explanation.learned->version) : Json();
  if (explanation.learned) json["learned_under_rewards_sha256"] = explanation.learned->rewards_sha256;
  json["held_back"] = explanation.held_back;
  json["steps"] = Json::array();
  for (const v1::Step& step : trajectory.steps()) json["steps"].push_back(StepJson(step, specification));
  if (trajectory.has_next_step()) json["next_step"] = StepJson(trajectory.next_step(), specification);
  if (explanation.events) json["events"] = EventsJson(*explanation.events);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fuseline
