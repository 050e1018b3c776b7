#include "session_store.h"

#include <algorithm>
#include <cstdarg>
#include <memory>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/cache.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include "fuseline/core/file.h"
#include "session_codec.h"

namespace fuseline {
namespace {

constexpr char kFormatKey[] = "f";
constexpr std::size_t kPrefixBytes = 5;  // Kind and partition.
constexpr std::uint64_t kBlobBytesMin = 16 << 10;
constexpr std::int64_t kFreeBytesMin = 8 << 20;
constexpr char kKinds[] = {'p', 'm', 'j', 'u', 'c', 'o'};

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

std::string Prefix(char kind, std::int32_t partition) {
  std::string key(1, kind);
  PutBigEndian(partition, &key);
  return key;
}

template <typename Number>
std::string NumberKey(char kind, std::int32_t partition, Number number) {
  std::string key = Prefix(kind, partition);
  PutBigEndian(number, &key);
  return key;
}

std::string UserKey(std::int32_t partition, std::string_view user_id) { return Prefix('u', partition).append(user_id); }

// Event times are 0 or later, so that they sort as they are.
std::string ColdKey(std::int32_t partition, std::int64_t end_ms, std::string_view user_id) {
  return NumberKey('c', partition, end_ms).append(user_id);
}

Status FromRocks(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return OkStatus();
  // A file of the store's own that is not there, or is shorter than it was, is as bad as one that is wrong inside.
  if (status.IsCorruption() || status.IsPathNotFound()) return ErrorStatus(Code::kCorrupt, doing, status.ToString());
  if (status.IsNotFound()) return ErrorStatus(Code::kNotFound, doing, status.ToString());
  if (status.IsInvalidArgument() || status.IsNotSupported()) return ErrorStatus(Code::kInternal, doing, status.ToString());
  return ErrorStatus(Code::kUnavailable, doing, status.ToString());  // Disk full, I/O error, in use, being resumed.
}

// Of what must be there: something else that is stored says so.
Status FromRocksHeld(const rocksdb::Status& status, std::string_view doing) {
  return status.IsNotFound() ? ErrorStatus(Code::kCorrupt, doing, status.ToString()) : FromRocks(status, doing);
}

template <typename Message>
Status Parse(std::string_view bytes, std::string_view what, Message* message) {
  if (message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return OkStatus();
  return ErrorStatus(Code::kCorrupt, "not readable in the session store:", what);
}

// A log file of RocksDB's own aborts the process at the first line after one that found no room (7.8, with assertions as Debian
// builds it). What goes wrong comes out of the calls as well.
class NoLogFile final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::Options StoreOptions(std::size_t memory_max_bytes, rocksdb::Env* env) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.allow_fallocate = false;  // Room for a whole log at once is not there on a disk that is nearly full, where a commit still is.
  if (env != nullptr) options.env = env;
  // What is written is dropped again within the life of a session, a page of the outbox with one of the next commits: two buffers are
  // flushed together, so that it is seldom written twice. Half of the memory for buffers, a quarter for what is read.
  options.max_write_buffer_number = 3;
  options.min_write_buffer_number_to_merge = 2;
  options.write_buffer_size = std::clamp<std::size_t>(memory_max_bytes / 6, 1 << 20, 64 << 20);
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.02;
  rocksdb::BlockBasedTableOptions table;
  // One shard, and filters in pieces: a filter of millions of cold users is larger than a shard of many would be, and then every
  // event of a user who is not in memory reads all of it.
  table.block_cache = rocksdb::NewLRUCache(std::max<std::size_t>(memory_max_bytes / 4, 1 << 20), /*num_shard_bits=*/0);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.cache_index_and_filter_blocks = true;
  table.pin_top_level_index_and_filter = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.enable_blob_files = true;
  options.min_blob_size = kBlobBytesMin;
  options.compression = rocksdb::kLZ4Compression;
  options.blob_compression_type = rocksdb::kNoCompression;  // They live for minutes: not worth the time.
  options.info_log = std::make_shared<NoLogFile>();
  options.avoid_flush_during_shutdown = true;  // What must last is in the write-ahead log.
  // A write that a crash has torn ends the write-ahead log; anything else in it that cannot be read is an error, not the end. Who
  // damages the very last write makes it look torn: then the state is that of the commit before, which is as good.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
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

// The same with what follows the prefix, until `take` fails.
template <typename Take>
Status ScanAll(rocksdb::DB& db, char kind, std::int32_t partition, Take take) {
  const std::string prefix = Prefix(kind, partition);
  Status failed = OkStatus();
  FUSELINE_RETURN_IF_ERROR(Scan(db, prefix, prefix, [&](std::string_view key, std::string_view value) {
    failed = take(key.substr(prefix.size()), value);
    return failed.ok();
  }));
  return failed;
}

}  // namespace

StoreBatch::StoreBatch() : batch_(std::make_unique<rocksdb::WriteBatch>()) {}
StoreBatch::~StoreBatch() = default;

void StoreBatch::Clear(std::size_t kept_bytes_max) {
  if (batch_->Data().capacity() > kept_bytes_max) batch_ = std::make_unique<rocksdb::WriteBatch>();
  batch_->Clear();
}

void StoreBatch::PutState(std::int32_t partition, const v1::PartitionState& state) {
  batch_->Put(Prefix('p', partition), state.SerializeAsString());
}

void StoreBatch::PutChanges(std::int32_t partition, const SessionChanges& changes) {
  for (const SessionChanges::Segment& segment : changes.segments) batch_->Put(NumberKey('j', partition, segment.number), segment.bytes);
  for (const std::uint32_t number : changes.dead_segments) batch_->Delete(NumberKey('j', partition, number));
  for (const auto& [user_id, end_ms] : changes.warmed) {
    batch_->Delete(UserKey(partition, user_id));
    batch_->Delete(ColdKey(partition, end_ms, user_id));
  }
  for (const v1::ColdUser& user : changes.cooled) {
    v1::ColdUser head = user;
    head.clear_user_id();
    head.clear_events();
    batch_->Put(UserKey(partition, user.user_id()), head.SerializeAsString());
    head.clear_earliest_end_ms();
    head.set_events(user.events());
    batch_->Put(ColdKey(partition, user.earliest_end_ms(), user.user_id()), head.SerializeAsString());
  }
  for (const v1::CommitPoint& point : changes.points) batch_->Put(NumberKey('m', partition, point.offset()), point.SerializeAsString());
  for (const std::int64_t offset : changes.dead_points) batch_->Delete(NumberKey('m', partition, offset));
}

void StoreBatch::PutPage(std::int32_t partition, std::uint64_t number, std::string_view bytes) {
  batch_->Put(NumberKey('o', partition, number), bytes);
}

void StoreBatch::DropPage(std::int32_t partition, std::uint64_t number) { batch_->Delete(NumberKey('o', partition, number)); }

SessionStore::SessionStore(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}
SessionStore::~SessionStore() = default;

Result<std::unique_ptr<SessionStore>> SessionStore::Open(const std::filesystem::path& folder, std::size_t memory_max_bytes,
                                                         rocksdb::Env* env) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  rocksdb::DB* db = nullptr;
  FUSELINE_FAIL_IF_ERROR(
      FromRocks(rocksdb::DB::Open(StoreOptions(memory_max_bytes, env), folder.string(), &db), "opening the session store:"));
  std::unique_ptr<SessionStore> store(new SessionStore(std::unique_ptr<rocksdb::DB>(db)));
  FUSELINE_FAIL_IF_ERROR(store->CheckFormat());
  return store;
}

Result<std::unique_ptr<SessionStore>> SessionStore::OpenReadOnly(const std::filesystem::path& folder, std::size_t memory_max_bytes) {
  rocksdb::DB* db = nullptr;
  FUSELINE_FAIL_IF_ERROR(FromRocks(rocksdb::DB::OpenForReadOnly(StoreOptions(memory_max_bytes, nullptr), folder.string(), &db),
                                   "opening the session store to look at it:"));
  std::unique_ptr<SessionStore> store(new SessionStore(std::unique_ptr<rocksdb::DB>(db)));
  FUSELINE_FAIL_IF_ERROR(store->CheckFormat());
  return store;
}

Status SessionStore::CheckFormat() {
  std::string format;
  const rocksdb::Status found = db_->Get(rocksdb::ReadOptions(), kFormatKey, &format);
  if (found.IsNotFound()) {
    StoreBatch batch;
    batch.batch_->Put(kFormatKey, std::to_string(kStoreFormat));
    return Write(batch);
  }
  FUSELINE_RETURN_IF_ERROR(FromRocks(found, "reading the format of the session store:"));
  if (format == std::to_string(kStoreFormat)) return OkStatus();
  return ErrorStatus(Code::kInvalidInput,
                     "the session store has another format than this program writes: begin with an empty state folder;"
                     " format of the store, of the program:",
                     format, kStoreFormat);
}

Result<std::vector<std::pair<std::int32_t, v1::PartitionState>>> SessionStore::LoadStates() const {
  std::vector<std::pair<std::int32_t, v1::PartitionState>> states;
  Status failed = OkStatus();
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, "p", "p", [&](std::string_view key, std::string_view value) {
    auto& [partition, state] = states.emplace_back();
    partition = static_cast<std::int32_t>(TakeBigEndian(key.substr(1)));
    failed = Parse(value, "state of a partition", &state);
    if (failed.ok() && state.rules().empty()) failed = ErrorStatus(Code::kCorrupt, "saved state of a partition has no rules");
    return failed.ok();
  }));
  FUSELINE_FAIL_IF_ERROR(failed);
  return states;
}

