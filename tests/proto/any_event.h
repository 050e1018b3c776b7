#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>

#include "fuseline/core/random.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline::test {

// Any finite float, by its bits: denormals and the ends of the range as likely as the rest.
inline float AnyFloat(Random& random) {
  for (;;) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random.NextU64()));
    if (std::isfinite(value)) return random.NextBelow(8) == 0 ? -0.0F : value;
  }
}

inline std::string AnyText(Random& random) {
  static constexpr const char* kPieces[] = {"a", "Z", "0", " ", "\"", "\\", "/", "\n", "\x01", "\x7f", "é", "語", "😀", "\u2028"};
  std::string text = "t";
  for (auto left = random.NextBelow(12); left > 0; --left) text += kPieces[random.NextBelow(std::size(kPieces))];
  return text;
}

inline void FillFeatures(Random& random, v1::Features* features) {
  for (auto left = random.NextBelow(5); left > 0; --left) features->add_dense(AnyFloat(random));
  for (auto left = random.NextBelow(3); left > 0; --left) features->add_ids(random.NextU64());
}

inline void FillExposure(Random& random, v1::Exposure* exposure) {
  exposure->set_request_id(AnyText(random));
  exposure->set_arm(AnyText(random));
  exposure->set_policy_version(random.NextU64());
  exposure->set_scorer_version(exposure->policy_version() / 3);
  for (int i = 0; i < 32; ++i) exposure->mutable_schema_digest()->push_back(static_cast<char>(random.NextU64()));
  FillFeatures(random, exposure->mutable_user_features());
  FillFeatures(random, exposure->mutable_context_features());
  if (random.NextBelow(2) == 0) {
    exposure->mutable_box()->set_lower(-2);
    exposure->mutable_box()->set_upper(2);
    exposure->set_log_density(random.NextNormal() * 1e-300);
  }
  exposure->set_experiment_coverage(static_cast<std::uint32_t>(random.NextBelow(10'001)));
  for (auto shadows = random.NextBelow(8); shadows > 5; --shadows) {
    auto& shadow = *exposure->add_shadows();
    shadow.set_policy_version(random.NextU64());
    shadow.set_rank_correlation(static_cast<float>(random.NextUniform(-1, 1)));
    shadow.set_top_overlap(static_cast<float>(random.NextUniform()));
    shadow.set_action_difference(static_cast<float>(random.NextUniform(0, 2)));
  }
  const auto tasks = random.NextBelow(4);
  for (auto items = random.NextBelow(4); items > 0; --items) {
    auto& item = *exposure->add_items();
    item.set_item_id(AnyText(random));
    item.set_position(static_cast<std::uint32_t>(exposure->items_size()));
    FillFeatures(random, item.mutable_item_features());
    for (std::uint64_t t = 0; t < tasks; ++t) item.add_task_scores(AnyFloat(random));
    for (std::uint64_t d = 0; d < 2 * tasks; ++d) {
      item.add_baseline_action(static_cast<float>(random.NextUniform(-1, 1)));
      item.add_executed_action(static_cast<float>(random.NextUniform(-1, 1)));
    }
    item.set_fused_score(AnyFloat(random));
  }
}

// A valid event, drawn from `seed`.
inline v1::Event AnyEvent(std::uint64_t seed) {
  Random random(seed, "any_event", 0);
  v1::Event event;
  event.set_event_id(AnyText(random));
  event.set_user_id(AnyText(random));
  event.set_event_time_ms(static_cast<std::int64_t>(random.NextBelow(253'402'300'800'000)));
  switch (random.NextBelow(4)) {
    case 0: event.mutable_control()->mutable_tick()->set_predecessor_offset(std::numeric_limits<std::int64_t>::max()); break;
    case 1: {
      auto& feedback = *event.mutable_feedback();
      feedback.set_request_id(AnyText(random));
      feedback.set_item_id(AnyText(random));
      feedback.set_kind(static_cast<v1::Feedback::Kind>(random.NextBelow(11)));
      feedback.set_watch_ms(static_cast<std::int64_t>(random.NextBelow(1'000'000)));
      break;
    }
    default: FillExposure(random, event.mutable_exposure());
  }
  return event;
}

}  // namespace fuseline::test
