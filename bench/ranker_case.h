#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/fusion/policy_network.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/temp_dir.h"
#include "ranker_fixture.h"
#include "rounds.h"

namespace fuseline::bench {

// What an actor is given once features are encoded and normalised.
struct ActorInput {
  ActorInput(const PolicyNetwork& network, const TensorMap& tensors, const RankingRequest& request);
  std::size_t rows;
  std::vector<float> shared;  // [S]
  std::vector<float> items;   // [n, I]
  std::vector<float> states;  // [n, S + I]: the same, shared columns repeated.
};

// Somebody's forward pass of the same actor, from ActorInput to actions [n, D]. The input is borrowed.
struct ActorWay {
  std::string name;
  std::function<void()> pass;
  std::function<std::vector<float>()> actions;  // Of the last pass.
};

// An actor of the default schema (19 shared columns, 31 of an item, 10 actions) with random weights, in one of the
// learner's sizes.
class RankerCase {
 public:
  explicit RankerCase(const std::string& preset);  // small: 64-64; paper: 256-128-64; large, of 10 MB: 1150-1150-1000.

  const std::string& preset() const { return preset_; }
  const std::vector<std::uint32_t>& widths() const { return widths_; }
  const TensorMap& tensors() const { return tensors_; }
  const PolicyVersion& version() const { return version_; }
  const v1::PolicyManifest& manifest() const { return version_.manifest; }
  std::size_t shared_width() const { return shared_width_; }
  double flops(std::size_t candidates) const;  // What the split form must multiply and add for the candidates.

  std::unique_ptr<Ranker> Open(Precision precision);  // Serves this version.
  // The obvious way to rank: the full state of every candidate, layer by layer in plain loops, then a sort.
  std::function<void()> Naive(const OwnedRequest& request) const;
  void Write(const std::string& folder) const;  // weights.safetensors and case.json: for a peer.

 private:
  std::string preset_;
  RankerOptions options_;
  std::vector<std::uint32_t> widths_;
  TensorMap tensors_;
  PolicyVersion version_;
  std::size_t shared_width_ = 0;
  test::TempDir folder_;
  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

}  // namespace fuseline::bench
