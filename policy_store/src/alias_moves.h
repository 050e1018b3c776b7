#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/policy_store/aliases.h"

namespace fuseline {

// Alias changes that follow one state of the aliases, numbered from `first_change`: what the state is after them, and the
// words that tell a script of them.
class AliasMoves {
 public:
  AliasMoves(v1::AliasState seen, std::uint64_t epoch, std::uint64_t first_change);

  void Add(const AliasMove& move, std::string manifest_sha256);

  const v1::AliasState& after() const { return after_; }
  void AppendWords(std::vector<std::string_view>& arguments) const;  // Four for each move; they live as long as this.
  Status Run(RedisConnection& redis, const PolicyKeys& keys, std::int64_t changes_kept) const;  // MoveScript.

 private:
  std::uint64_t seen_change_;
  std::uint64_t next_change_;
  v1::AliasState after_;
  std::vector<std::string> words_;
  std::vector<std::uint64_t> versions_;
};

}  // namespace fuseline
