// Files are old or new, never in between; a folder has one owner, in this process and across processes.

#include "fuseline/core/file.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using testing::HasSubstr;

TEST(FileTest, WhatIsWrittenIsReadAndReplacedWithoutATrace) {
  test::TempDir folder;
  const std::string bytes("a\0b\n", 4);
  ASSERT_THAT(WriteFileAtomically(folder / "f", "old and longer"), IsOk());
  ASSERT_THAT(WriteFileAtomically(folder / "f", bytes), IsOk());
  EXPECT_EQ(ReadFile(folder / "f"), bytes);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "no temporary file stays";
}

TEST(FileTest, AFailedWriteLeavesTheOldBytes) {
  test::TempDir folder;
  ASSERT_THAT(WriteFileAtomically(folder / "f", "old"), IsOk());
  std::filesystem::create_directory(folder / "f.tmp");  // The temporary file cannot be made, by root neither.
  const auto status = WriteFileAtomically(folder / "f", "new");
  EXPECT_THAT(status, HasCode(Code::kUnavailable));
  EXPECT_THAT(status, MessageNames(folder / "f.tmp"));
  EXPECT_EQ(ReadFile(folder / "f"), "old");
}

TEST(FileTest, AFullDiskIsUnavailable) {
  const auto status = WriteFileAtomically("/dev/full/f", "x");
  EXPECT_THAT(status, HasCode(Code::kUnavailable));
  test::TempDir folder;
  std::filesystem::create_symlink("/dev/full", folder / "f.tmp");  // Opens, and refuses every byte.
  ASSERT_THAT(WriteFileAtomically(folder / "g", "old"), IsOk());
  EXPECT_THAT(WriteFileAtomically(folder / "f", "new"), HasCode(Code::kUnavailable));
  EXPECT_THAT(ReadFile(folder / "f"), HasCode(Code::kNotFound));
}

TEST(FileTest, WhatIsAbsentIsNotFound) {
  test::TempDir folder;
  EXPECT_THAT(ReadFile(folder / "absent"), HasCode(Code::kNotFound));
  EXPECT_THAT(ReadFile(folder.path()), HasCode(Code::kUnavailable)) << "a folder is no file";
  EXPECT_THAT(SyncFolder(folder / "absent"), HasCode(Code::kUnavailable));
  EXPECT_THAT(MakeFolders(folder / "a/b/c"), IsOk());
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
  ASSERT_OK_AND_ASSIGN(const auto free_bytes, FreeDiskBytes(folder.path()));
  EXPECT_GT(free_bytes, 0);
}

// What another process is told when it asks for `folder`: its exit status is the code.
int CodeInAnotherProcess(const std::string& folder) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = FolderLock::Acquire(folder);
    ::_exit(lock ? 0 : static_cast<int>(lock.error().code));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(FolderLockTest, HasOneHolderAndNamesIt) {
  test::TempDir folder;
  {
    ASSERT_OK_AND_ASSIGN(const auto lock, FolderLock::Acquire(folder / "state"));
    EXPECT_EQ(CodeInAnotherProcess(folder / "state"), static_cast<int>(Code::kConflict));
    const auto second = FolderLock::Acquire(folder / "state");
    EXPECT_THAT(second, HasCode(Code::kConflict));
    EXPECT_THAT(second, MessageNames(std::to_string(::getpid())));
  }
  EXPECT_EQ(CodeInAnotherProcess(folder / "state"), 0) << "released with its holder";
}

TEST(FolderLockTest, MovesWithItsOwnerAndDiesWithItsProcess) {
  test::TempDir folder;
  ASSERT_EQ(CodeInAnotherProcess(folder.path()), 0);
  auto first = FolderLock::Acquire(folder.path());
  ASSERT_THAT(first, IsOk()) << "the process that held it has ended, its file still lies there";
  const FolderLock moved = std::move(*first);
  EXPECT_EQ(CodeInAnotherProcess(folder.path()), static_cast<int>(Code::kConflict));
}

}  // namespace
}  // namespace fuseline
