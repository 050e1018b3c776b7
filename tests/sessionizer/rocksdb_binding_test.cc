// The library of RocksDB that this program is linked with asks for its checksum through the dynamic linker: a program's function of that
// name is called. Should another build of RocksDB bind its own, this fails, and docs/decisions/0013 has lost its gain.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <dlfcn.h>

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include "fuseline/test_support/temp_dir.h"

namespace {
std::atomic<std::size_t> summed_bytes = 0;
}

namespace rocksdb::crc32c {

// RocksDB's own, counted.
std::uint32_t Extend(std::uint32_t crc, const char* data, std::size_t size) {
  using Function = std::uint32_t (*)(std::uint32_t, const char*, std::size_t);
  static const auto own = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "_ZN7rocksdb6crc32c6ExtendEjPKcm"));
  summed_bytes += size;
  return own(crc, data, size);
}

}  // namespace rocksdb::crc32c

namespace fuseline::test {
namespace {

TEST(RocksDbBindingTest, WhatADatabaseWritesIsSummedByTheProgramsFunction) {
  const TempDir dir;
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* opened = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, dir / "db", &opened).ok());
  const std::unique_ptr<rocksdb::DB> db(opened);
  const std::string value(1'000'000, 'v');
  const std::size_t before = summed_bytes;

  ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "key", value).ok());

  EXPECT_GE(summed_bytes - before, value.size()) << "the write-ahead log was summed by a function that RocksDB has bound itself";
}

}  // namespace
}  // namespace fuseline::test
