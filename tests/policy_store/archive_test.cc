// The archive holds a version whole or not at all, gives back the bytes that were put, and says which file is damaged.
// Method: every n-th call to the disk fails, alone or with all that follow, until none is left; every byte is flipped.
#include "fuseline/policy_store/archive.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "versions.h"

namespace fuseline {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
namespace fs = std::filesystem;

constexpr std::uint64_t kPartBytes = 2'000;

// Lets `calls` calls through and fails the next one, or it and all after it (the power went). A failing Write leaves half of its bytes.
class FaultFileSystem final : public FileSystem {
 public:
  FaultFileSystem(int calls, bool for_good) : left_(calls), for_good_(for_good) {}
  bool has_failed() const { return has_failed_; }

  Result<std::string> Read(const fs::path& path) override {
    FUSELINE_FAIL_IF_ERROR(Next());
    return disk_.Read(path);
  }
  Result<std::vector<std::string>> List(const fs::path& folder) override {
    FUSELINE_FAIL_IF_ERROR(Next());
    return disk_.List(folder);
  }
  Status MakeFolders(const fs::path& folder) override {
    FUSELINE_RETURN_IF_ERROR(Next());
    return disk_.MakeFolders(folder);
  }
  Status Write(const fs::path& path, std::string_view bytes) override {
    const bool was_failed = has_failed_;
    if (Status status = Next(); !status.ok()) {
      if (!was_failed) (void)disk_.Write(path, bytes.substr(0, bytes.size() / 2)).ok();
      return status;
    }
    return disk_.Write(path, bytes);
  }
  Status Append(const fs::path& path, std::string_view bytes) override {
    FUSELINE_RETURN_IF_ERROR(Next());
    return disk_.Append(path, bytes);
  }
  Status Rename(const fs::path& from, const fs::path& to) override {
    FUSELINE_RETURN_IF_ERROR(Next());
    return disk_.Rename(from, to);
  }
  Status SyncFolder(const fs::path& folder) override {
    FUSELINE_RETURN_IF_ERROR(Next());
    return disk_.SyncFolder(folder);
  }
  Status Remove(const fs::path& path) override {
    FUSELINE_RETURN_IF_ERROR(Next());
    return disk_.Remove(path);
  }

 private:
  Status Next() {
    if (left_-- > 0 || (has_failed_ && !for_good_)) return OkStatus();
    has_failed_ = true;
    return ErrorStatus(Code::kUnavailable, "no space left");
  }
  DiskFileSystem disk_;
  int left_;
  bool for_good_;
  bool has_failed_ = false;
};

Result<Archive> OpenArchive(const std::string& folder, FileSystem& files) { return Archive::Open(folder, kPartBytes, files); }

// For every n and both manners of failing: `prepare` on a sound disk, then `act` with its n-th call to the disk failing, then
// `check` on a sound disk again, told whether `act` was done. Ends when an `act` saw no failure.
void ForEveryFailure(const std::function<void(Archive&)>& prepare, const std::function<Status(Archive&)>& act,
                     const std::function<void(Archive&, bool was_done)>& check) {
  for (const bool for_good : {false, true}) {
    bool has_failed = true;
    int calls = 0;
    for (; has_failed; ++calls) {
      SCOPED_TRACE(testing::Message() << "call " << calls << (for_good ? " and all after it fail" : " fails"));
      const test::TempDir folder;
      DiskFileSystem disk;
      {
        ASSERT_OK_AND_ASSIGN(Archive archive, OpenArchive(folder.path(), disk));
        prepare(archive);
      }
      FaultFileSystem faulty(calls, for_good);
      auto archive = OpenArchive(folder.path(), faulty);
      const Status done = archive ? act(*archive) : archive.error();
      has_failed = faulty.has_failed();
      ASSERT_EQ(done.ok(), !has_failed) << done.message;
      ASSERT_OK_AND_ASSIGN(Archive reopened, OpenArchive(folder.path(), disk));
      check(reopened, done.ok());
      ASSERT_LT(calls, 100);
    }
    EXPECT_GT(calls, 5);
  }
}

TEST(ArchiveTest, GivesBackWhatWasPutWithItsPartsCut) {
  const test::TempDir folder;
  DiskFileSystem disk;
  ASSERT_OK_AND_ASSIGN(Archive archive, OpenArchive(folder.path(), disk));
  ASSERT_THAT(archive.Put(MakeVersion(1)), IsOk());
  ASSERT_THAT(archive.Put(MakeVersion(123'456'789)), IsOk());
  ASSERT_OK_AND_ASSIGN(Archive reopened, OpenArchive(folder.path(), disk));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion stored, reopened.Get(1));
  EXPECT_EQ(stored.version.weights, MakeVersion(1).weights);
  EXPECT_EQ(stored.version.manifest.parts_size(), 3);
  EXPECT_EQ(stored.manifest_bytes, CanonicalBytes(stored.version.manifest));
  ASSERT_OK_AND_ASSIGN(const auto versions, reopened.List());
  EXPECT_THAT(versions, ElementsAre(1, 123'456'789));
  ASSERT_OK_AND_ASSIGN(const std::uint64_t newest, reopened.Newest());
  EXPECT_EQ(newest, 123'456'789u);
  EXPECT_THAT(reopened.Get(2), HasCode(Code::kNotFound));
}