Status SessionStore::LoadPoints(std::int32_t partition, const std::function<Status(const v1::CommitPoint&)>& take) const {
  return ScanAll(*db_, 'm', partition, [&](std::string_view, std::string_view value) {
    v1::CommitPoint point;
    FUSELINE_RETURN_IF_ERROR(Parse(value, "commit point", &point));
    return take(point);
  });
}

Status SessionStore::LoadColdUsers(std::int32_t partition, const std::function<Status(const v1::ColdUser&)>& take) const {
  v1::ColdUser user;
  return ScanAll(*db_, 'u', partition, [&](std::string_view key, std::string_view value) {
    FUSELINE_RETURN_IF_ERROR(Parse(value, "cold user", &user));
    user.set_user_id(std::string(key));
    return take(user);
  });
}

Status SessionStore::LoadSegments(std::int32_t partition,
                                  const std::function<Status(std::uint32_t, std::string_view)>& take) const {
  return ScanAll(*db_, 'j', partition, [&](std::string_view key, std::string_view value) {
    return take(static_cast<std::uint32_t>(TakeBigEndian(key)), value);
  });
}

Status SessionStore::LoadPages(std::int32_t partition, const std::function<Status(std::uint64_t, std::string_view)>& take) const {
  return ScanAll(*db_, 'o', partition, [&](std::string_view key, std::string_view value) { return take(TakeBigEndian(key), value); });
}

