#include "session_store.h"

#include <utility>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/write_batch.h>

#include "fuseline/core/file.h"
#include "session_codec.h"

namespace fuseline {
namespace {

constexpr char kFormatKey[] = "f";
constexpr char kShapeKey[] = "g";
constexpr std::size_t kPartitionKeyBytes = 5;  // Kind and partition.

template <typename Number>
void PutBigEndian(Number value, std::string* key) {
  for (int shift = static_cast<int>(sizeof(Number)) * 8 - 8; shift >= 0; shift -= 8) {
    key->push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> shift));
  }
}

std::uint64_t TakeBigEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<std::uint8_t>(byte);
  return value;
}

std::string PartitionKey(char kind, std::int32_t partition) {
  std::string key(1, kind);
  PutBigEndian(partition, &key);
  return key;
}

std::string UserKey(std::int32_t partition, std::string_view user_id) {
  std::string key = PartitionKey('s', partition);
  key.reserve(key.size() + user_id.size() + sizeof(std::uint32_t));
  key.append(user_id);
  return key;
}

std::string OutboxKey(const v1::TrajectoryName& name) {
  std::string key = PartitionKey('o', name.partition());
  key.reserve(17);
  PutBigEndian(name.offset(), &key);
  PutBigEndian(name.ordinal(), &key);
  return key;
}

Status FromRocks(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return OkStatus();
  if (status.IsCorruption()) return ErrorStatus(Code::kCorrupt, doing, status.ToString());
  if (status.IsNotFound()) return ErrorStatus(Code::kNotFound, doing, status.ToString());
  if (status.IsInvalidArgument() || status.IsNotSupported()) return ErrorStatus(Code::kInternal, doing, status.ToString());
  return ErrorStatus(Code::kUnavailable, doing, status.ToString());  // Disk full, I/O error, in use, being resumed.
}

rocksdb::Options StoreOptions(rocksdb::Env* env) {
  rocksdb::Options options;
  options.create_if_missing = true;
  if (env != nullptr) options.env = env;
  // Most of what is written is dropped again within minutes: large memtables keep it from ever reaching a file.
  options.write_buffer_size = 128 << 20;
  options.max_write_buffer_number = 3;
  // A commit's keys come sorted within kind and partition, so each is looked for from where the one before it went.
  options.memtable_insert_with_hint_prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(kPartitionKeyBytes));
  options.compression = rocksdb::kLZ4Compression;
  options.keep_log_file_num = 3;
  options.info_log_level = rocksdb::WARN_LEVEL;
  return options;
}

// Calls `take(key, value)` for each key with the prefix, from `from` on, until it returns false.
template <typename Take>
Status Scan(rocksdb::DB& db, const std::string& prefix, const std::string& from, Take take) {
  const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(rocksdb::ReadOptions()));
  for (it->Seek(from); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    if (!take(it->key().ToStringView(), it->value().ToStringView())) break;
  }
  return FromRocks(it->status(), "reading the session store:");
}

}  // namespace

StoreBatch::StoreBatch() : batch_(std::make_unique<rocksdb::WriteBatch>()) {}
StoreBatch::~StoreBatch() = default;

void StoreBatch::PutState(std::int32_t partition, const PartitionState& state) {
  batch_->Put(PartitionKey('p', partition), EncodeState(state));
}

void StoreBatch::PutChange(std::int32_t partition, const UserChange& change) {
  std::string key = UserKey(partition, change.user_id);
  const std::size_t user_bytes = key.size();
  const auto key_of = [&](std::uint32_t chunk) -> const std::string& {
    key.resize(user_bytes);
    PutBigEndian(chunk, &key);
    return key;
  };
  for (std::uint32_t chunk = change.drop_begin; chunk < change.drop_end; ++chunk) batch_->Delete(key_of(chunk));
  if (!change.bytes.empty()) batch_->Put(key_of(change.chunk), change.bytes);
}

void StoreBatch::PutTrajectory(const v1::TrajectoryName& name, std::string_view bytes) {
  batch_->Put(OutboxKey(name), bytes);
}

void StoreBatch::DropTrajectory(const v1::TrajectoryName& name) { batch_->Delete(OutboxKey(name)); }

SessionStore::SessionStore(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}
SessionStore::~SessionStore() = default;

Result<std::unique_ptr<SessionStore>> SessionStore::Open(const std::filesystem::path& folder, const SessionShape& shape,
                                                         rocksdb::Env* env) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  rocksdb::DB* db = nullptr;
  FUSELINE_FAIL_IF_ERROR(
      FromRocks(rocksdb::DB::Open(StoreOptions(env), folder.string(), &db), "opening the session store:"));
  std::unique_ptr<SessionStore> store(new SessionStore(std::unique_ptr<rocksdb::DB>(db)));
  FUSELINE_FAIL_IF_ERROR(store->CheckFormat(shape));
  return store;
}

Result<std::unique_ptr<SessionStore>> SessionStore::OpenReadOnly(const std::filesystem::path& folder,
                                                                 const SessionShape& shape) {
  rocksdb::DB* db = nullptr;
  FUSELINE_FAIL_IF_ERROR(FromRocks(rocksdb::DB::OpenForReadOnly(StoreOptions(nullptr), folder.string(), &db),
                                   "opening the session store to look at it:"));
  std::unique_ptr<SessionStore> store(new SessionStore(std::unique_ptr<rocksdb::DB>(db)));
  FUSELINE_FAIL_IF_ERROR(store->CheckFormat(shape));
  return store;
}