TEST(ArchiveTest, ALookBesideTheOwnerRemovesNothingThatTheOwnerIsWriting) {
  const test::TempDir folder;
  DiskFileSystem disk;
  ASSERT_OK_AND_ASSIGN(Archive archive, OpenArchive(folder.path(), disk));
  ASSERT_THAT(archive.Put(MakeVersion(1)), IsOk());
  const fs::path unfinished = fs::path(folder.path()) / "versions" / ".00000002";
  fs::create_directory(unfinished);

  const Archive beside = Archive::OpenReadOnly(folder.path(), disk);

  ASSERT_OK_AND_ASSIGN(const auto versions, beside.List());
  EXPECT_THAT(versions, ElementsAre(1));
  EXPECT_THAT(beside.Get(1), IsOk());
  EXPECT_TRUE(fs::exists(unfinished));
}

TEST(ArchiveTest, TheSameVersionAgainIsDoneAndAnotherUnderItsNumberRefused) {
  const test::TempDir folder;
  DiskFileSystem disk;
  ASSERT_OK_AND_ASSIGN(Archive archive, OpenArchive(folder.path(), disk));
  ASSERT_THAT(archive.Put(MakeVersion(1)), IsOk());
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion stored, archive.Get(1));
  EXPECT_THAT(archive.Put(MakeVersion(1)), IsOk());
  EXPECT_THAT(archive.Put(stored.version), IsOk());
  ASSERT_OK_AND_ASSIGN(Archive other_parts, Archive::Open(folder.path(), 100, disk));
  EXPECT_THAT(other_parts.Put(MakeVersion(1)), IsOk());  // Parts stay as they were first cut.

  EXPECT_THAT(archive.Put(MakeVersion(1, "other weights")), HasCode(Code::kConflict));
  PolicyVersion other_manifest = MakeVersion(1);
  other_manifest.manifest.set_algorithm("other");
  EXPECT_THAT(archive.Put(other_manifest), HasCode(Code::kConflict));
  PolicyVersion other_digest = MakeVersion(2);
  other_digest.manifest.set_weights_sha256(std::string(32, 'x'));
  EXPECT_THAT(archive.Put(other_digest), HasCode(Code::kInvalidInput));
  EXPECT_THAT(archive.Put(MakeVersion(0)), HasCode(Code::kInvalidInput));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion again, archive.Get(1));
  EXPECT_EQ(again.manifest_bytes, stored.manifest_bytes);
}

TEST(ArchiveTest, APutThatFailsAnywhereLeavesTheVersionWholeOrAbsentAndCanBeRepeated) {
  ForEveryFailure([](Archive& archive) { ASSERT_THAT(archive.Put(MakeVersion(1)), IsOk()); },
                  [](Archive& archive) { return archive.Put(MakeVersion(2)); },
                  [](Archive& archive, bool was_done) {
                    EXPECT_THAT(archive.Get(1), IsOk());
                    const auto stored = archive.Get(2);
                    if (stored) {
                      EXPECT_EQ(stored->version.weights, MakeVersion(2).weights);
                    }
                    if (!stored) {
                      EXPECT_TRUE(!was_done && stored.error().code == Code::kNotFound) << stored.error().message;
                    }
                    EXPECT_THAT(archive.Put(MakeVersion(2)), IsOk());
                    EXPECT_THAT(archive.Get(2), IsOk());
                  });
}

