#include "scorer/outcomes.h"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

namespace fuseline {
namespace {

constexpr std::int64_t kLongViewMs = 18'000;

enum class Outcome : std::uint8_t { kClick, kComplete, kLike, kShare, kComment, kCollect, kFollow, kProfile, kDislike, kValid, kLongView, kWatch };

struct Named {
  const char* name;
  Outcome outcome;
};
constexpr std::array kNames{Named{"click", Outcome::kClick},       Named{"valid_play", Outcome::kValid},
                            Named{"long_view", Outcome::kLongView}, Named{"complete", Outcome::kComplete},
                            Named{"watch", Outcome::kWatch},        Named{"like", Outcome::kLike},
                            Named{"share", Outcome::kShare},        Named{"comment", Outcome::kComment},
                            Named{"collect", Outcome::kCollect},    Named{"follow", Outcome::kFollow},
                            Named{"profile", Outcome::kProfile},    Named{"dislike", Outcome::kDislike},
                            Named{"valid", Outcome::kValid},        Named{"watch_time", Outcome::kWatch},
                            Named{"forward", Outcome::kShare}};

std::string AllNames() {
  std::string names;
  for (const Named& known : kNames) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

// What scorer.outcomes says, by task.
Result<std::map<std::string, std::string>> Said(const v1::Scorer& settings, const std::vector<std::string>& tasks) {
  std::map<std::string, std::string> said;
  std::istringstream text(settings.outcomes());
  for (std::string entry; std::getline(text, entry, ',');) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos) return Error(Code::kInvalidInput, "scorer.outcomes has an entry that is not TASK=OUTCOME:", entry);
    const std::string task = entry.substr(0, equals);
    if (std::ranges::find(tasks, task) == tasks.end())
      return Error(Code::kInvalidInput, "scorer.outcomes names a task that is not in scorer.tasks:", task);
    if (!said.emplace(task, entry.substr(equals + 1)).second)
      return Error(Code::kInvalidInput, "scorer.outcomes names a task twice:", task);
  }
  return said;
}

}  // namespace

Result<Outcomes> Outcomes::Create(const v1::Config& config, const ScorerFields& fields) {
  FUSELINE_ASSIGN_OR_FAIL(const auto said, Said(config.scorer(), fields.tasks()));
  Outcomes outcomes(fields, config.rewards().valid_watch_ms());
  for (const std::string& task : fields.tasks()) {
    const auto entry = said.find(task);
    const std::string& name = entry == said.end() ? task : entry->second;
    const auto known = std::ranges::find_if(kNames, [&](const Named& one) { return one.name == name; });
    if (known == kNames.end()) {
      return Error(Code::kInvalidInput, "scorer.outcomes must say what task", task, "predicts, one of " + AllNames() + ':',
                   entry == said.end() ? "nothing" : name);
    }
    outcomes.outcomes_.push_back(static_cast<std::size_t>(known->outcome));
    outcomes.text_ += (outcomes.text_.empty() ? "" : ",") + task + '=' + known->name;
  }
  return outcomes;
}

void Outcomes::Append(const v1::RewardComponents& rewards, std::vector<float>* labels) const {
  for (std::size_t task = 0; task < outcomes_.size(); ++task) labels->push_back(LabelOf(task, rewards));
}

float Outcomes::LabelOf(std::size_t task, const v1::RewardComponents& rewards) const {
  const auto happened = [](bool it_did) { return it_did ? 1.0F : 0.0F; };
  const std::int64_t duration_ms = rewards.item_duration_ms();
  switch (static_cast<Outcome>(outcomes_[task])) {
    case Outcome::kClick: return happened(rewards.clicks() > 0);
    case Outcome::kComplete: return happened(rewards.completes() > 0);
    case Outcome::kLike: return happened(rewards.likes() > 0);
    case Outcome::kShare: return happened(rewards.shares() > 0);
    case Outcome::kComment: return happened(rewards.comments() > 0);
    case Outcome::kCollect: return happened(rewards.collects() > 0);
    case Outcome::kFollow: return happened(rewards.follows() > 0);
    case Outcome::kProfile: return happened(rewards.profiles() > 0);
    case Outcome::kDislike: return happened(rewards.dislikes() > 0);
    case Outcome::kValid: return happened(rewards.watch_ms() > valid_watch_ms_);
    case Outcome::kLongView:
      return happened(rewards.watch_ms() >= (duration_ms > 0 ? std::min(duration_ms, kLongViewMs) : kLongViewMs));
    case Outcome::kWatch: return fields_.ShareOf(task, static_cast<float>(static_cast<double>(rewards.watch_ms()) / 1000));
  }
  return 0;
}

}  // namespace fuseline
