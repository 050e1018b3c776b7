#include "viewing.h"

#include <algorithm>
#include <cmath>

namespace fuseline {
namespace {

constexpr double kDisappointedS = 3;  // Clicked, and left sooner: bait.
constexpr double kSatisfyingS = 30;   // Watching so long counts once.

double ValidS(const v1::Rewards& rewards) { return static_cast<double>(rewards.valid_watch_ms()) / 1000; }
double CapS(const v1::Rewards& rewards) { return static_cast<double>(rewards.watch_cap_ms()) / 1000; }

}  // namespace

TrueResponse ExpectViewing(const Viewing& viewing, const Pleasure& pleasure, const v1::Rewards& rewards) {
  const double patience_s = viewing.patience_s, duration_s = viewing.duration_s;
  const auto mean_watch_s = [&](double limit_s) { return patience_s * (1 - std::exp(-limit_s / patience_s)); };
  const double valid = duration_s > ValidS(rewards) ? std::exp(-ValidS(rewards) / patience_s) : 0;
  const double complete = std::exp(-duration_s / patience_s);
  TrueResponse truth;
  truth.click = viewing.click;
  truth.valid = viewing.click * valid;
  truth.watch_s = viewing.click * mean_watch_s(duration_s);
  truth.like = viewing.click * viewing.like;
  truth.share = viewing.click * viewing.share;
  truth.reward = rewards.valid() * truth.valid + rewards.complete() * viewing.click * complete + rewards.like() * truth.like +
                 rewards.share() * truth.share +
                 rewards.watch_second() * viewing.click * mean_watch_s(std::min(duration_s, CapS(rewards)));
  truth.satisfaction = pleasure.valid * truth.valid + pleasure.watch * truth.watch_s / kSatisfyingS +
                       pleasure.like * truth.like - pleasure.skip_bores * (1 - viewing.click) -
                       pleasure.bait_bores * viewing.click * (1 - std::exp(-kDisappointedS / patience_s)) + pleasure.any;
  return truth;
}

Response DrawViewing(const Viewing& viewing, const Pleasure& pleasure, const v1::Rewards& rewards, Random& random) {
  Response response;
  response.click = random.NextUniform() < viewing.click;
  if (!response.click) {
    response.satisfaction = pleasure.any - pleasure.skip_bores;
    return response;
  }
  const double until_left_s = -viewing.patience_s * std::log(1 - random.NextUniform());
  const double watch_s = std::min(until_left_s, viewing.duration_s);
  response.complete = until_left_s >= viewing.duration_s;
  response.watch_ms = response.complete ? viewing.duration_ms : static_cast<std::int64_t>(watch_s * 1000);
  response.like = random.NextUniform() < viewing.like;
  response.share = random.NextUniform() < viewing.share;
  response.valid = response.watch_ms > rewards.valid_watch_ms();
  response.reward = rewards.valid() * response.valid + rewards.complete() * response.complete +
                    rewards.like() * response.like + rewards.share() * response.share +
                    rewards.watch_second() * std::min(watch_s, CapS(rewards));
  response.satisfaction = pleasure.valid * response.valid + pleasure.watch * watch_s / kSatisfyingS +
                          pleasure.like * response.like - (watch_s < kDisappointedS ? pleasure.bait_bores : 0) + pleasure.any;
  return response;
}

}  // namespace fuseline