Result<std::string> SessionStore::ReadSegment(std::int32_t partition, std::uint32_t number) const {
  std::string bytes;
  FUSELINE_FAIL_IF_ERROR(FromRocksHeld(db_->Get(rocksdb::ReadOptions(), NumberKey('j', partition, number), &bytes), "reading a journal segment:"));
  return bytes;
}

Result<std::string> SessionStore::ReadPage(std::int32_t partition, std::uint64_t number) const {
  std::string bytes;
  FUSELINE_FAIL_IF_ERROR(FromRocksHeld(db_->Get(rocksdb::ReadOptions(), NumberKey('o', partition, number), &bytes), "reading a page of the outbox:"));
  return bytes;
}

Result<v1::ColdUser> SessionStore::ReadCold(std::int32_t partition, std::string_view user_id, std::string_view head) const {
  v1::ColdUser user;
  FUSELINE_FAIL_IF_ERROR(Parse(head, "cold user", &user));
  const std::int64_t end_ms = user.earliest_end_ms();
  std::string bytes;
  FUSELINE_FAIL_IF_ERROR(FromRocksHeld(db_->Get(rocksdb::ReadOptions(), ColdKey(partition, end_ms, user_id), &bytes), "reading cold sessions:"));
  FUSELINE_FAIL_IF_ERROR(Parse(bytes, "cold sessions", &user));
  user.set_earliest_end_ms(end_ms);
  user.set_user_id(std::string(user_id));
  return user;
}

Result<std::optional<v1::ColdUser>> SessionStore::Find(std::int32_t partition, std::string_view user_id) {
  std::string head;
  const rocksdb::Status found = db_->Get(rocksdb::ReadOptions(), UserKey(partition, user_id), &head);
  if (found.IsNotFound()) return std::nullopt;
  FUSELINE_FAIL_IF_ERROR(FromRocks(found, "looking for cold sessions:"));
  FUSELINE_ASSIGN_OR_FAIL(v1::ColdUser user, ReadCold(partition, user_id, head));
  return std::optional<v1::ColdUser>(std::move(user));
}

