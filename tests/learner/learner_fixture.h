#pragma once

// A learner on a fixed stream of two partitions, which is offered in any interleaving and dropped at any moment.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/learner/learner.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"
#include "stream_world.h"

namespace fuseline {

class LearnerTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<Learner>> Open(const std::string& folder, const v1::Config& config) {
    auto learner = Learner::Open(folder, config, "test build", log_, metrics_, clock_);
    if (learner) (*learner)->ExpectPartitions(2);
    return learner;
  }

  struct Outcome {
    std::string weights;
    std::map<std::uint64_t, std::string> versions;  // Number → digest and verdict.
    std::map<std::uint64_t, std::string> scorers;   // The same of the scorer's.
    LearnerProgress progress;
    int deaths = 0;
  };

  // Offers the stream to its end. With `chaos` the order of calls is random and the learner dies now and then.
  Outcome Run(const std::string& folder, const v1::Config& config, const std::vector<std::vector<v1::Trajectory>>& stream,
              Random* chaos) {
    Outcome outcome;
    auto learner = Open(folder, config).value();
    std::vector<std::size_t> next(2, 0);
    const auto store = [&](const PolicyVersion& version) {
      const std::string text = ToHex(version.manifest.weights_sha256()) + (version.manifest.gate().passed() ? " passed" : " refused");
      auto& known = version.manifest.has_scorer() ? outcome.scorers : outcome.versions;
      const auto [seen, fresh] = known.emplace(version.manifest.version(), text);
      EXPECT_EQ(seen->second, text) << "version " << version.manifest.version() << " offered again, differently";
      EXPECT_EQ(Sha256Of(version.weights), version.manifest.weights_sha256());
    };
    const auto rewind = [&] {  // What an outbox does: everything after the last durable name, again.
      const auto durable = learner->DurableNames();
      for (std::size_t p = 0; p < 2; ++p) {
        const auto name = durable.find(static_cast<std::int32_t>(p));
        next[p] = name == durable.end() ? 0 : static_cast<std::size_t>(name->second.offset() / 10 + 1);
        if (next[p] > 0 && chaos != nullptr && chaos->NextBelow(2) == 0) --next[p];  // One too many: a repeat.
      }
    };
    for (;;) {
      for (std::size_t p = 0; p < 2; ++p) {
        const std::size_t burst = chaos != nullptr ? chaos->NextBelow(12) : 5;
        for (std::size_t i = 0; i < burst && next[p] < stream[p].size(); ++i)
          EXPECT_THAT(learner->Offer(test::Record(stream[p][next[p]++])), IsOk());
        if (next[p] == stream[p].size()) {
          EXPECT_THAT(learner->Offer(test::Mark(static_cast<std::int32_t>(p), kEndOfTimeMs)), IsOk());
        }
      }
      const auto made = learner->Advance();
      EXPECT_THAT(made, IsOk());
      if (!made) return outcome;
      if (*made) store(**made);
      const bool lazy = chaos != nullptr && chaos->NextBelow(3) == 0;
      if (const auto pending = learner->PendingVersion(); pending && !lazy) {
        store(*pending);
        EXPECT_THAT(learner->MarkStored(pending->manifest.version()), IsOk());
      }
      if (const auto pending = learner->PendingScorerVersion(); pending && !lazy) {
        store(*pending);
        EXPECT_THAT(learner->MarkScorerStored(pending->manifest.version()), IsOk());
      }
      if (chaos != nullptr && chaos->NextBelow(15) == 0) {
        EXPECT_THAT(learner->Checkpoint(), IsOk());
      }
      if (chaos != nullptr && chaos->NextBelow(12) == 0) {
        learner.reset();
        // What a kill inside an atomic write leaves behind.
        for (const char* name : {"/checkpoint.tmp", "/checkpoint-v1.tmp", "/tensors-1.bin.tmp"}) {
          EXPECT_THAT(WriteFileAtomically(folder + name, "x"), IsOk());
        }
        learner = Open(folder, config).value();
        ++outcome.deaths;
        rewind();
        continue;
      }
      const bool all_stored = !learner->PendingVersion() && !learner->PendingScorerVersion();
      if (next[0] == stream[0].size() && next[1] == stream[1].size() && learner->idle() && all_stored) break;
    }
    outcome.weights = learner->WeightsSha256();
    outcome.progress = learner->progress();
    return outcome;
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  SystemClock clock_;
};

}  // namespace fuseline
