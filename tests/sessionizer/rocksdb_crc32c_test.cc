// The checksum that stands in our programs for RocksDB's own gives the same values: RocksDB's, called in its library, says which.
#include <cstddef>
#include <cstdint>
#include <string>

#include <dlfcn.h>

#include <gtest/gtest.h>
#include <rocksdb/version.h>

#include "fuseline/core/random.h"

namespace rocksdb::crc32c {
std::uint32_t Extend(std::uint32_t crc, const char* data, std::size_t size);
}

namespace fuseline {
namespace {

using ExtendFunction = std::uint32_t (*)(std::uint32_t, const char*, std::size_t);

ExtendFunction RocksDbOwn() {
  rocksdb::GetRocksVersionAsString();  // The library is needed, so it is loaded.
  return reinterpret_cast<ExtendFunction>(dlsym(RTLD_NEXT, "_ZN7rocksdb6crc32c6ExtendEjPKcm"));
}

TEST(RocksDbCrc32cTest, TheProgramsOwnStandsInThePlaceOfRocksDbs) {
  const ExtendFunction own = RocksDbOwn();
  ASSERT_NE(own, nullptr);
  EXPECT_NE(own, &rocksdb::crc32c::Extend);
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "_ZN7rocksdb6crc32c6ExtendEjPKcm"), reinterpret_cast<void*>(&rocksdb::crc32c::Extend));
}

TEST(RocksDbCrc32cTest, ItGivesThePublishedValue) {
  EXPECT_EQ(rocksdb::crc32c::Extend(0, "123456789", 9), 0xE3069283u);
}

TEST(RocksDbCrc32cTest, ItGivesWhatRocksDbsOwnGivesForAnyBytesAtAnyPlace) {
  const ExtendFunction own = RocksDbOwn();
  ASSERT_NE(own, nullptr);
  Random random(1, "rocksdb_crc32c_test", 0);
  std::string bytes(5000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.NextBelow(256));
  std::uint32_t crc = 0;
  for (std::size_t size = 0; size < 4000; ++size) {
    const char* const data = bytes.data() + random.NextBelow(1000);
    const std::uint32_t expected = own(crc, data, size);
    ASSERT_EQ(rocksdb::crc32c::Extend(crc, data, size), expected) << "size " << size;
    crc = expected;  // Goes on with whatever came before.
  }
}

}  // namespace
}  // namespace fuseline
