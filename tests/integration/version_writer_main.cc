// A writer that can be stopped like any process: claims a policy, and publishes versions one after another until it is told that it was replaced.
//   fuseline_version_writer REDIS_ADDRESS FOLDER EPOCH FIRST_VERSION
// Exits with 5 when it was fenced, with 1 for anything else.
#include <cstdlib>
#include <iostream>
#include <string>

#include "fuseline/policy_store/publisher.h"
#include "version_fixture.h"

namespace fuseline {
namespace {

Status Publish(const std::string& address, const std::string& folder, std::uint64_t epoch, std::uint64_t first) {
  DiskFileSystem disk;
  SystemClock clock;
  Log log(Severity::kError);
  Metrics metrics;
  FUSELINE_ASSIGN_OR_RETURN(Archive archive, Archive::Open(folder, /*part_bytes=*/700, disk));
  const auto connect = [&] { return RedisConnection::Connect({.address = address, .command_timeout_ms = 60'000}); };
  FUSELINE_ASSIGN_OR_RETURN(Publisher publisher, Publisher::Open({.delta_min_bytes = 1}, archive, connect, clock, log, metrics));
  FUSELINE_RETURN_IF_ERROR(publisher.Claim(epoch));
  for (std::uint64_t number = first;; ++number) {
    PolicyVersion version = AcceptedVersion(number);
    version.manifest.mutable_lineage()->set_epoch(epoch);
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const Published published, publisher.Publish(version, PointLive::kYes));
  }
}

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const fuseline::Status ended = fuseline::Publish(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10), std::strtoull(argv[4], nullptr, 10));
  std::cerr << ended.message << '\n';
  return ended.code == fuseline::Code::kConflict && ended.message.find("fenced") != std::string::npos ? 5 : 1;
}
