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

  void Add(const AliasMove& move, std::string manifest_sha256);  // `last_good` and `proving` follow `live`.
  void Restate(const v1::AliasChange& change);  // That of another history: alias, version, pin, who and why, under a new number.

  const v1::AliasState& after() const { return after_; }
  void AppendWords(std::vector<std::string_view>& arguments) const;  // Four for each move; they live as long as this.
  Status Run(RedisConnection& redis, const PolicyKeys& keys, std::int64_t changes_kept) const;  // MoveScript.

 private:
  void Follow(std::string_view alias, const v1::AliasChange& where, v1::AliasChange::Cause cause);
  void Append(v1::AliasChange change);

  std::uint64_t seen_change_;
  std::uint64_t next_change_;
  v1::AliasState after_;
  std::vector<std::string> words_;
  std::vector<std::uint64_t> versions_;
};

// The bytes of a note in the change stream; its change number is that of `seen`.
std::string NoteBytes(const ChangeNote& note, v1::AliasChange::Cause cause, const v1::AliasState& seen, std::uint64_t from, std::uint64_t to);

}  // namespace fuseline
