#include "ranker_case.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "measure.h"

namespace fuseline::bench {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kPartBytes = std::uint64_t{8} << 20;  // As policy_store has it.

std::vector<std::uint32_t> HiddenOf(const std::string& preset) {
  if (preset == "small") return {64, 64};
  return preset == "paper" ? std::vector<std::uint32_t>{256, 128, 64} : std::vector<std::uint32_t>{1150, 1150, 1000};
}

void WriteBytes(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

}  // namespace

ActorInput::ActorInput(const PolicyNetwork& network, const TensorMap& tensors, const RankingRequest& request)
    : rows(request.candidates.size()) {
  const FeatureEncoder& encoder = network.encoder();
  const Normaliser normaliser{tensors.at("normaliser.mean").values, tensors.at("normaliser.scale").values};
  shared.resize(encoder.shared_width());
  Must(encoder.EncodeShared(request.user, request.context, shared));
  normaliser.Apply(shared);
  for (const CandidateView& candidate : request.candidates) {
    std::vector<float> item(encoder.item_width());
    Must(encoder.EncodeItem(candidate, item));
    normaliser.Apply(item, shared.size());
    items.insert(items.end(), item.begin(), item.end());
    states.insert(states.end(), shared.begin(), shared.end());
    states.insert(states.end(), item.begin(), item.end());
  }
}

RankerCase::RankerCase(const std::string& preset) : preset_(preset), options_(TestOptions("")) {
  version_.manifest = VersionThatSays(kVersion, options_).manifest;
  const FeatureEncoder encoder(options_.schema);
  shared_width_ = encoder.shared_width();
  widths_ = {static_cast<std::uint32_t>(encoder.state_width())};
  for (const std::uint32_t width : HiddenOf(preset)) widths_.push_back(width);
  widths_.push_back(static_cast<std::uint32_t>(encoder.action_width()));
  version_.manifest.mutable_actor()->clear_widths();
  version_.manifest.mutable_actor()->mutable_widths()->Add(widths_.begin(), widths_.end());

  Random random(1, "bench", widths_.size());
  const auto fill = [&](const std::string& name, std::vector<std::uint32_t> shape, std::size_t count,
                        double deviation) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(deviation * random.NextNormal());
    tensors_[name] = {std::move(shape), std::move(values)};
  };
  for (std::size_t i = 0; i + 1 < widths_.size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    fill(name + ".weight", {widths_[i + 1], widths_[i]}, std::size_t{widths_[i + 1]} * widths_[i],
         1 / std::sqrt(widths_[i]));
    fill(name + ".bias", {widths_[i + 1]}, widths_[i + 1], 0.1);
  }
  tensors_["normaliser.mean"] = {{widths_[0]}, std::vector<float>(widths_[0], 0.1F)};
  tensors_["normaliser.scale"] = {{widths_[0]}, std::vector<float>(widths_[0], 1.5F)};
  version_.weights = EncodeWeights(tensors_);
  SealManifest(version_.manifest, version_.weights, kPartBytes);
  WriteBytes(folder_ / "manifest.pb", CanonicalBytes(version_.manifest));
  WriteBytes(folder_ / "weights.safetensors", version_.weights);
}

double RankerCase::flops(std::size_t candidates) const {
  double flops = 2.0 * static_cast<double>(widths_[0] - shared_width_) * widths_[1];
  for (std::size_t i = 1; i + 1 < widths_.size(); ++i) flops += 2.0 * widths_[i] * widths_[i + 1];
  return flops * static_cast<double>(candidates);
}

std::unique_ptr<Ranker> RankerCase::Open(Precision precision) {
  RankerOptions options = options_;
  options.version_folder = folder_.path();
  options.precision = precision;
  return Must(Ranker::Open(std::move(options), log_, metrics_, clock_));
}

std::function<void()> RankerCase::Naive(const OwnedRequest& request) const {
  return [this, &request, encoder = FeatureEncoder(options_.schema), space = *ActionSpace::Create(options_.ranges),
          normaliser = Normaliser{tensors_.at("normaliser.mean").values, tensors_.at("normaliser.scale").values}] {
    std::vector<std::pair<double, std::size_t>> ranked;
    for (std::size_t i = 0; i < request.candidates.size(); ++i) {
      std::vector<float> values(encoder.state_width());
      const std::span<float> columns(values);
      Must(encoder.EncodeShared(request.view().user, request.view().context, columns.first(encoder.shared_width())));
      Must(encoder.EncodeItem(request.candidates[i], columns.subspan(encoder.shared_width())));
      normaliser.Apply(values);
      for (std::size_t layer = 0; layer + 1 < widths_.size(); ++layer) {
        const std::string name = "actor." + std::to_string(layer);
        const Tensor& weight = tensors_.at(name + ".weight");
        std::vector<float> next = tensors_.at(name + ".bias").values;
        for (std::size_t out = 0; out < next.size(); ++out) {
          for (std::size_t in = 0; in < values.size(); ++in)
            next[out] += weight.values[out * values.size() + in] * values[in];
          next[out] = layer + 2 < widths_.size() ? std::max(next[out], 0.0F) : std::tanh(next[out]);
        }
        values = std::move(next);
      }
      ranked.emplace_back(-space.FusedScore(request.scores[i], values), i);
    }
    std::ranges::sort(ranked);
    FUSELINE_CHECK(ranked.size() == request.candidates.size());
  };
}

void RankerCase::Write(const std::string& folder) const {
  WriteBytes(folder + "/weights.safetensors", version_.weights);
  WriteBytes(folder + "/case.json", nlohmann::json{{"widths", widths_}, {"shared_width", shared_width_}}.dump());
}

}  // namespace fuseline::bench