Status SessionStore::CheckFormat(const SessionShape& shape) {
  std::string format;
  const rocksdb::Status found = db_->Get(rocksdb::ReadOptions(), kFormatKey, &format);
  if (found.IsNotFound()) {
    StoreBatch batch;
    batch.batch_->Put(kFormatKey, std::to_string(kStoreFormat));
    batch.batch_->Put(kShapeKey, EncodeShape(shape));
    return Write(batch);
  }
  FUSELINE_RETURN_IF_ERROR(FromRocks(found, "reading the format of the session store:"));
  if (format != std::to_string(kStoreFormat)) {
    return ErrorStatus(Code::kInvalidInput, "the session store has another format than this program writes; format of the store, of the program:",
                       format, kStoreFormat);
  }
  std::string bytes;
  FUSELINE_RETURN_IF_ERROR(FromRocks(db_->Get(rocksdb::ReadOptions(), kShapeKey, &bytes), "reading the shape of sessions:"));
  FUSELINE_ASSIGN_OR_RETURN(const SessionShape made_with, DecodeShape(bytes));
  if (made_with == shape) return OkStatus();
  return ErrorStatus(Code::kInvalidInput,
                     "open sessions were made with other settings: go on with those, or begin with an empty state folder;"
                     " gap_ms, lateness_ms, cut_every_ms, max_events of the store:",
                     made_with.gap_ms, made_with.lateness_ms, made_with.cut_every_ms, made_with.max_events,
                     "of the settings:", shape.gap_ms, shape.lateness_ms, shape.cut_every_ms, shape.max_events);
}

Result<std::vector<std::pair<std::int32_t, PartitionState>>> SessionStore::LoadStates() const {
  std::vector<std::pair<std::int32_t, PartitionState>> states;
  Status broken = OkStatus();
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, "p", "p", [&](std::string_view key, std::string_view value) {
    auto state = DecodeState(value);
    if (!state) broken = state.error();
    if (state) states.emplace_back(static_cast<std::int32_t>(TakeBigEndian(key.substr(1))), *std::move(state));
    return broken.ok();
  }));
  FUSELINE_FAIL_IF_ERROR(broken);
  return states;
}

Status SessionStore::LoadChunks(
    std::int32_t partition,
    const std::function<void(std::string_view, std::uint32_t, std::vector<OpenEvent>)>& take) const {
  const std::string prefix = PartitionKey('s', partition);
  Status broken = OkStatus();
  FUSELINE_RETURN_IF_ERROR(Scan(*db_, prefix, prefix, [&](std::string_view key, std::string_view value) {
    key.remove_prefix(prefix.size());
    auto events = DecodeChunk(value);
    if (!events) broken = events.error();
    if (events && key.size() <= sizeof(std::uint32_t)) broken = ErrorStatus(Code::kCorrupt, "saved chunk without a user");
    if (!broken.ok()) return false;
    const std::size_t user_bytes = key.size() - sizeof(std::uint32_t);
    take(key.substr(0, user_bytes), static_cast<std::uint32_t>(TakeBigEndian(key.substr(user_bytes))), *std::move(events));
    return true;
  }));
  return broken;
}

Result<std::vector<v1::TrajectoryName>> SessionStore::LoadOutboxNames(std::int32_t partition) const {
  const std::string prefix = PartitionKey('o', partition);
  std::vector<v1::TrajectoryName> names;
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, prefix, prefix, [&](std::string_view key, std::string_view) {
    v1::TrajectoryName& name = names.emplace_back();
    name.set_partition(partition);
    name.set_offset(static_cast<std::int64_t>(TakeBigEndian(key.substr(5, 8))));
    name.set_ordinal(static_cast<std::uint32_t>(TakeBigEndian(key.substr(13))));
    return true;
  }));
  return names;
}

Result<std::vector<v1::Trajectory>> SessionStore::LoadOutbox(std::int32_t partition, const v1::TrajectoryName& from,
                                                             std::size_t max) const {
  std::vector<v1::Trajectory> trajectories;
  bool parsed = true;
  FUSELINE_FAIL_IF_ERROR(
      Scan(*db_, PartitionKey('o', partition), OutboxKey(from), [&](std::string_view, std::string_view value) {
        if (trajectories.size() == max) return false;
        parsed = trajectories.emplace_back().ParseFromArray(value.data(), static_cast<int>(value.size()));
        return parsed;
      }));
  if (!parsed) return Error(Code::kCorrupt, "saved trajectory is not readable, partition:", partition);
  return trajectories;
}

Status SessionStore::Write(StoreBatch& batch) {
  if (failed_) FUSELINE_RETURN_IF_ERROR(FromRocks(db_->Resume(), "resuming the session store:"));
  rocksdb::WriteOptions durable;
  durable.sync = true;
  const rocksdb::Status written = db_->Write(durable, batch.batch_.get());
  failed_ = !written.ok();
  return FromRocks(written, "writing the session store:");
}

}  // namespace fuseline