TEST(ArchiveTest, APruneThatFailsAnywhereLeavesEachVersionWholeOrAbsent) {
  ForEveryFailure(
      [](Archive& archive) {
        for (std::uint64_t version = 1; version <= 4; ++version) ASSERT_THAT(archive.Put(MakeVersion(version)), IsOk());
      },
      [](Archive& archive) {
        const auto pruned = archive.Prune(1, {2});
        return pruned ? OkStatus() : pruned.error();
      },
      [](Archive& archive, bool was_done) {
        ASSERT_OK_AND_ASSIGN(const auto versions, archive.List());
        for (const std::uint64_t version : versions) EXPECT_THAT(archive.Get(version), IsOk());
        EXPECT_THAT(archive.Get(2), IsOk());
        EXPECT_THAT(archive.Get(4), IsOk());
        if (was_done) {
          EXPECT_THAT(versions, ElementsAre(2, 4));
        }
      });
}

TEST(ArchiveTest, SavedAliasesAreTheOldOrTheNewWhateverFails) {
  const auto state = [](std::uint64_t change) {
    v1::AliasState result;
    result.set_change(change);
    return result;
  };
  ForEveryFailure([&](Archive& archive) { ASSERT_THAT(archive.SaveAliases(state(1)), IsOk()); },
                  [&](Archive& archive) { return archive.SaveAliases(state(2)); },
                  [](Archive& archive, bool was_done) {
                    ASSERT_OK_AND_ASSIGN(const v1::AliasState saved, archive.LoadAliases());
                    EXPECT_TRUE(saved.change() == 2 || (!was_done && saved.change() == 1)) << saved.change();
                  });
}

TEST(ArchiveTest, AnyFlippedOrMissingByteIsCorruptionThatNamesTheFile) {
  const test::TempDir folder;
  DiskFileSystem disk;
  ASSERT_OK_AND_ASSIGN(Archive archive, OpenArchive(folder.path(), disk));
  ASSERT_THAT(archive.Put(MakeVersion(1, "plain", 300)), IsOk());
  v1::AliasState state;
  state.set_change(7);
  ASSERT_THAT(archive.SaveAliases(state), IsOk());
  const fs::path version = fs::path(folder.path()) / "versions" / "00000001";
  for (const fs::path& path : {version / "manifest.pb", version / "weights.safetensors", version / "SHA256SUMS",
                               fs::path(folder.path()) / "aliases.pb"}) {
    const bool is_aliases = path.filename() == "aliases.pb";
    const auto read = [&] {
      const auto got = archive.Get(1);
      const auto aliases = archive.LoadAliases();
      return is_aliases ? (aliases ? OkStatus() : aliases.error()) : (got ? OkStatus() : got.error());
    };
    // A damaged SHA256SUMS accuses a file beside it; all others name themselves.
    const std::string named = path.filename() == "SHA256SUMS" ? "00000001" : path.filename().string();
    ASSERT_OK_AND_ASSIGN(const std::string sound, ReadFile(path));
    for (std::size_t at = 0; at < sound.size(); ++at) {
      std::string flipped = sound;
      flipped[at] ^= static_cast<char>(1 << (at % 8));
      std::ofstream(path, std::ios::binary | std::ios::trunc) << flipped;
      EXPECT_THAT(read(), AllOf(HasCode(Code::kCorrupt), MessageNames(named))) << path << " at " << at;
    }
    ASSERT_THAT(disk.Write(path, sound.substr(0, sound.size() - 1)), IsOk());
    EXPECT_THAT(read(), HasCode(Code::kCorrupt)) << path << " cut";
    if (!is_aliases) {
      ASSERT_THAT(disk.Remove(path), IsOk());
      EXPECT_THAT(read(), AllOf(HasCode(Code::kCorrupt), MessageNames(path.filename().string())));
    }
    ASSERT_THAT(disk.Write(path, sound), IsOk());
    EXPECT_THAT(read(), IsOk());
  }
}

}  // namespace
}  // namespace fuseline
