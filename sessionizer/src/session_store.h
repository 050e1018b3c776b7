#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "fuseline/v1/session_state.pb.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Env;
class WriteBatch;
}  // namespace rocksdb

namespace fuseline {

// What one commit writes: all or nothing.
class StoreBatch {
 public:
  StoreBatch();
  ~StoreBatch();
  void Clear(std::size_t kept_bytes_max);  // To be filled again: it keeps its memory, up to so much.
  void PutState(std::int32_t partition, const v1::PartitionState& state);
  void PutChanges(std::int32_t partition, const SessionChanges& changes);
  void PutPage(std::int32_t partition, std::uint64_t number, std::string_view bytes);
  void DropPage(std::int32_t partition, std::uint64_t number);

 private:
  friend class SessionStore;
  std::unique_ptr<rocksdb::WriteBatch> batch_;
};

// Sessions, outbox and positions in RocksDB. Knows bytes and keys; what they mean is the sessionizer's.
//
//   'f'                                  → kStoreFormat, in decimal
//   'p' partition:4                      → v1::PartitionState
//   'm' partition:4 offset:8             → v1::CommitPoint
//   'j' partition:4 number:4             → a journal segment, session_codec.h
//   'u' partition:4 user id              → v1::ColdUser without id and events
//   'c' partition:4 earliest end:8 user  → v1::ColdUser without id and end
//   'o' partition:4 number:8             → a page of the outbox, session_codec.h
// Numbers in keys are big-endian, so that keys sort as they do. Large values (segments, pages) lie in blob files of their own,
// which compaction does not copy. Thread-compatible.
class SessionStore final : public ColdSessions {
 public:
  // `memory_max_bytes` bounds the write buffers and the cache. Errors: as Sessionizer::Open.
  static Result<std::unique_ptr<SessionStore>> Open(const std::filesystem::path& folder, std::size_t memory_max_bytes, rocksdb::Env* env);
  // Errors: as Open; kUnavailable if there is no store. REQUIRES: nothing is written.
  static Result<std::unique_ptr<SessionStore>> OpenReadOnly(const std::filesystem::path& folder, std::size_t memory_max_bytes);
  ~SessionStore() override;

  Result<std::vector<std::pair<std::int32_t, v1::PartitionState>>> LoadStates() const;
  // Each calls `take` for everything of a partition in the order of its keys, until an error.
  Status LoadPoints(std::int32_t partition, const std::function<Status(const v1::CommitPoint&)>& take) const;
  Status LoadColdUsers(std::int32_t partition, const std::function<Status(const v1::ColdUser&)>& take) const;
  Status LoadSegments(std::int32_t partition, const std::function<Status(std::uint32_t number, std::string_view bytes)>& take) const;
  Status LoadPages(std::int32_t partition, const std::function<Status(std::uint64_t number, std::string_view bytes)>& take) const;
  Result<std::string> ReadSegment(std::int32_t partition, std::uint32_t number) const;
  Result<std::string> ReadPage(std::int32_t partition, std::uint64_t number) const;

  Result<std::optional<v1::ColdUser>> Find(std::int32_t partition, std::string_view user_id) override;
  Result<DueUsers> Due(std::int32_t partition, std::int64_t from_ms, std::int64_t bound_ms, std::string_view after_user_id,
                       std::size_t max) override;

  // Returns once the batch is on disk. After an error nothing of it counts, unless it is found when the store is opened
  // again; the same batch may be written again.
  // Errors: kUnavailable for a full or failing disk, kCorrupt.
  Status Write(StoreBatch& batch);
  Status DropPartition(std::int32_t partition);

 private:
  explicit SessionStore(std::unique_ptr<rocksdb::DB> db);
  Status CheckFormat();
  Result<v1::ColdUser> ReadCold(std::int32_t partition, std::string_view user_id, std::string_view head) const;

  std::unique_ptr<rocksdb::DB> db_;
  bool failed_ = false;  // The last write did: RocksDB wants to be resumed first.
};

}  // namespace fuseline
