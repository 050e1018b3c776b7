#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "fuseline/v1/trajectory.pb.h"

namespace rocksdb {
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
  void PutState(std::int32_t partition, const PartitionState& state);
  void PutChange(std::int32_t partition, const UserChange& change);
  void PutTrajectory(const v1::TrajectoryName& name, std::string_view bytes);
  void DropTrajectory(const v1::TrajectoryName& name);

 private:
  friend class SessionStore;
  std::unique_ptr<rocksdb::WriteBatch> batch_;
};

// Sessions, outbox and positions in RocksDB. Knows bytes and keys; what they mean is the sessionizer's.
//
//   'f'                                          → kStoreFormat, in decimal
//   'g'                                          → the shape of the sessions
//   'p' partition:4                              → PartitionState
//   's' partition:4 user id … chunk:4            → open events, session_codec.h
//   'o' partition:4 offset:8 ordinal:4           → v1::Trajectory, not yet acknowledged
// Numbers in keys are big-endian, so that keys sort as names do. Thread-compatible.
class SessionStore {
 public:
  // Errors: as Sessionizer::Open.
  static Result<std::unique_ptr<SessionStore>> Open(const std::filesystem::path& folder, const SessionShape& shape,
                                                    rocksdb::Env* env);
  // Errors: as Open; kUnavailable if there is no store. REQUIRES: nothing is written.
  static Result<std::unique_ptr<SessionStore>> OpenReadOnly(const std::filesystem::path& folder, const SessionShape& shape);
  ~SessionStore();

  Result<std::vector<std::pair<std::int32_t, PartitionState>>> LoadStates() const;
  // Calls `take` for each saved chunk of a partition, a user's in the order of their numbers.
  Status LoadChunks(std::int32_t partition, const std::function<void(std::string_view user_id, std::uint32_t chunk,
                                                                     std::vector<OpenEvent> events)>& take) const;
  // Names in order, from the first that is not before `from`.
  Result<std::vector<v1::TrajectoryName>> LoadOutboxNames(std::int32_t partition) const;
  Result<std::vector<v1::Trajectory>> LoadOutbox(std::int32_t partition, const v1::TrajectoryName& from,
                                                 std::size_t max) const;

  // Returns once the batch is on disk. After an error nothing of it counts, unless it is found when the store is opened
  // again; the same batch may be written again.
  // Errors: kUnavailable for a full or failing disk, kCorrupt.
  Status Write(StoreBatch& batch);

 private:
  explicit SessionStore(std::unique_ptr<rocksdb::DB> db);
  Status CheckFormat(const SessionShape& shape);

  std::unique_ptr<rocksdb::DB> db_;
  bool failed_ = false;  // The last write did: RocksDB wants to be resumed first.
};

}  // namespace fuseline