Result<ColdSessions::DueUsers> SessionStore::Due(std::int32_t partition, std::int64_t from_ms, std::int64_t bound_ms,
                                                 std::string_view after_user_id, std::size_t max) {
  DueUsers due;
  const std::string ends = Prefix('c', partition);
  Status failed = OkStatus();
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, ends, NumberKey('c', partition, std::max<std::int64_t>(from_ms, 0)), [&](std::string_view key, std::string_view value) {
    const auto end_ms = static_cast<std::int64_t>(TakeBigEndian(key.substr(kPrefixBytes, 8)));
    if (end_ms >= bound_ms) {
      due.next_end_ms = end_ms;
      return false;
    }
    due.all = due.users.size() < max;
    if (!due.all) return false;
    v1::ColdUser& user = due.users.emplace_back();
    failed = Parse(value, "cold sessions", &user);
    user.set_user_id(std::string(key.substr(kPrefixBytes + 8)));
    user.set_earliest_end_ms(end_ms);
    return failed.ok();
  }));
  FUSELINE_FAIL_IF_ERROR(failed);
  if (due.all) return due;

  // Too many for one go: in the order in which they will close, then.
  due.users.clear();
  const std::string users = Prefix('u', partition);
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, users, UserKey(partition, after_user_id), [&](std::string_view key, std::string_view value) {
    v1::ColdUser head;
    const std::string_view user_id = key.substr(kPrefixBytes);
    failed = Parse(value, "cold user", &head);
    if (!failed.ok() || user_id == after_user_id || head.earliest_end_ms() >= bound_ms) return failed.ok();
    if (due.users.size() == max) return false;
    auto user = ReadCold(partition, user_id, value);
    if (!user) failed = std::move(user).error();
    if (failed.ok()) due.users.push_back(*std::move(user));
    return failed.ok();
  }));
  FUSELINE_FAIL_IF_ERROR(failed);
  due.all = due.users.size() < max;
  if (!due.all) return due;
  FUSELINE_FAIL_IF_ERROR(Scan(*db_, ends, NumberKey('c', partition, std::max<std::int64_t>(bound_ms, 0)), [&](std::string_view key, std::string_view) {
    due.next_end_ms = static_cast<std::int64_t>(TakeBigEndian(key.substr(kPrefixBytes, 8)));
    return false;
  }));
  return due;
}

Status SessionStore::Write(StoreBatch& batch) {
  // A write-ahead log in which a write found no room cannot be written to again (RocksDB 7.8: with its assertions the process ends). So
  // there must be room for the write, and some for what others write meanwhile.
  FUSELINE_ASSIGN_OR_RETURN(const std::int64_t free_bytes, FreeDiskBytes(db_->GetName()));
  const auto needed = static_cast<std::int64_t>(2 * batch.batch_->GetDataSize()) + kFreeBytesMin;
  if (free_bytes < needed) return ErrorStatus(Code::kUnavailable, "too little free disk for the session store; bytes free, needed:", free_bytes, needed);
  if (failed_) FUSELINE_RETURN_IF_ERROR(FromRocks(db_->Resume(), "resuming the session store:"));
  // Where the room went in between, RocksDB begins a new write-ahead log only if there is something in memory to flush
  // (facebook/rocksdb issue 11643). So there always is something.
  std::uint64_t entries = 0;
  if (db_->GetIntProperty(rocksdb::DB::Properties::kNumEntriesActiveMemTable, &entries) && entries == 0) {
    rocksdb::WriteOptions fleeting;
    fleeting.disableWAL = true;
    FUSELINE_RETURN_IF_ERROR(FromRocks(db_->Put(fleeting, kFormatKey, std::to_string(kStoreFormat)), "writing the session store:"));
  }
  rocksdb::WriteOptions durable;
  durable.sync = true;
  const rocksdb::Status written = db_->Write(durable, batch.batch_.get());
  failed_ = !written.ok();
  return FromRocks(written, "writing the session store:");
}

Status SessionStore::DropPartition(std::int32_t partition) {
  StoreBatch batch;
  for (const char kind : kKinds) {
    std::string end = Prefix(kind, partition + 1);
    batch.batch_->DeleteRange(Prefix(kind, partition), end);
  }
  return Write(batch);
}

}  // namespace fuseline
