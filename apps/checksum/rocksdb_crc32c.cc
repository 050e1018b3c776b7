// CRC-32C by the processor's own instruction, in the place of RocksDB's. Debian builds RocksDB without it, and by table this checksum of
// all that is written to the write-ahead log and to blob files is an eighth of what an event costs.
//
// RocksDB calls the function through the dynamic linker, which finds a program's before a library's. The values are the same
// (tests/sessionizer/rocksdb_crc32c_test.cc), so are the files. Where the processor lacks the instruction, RocksDB's own answers.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>

namespace rocksdb::crc32c {

using ExtendFunction = std::uint32_t (*)(std::uint32_t, const char*, std::size_t);

[[gnu::target("sse4.2")]] static std::uint32_t ExtendByInstruction(std::uint32_t crc, const char* data, std::size_t size) {
  std::uint64_t rest = ~crc;
  for (; size >= sizeof(std::uint64_t); size -= sizeof(std::uint64_t), data += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, sizeof(word));
    rest = __builtin_ia32_crc32di(rest, word);
  }
  auto narrow = static_cast<std::uint32_t>(rest);
  for (; size > 0; --size, ++data) narrow = __builtin_ia32_crc32qi(narrow, static_cast<unsigned char>(*data));
  return ~narrow;
}

static ExtendFunction Choose() {
  if (__builtin_cpu_supports("sse4.2")) return ExtendByInstruction;
  void* const own = dlsym(RTLD_NEXT, "_ZN7rocksdb6crc32c6ExtendEjPKcm");
  if (own == nullptr) std::abort();  // Nobody but RocksDB calls this.
  return reinterpret_cast<ExtendFunction>(own);
}

// The checksum of what `crc` is the checksum of, followed by `data`.
std::uint32_t Extend(std::uint32_t crc, const char* data, std::size_t size) {
  static const ExtendFunction chosen = Choose();
  return chosen(crc, data, size);
}

}  // namespace rocksdb::crc32c
