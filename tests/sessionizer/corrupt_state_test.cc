// One byte of the state is flipped, in every kind of file that the store writes, at many places: the sessionizer either does not
// need that byte, or says kCorrupt, sets the state aside and builds it again from the log. What the reader of trajectories
// has in the end is always the same, name by name and byte by byte. FUSELINE_FLIPS=… flips that many bytes of each file.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/test_support/temp_dir.h"
#include "stage_course.h"

namespace fuseline::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRecords = 8'000;
constexpr std::int64_t kKilledAt = 6'000;

// Groups of ten users take turns, so that sessions close all the time, and bodies are bytes that do not compress.
v1::Event EventAt(std::int64_t offset) {
  Random random(7, "corrupt state", static_cast<std::uint64_t>(offset));
  std::string request = "r" + std::to_string(offset) + "-";
  for (int i = 0; i < 300; ++i) request.push_back(static_cast<char>('0' + random.NextBelow(64)));
  const std::string user = "u" + std::to_string(offset / 400 % 8 * 10 + static_cast<std::int64_t>(random.NextBelow(10)));
  return ExposureEvent(user, offset * 10, "e" + std::to_string(offset), request);
}

StageCourse::Plan PlanOf() {
  StageCourse::Plan plan{.event_at = EventAt};
  plan.settings.set_gap_ms(4'000);
  plan.settings.set_lateness_ms(500);
  plan.settings.set_max_events(1'000);
  plan.settings.set_max_trajectory_bytes(1 << 20);
  plan.settings.set_max_memory_bytes(1 << 20);  // Little, so that there are cold users, and tables of the store.
  plan.settings.set_commit_records(200);
  plan.settings.set_commit_interval_ms(60'000);
  plan.settings.set_max_outbox(1'000'000);
  return plan;
}

void Flip(std::fstream& stream, std::uint64_t place) {
  stream.seekg(static_cast<std::streamoff>(place));
  const auto byte = static_cast<char>(stream.get());
  stream.seekp(static_cast<std::streamoff>(place));
  stream.put(static_cast<char>(byte ^ 0x10));
}

std::fstream OpenForDamage(const fs::path& file) { return std::fstream(file, std::ios::in | std::ios::out | std::ios::binary); }

void Flip(const fs::path& file, std::uint64_t place) {
  std::fstream stream = OpenForDamage(file);
  Flip(stream, place);
  ASSERT_TRUE(stream.good()) << file;
}

// "sst", "blob", "log", "MANIFEST" …
std::string KindOf(const fs::path& file) {
  const std::string name = file.filename().string();
  return file.has_extension() ? file.extension().string().substr(1) : name.substr(0, name.find('-'));
}

class CorruptStateTest : public ::testing::Test {
 protected:
  // The state of a process that was killed in the middle, with some of its outbox acknowledged.
  static void SetUpTestSuite() {
    if (std::getenv("TMPDIR") == nullptr && fs::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
    dir_ = new TempDir;
    StageCourse undisturbed(PlanOf());
    undisturbed.ReadUntil(*dir_ / "undisturbed", kRecords, /*finishes=*/true);
    expected_ = undisturbed.reader().said();
    ASSERT_GT(undisturbed.reader().taken(), 150u);
    fs::remove_all(*dir_ / "undisturbed");
  }
  static void TearDownTestSuite() { delete dir_; }

  CorruptStateTest() : killed_(PlanOf()) {
    killed_.ReadUntil(*dir_ / "killed", kKilledAt / 2, /*finishes=*/false);
    killed_.set_acknowledges(false);
    killed_.ReadUntil(*dir_ / "killed", kKilledAt, /*finishes=*/false);
  }
  ~CorruptStateTest() override { fs::remove_all(*dir_ / "killed"); }

  // Goes on, in a copy of the folder that `damage` was done to; returns whether the state was set aside.
  template <typename Damage>
  bool IsSetAsideAfter(Damage damage) {
    fs::remove_all(*dir_ / "trial");
    fs::create_directories(*dir_ / "trial");
    fs::copy(*dir_ / "killed", *dir_ / "trial/sessions", fs::copy_options::recursive);
    damage(fs::path(*dir_ / "trial/sessions"));
    StageCourse course(PlanOf());
    course.Follow(killed_);
    course.set_acknowledges(true);
    course.ReadUntil(*dir_ / "trial/sessions", kRecords, /*finishes=*/true);
    EXPECT_EQ(course.reader().said(), expected_) << course.errors();
    EXPECT_EQ(fs::exists(*dir_ / "trial/sessions.corrupt-1"), course.states_set_aside() > 0);
    EXPECT_LE(course.states_set_aside(), 1);
    return course.states_set_aside() > 0;
  }

  std::map<std::string, std::vector<fs::path>> FilesByKind() const {
    std::map<std::string, std::vector<fs::path>> files;
    for (const auto& entry : fs::directory_iterator(*dir_ / "killed")) {
      if (entry.file_size() > 0) files[KindOf(entry.path())].push_back(entry.path().filename());
    }
    return files;
  }

  static inline TempDir* dir_ = nullptr;
  static inline std::string expected_;
  StageCourse killed_;
};

TEST_F(CorruptStateTest, AWriteTornByTheCrashIsNoCorruption) {
  const fs::path log = FilesByKind()["log"].at(0);
  const std::uint64_t size = fs::file_size(fs::path(*dir_ / "killed") / log);
  for (const std::uint64_t torn : {1, 6, 100, 4'000, 33'000}) {
    SCOPED_TRACE(torn);
    EXPECT_FALSE(IsSetAsideAfter([&](const fs::path& folder) { fs::resize_file(folder / log, size - torn); }));
  }
}

TEST_F(CorruptStateTest, DamageToTheVeryLastWriteIsFoundOrTakesBackThatWriteAlone) {
  const fs::path log = FilesByKind()["log"].at(0);
  const std::uint64_t size = fs::file_size(fs::path(*dir_ / "killed") / log);
  // The log is written in blocks of 32 KiB, and the head of each piece of a write, with its length, begins one. A length that points
  // behind the end is what a torn write looks like.
  std::vector<std::uint64_t> places;
  for (std::uint64_t byte = 0; byte < 7; ++byte) places.push_back((size - 8) / 32'768 * 32'768 + byte);
  for (std::uint64_t back = 1; back < 20'000; back += 1 + back) places.push_back(size - back);
  int taken_back = 0;
  for (const std::uint64_t place : places) {
    SCOPED_TRACE(std::to_string(place) + " of " + std::to_string(size));
    taken_back += IsSetAsideAfter([&](const fs::path& folder) { Flip(folder / log, place); }) ? 0 : 1;
  }
  std::cout << places.size() << " bytes flipped, " << taken_back << " times the write was taken back\n";
}

TEST_F(CorruptStateTest, AFileThatIsGoneOrCutIsFoundOrDoesNoHarm) {
  for (const auto& [kind, names] : FilesByKind()) {
    if (kind == "CURRENT") continue;  // Without it there is no store: an empty one is begun.
    for (const fs::path& name : names) {
      SCOPED_TRACE(name.string());
      const bool is_found = IsSetAsideAfter([&](const fs::path& folder) { fs::remove(folder / name); });
      EXPECT_TRUE(is_found || (kind != "sst" && kind != "MANIFEST"));  // Not all that is in others is needed.
      if (kind == "log") continue;  // Cut is torn, above.
      IsSetAsideAfter([&](const fs::path& folder) { fs::resize_file(folder / name, fs::file_size(folder / name) / 2); });
    }
  }
}

TEST_F(CorruptStateTest, WhatBreaksWhileItRunsIsFoundWhenItIsReadAndNotForgotten) {
  int found = 0;
  for (const char* kind : {"sst", "blob"}) {
    SCOPED_TRACE(kind);
    fs::remove_all(*dir_ / "trial");
    fs::create_directories(*dir_ / "trial");
    const std::string folder = *dir_ / "trial/sessions";
    fs::copy(*dir_ / "killed", folder, fs::copy_options::recursive);
    StageCourse course(PlanOf());
    course.Follow(killed_);
    course.set_acknowledges(false);  // So that pages of the outbox are read again and again.
    bool is_broken = false;
    course.ReadUntil(folder, kRecords, /*finishes=*/true, [&](Sessionizer&) {
      if (std::exchange(is_broken, true)) return;
      for (const auto& entry : fs::directory_iterator(folder)) {
        if (KindOf(entry.path()) != kind) continue;
        std::fstream stream = OpenForDamage(entry.path());  // The store runs, and may delete it at any moment.
        stream.seekg(0, std::ios::end);
        const auto size = static_cast<std::int64_t>(stream.tellg());
        for (std::int64_t place = 40; place < size; place += 512) Flip(stream, static_cast<std::uint64_t>(place));
      }
      EXPECT_FALSE(Sessionizer::FoundCorrupt(folder));
    });
    EXPECT_EQ(course.reader().said(), expected_) << course.errors();
    EXPECT_EQ(course.states_set_aside() > 0, !course.errors().empty());
    EXPECT_EQ(Sessionizer::FoundCorrupt(*dir_ / "trial/sessions.corrupt-1"), course.states_set_aside() > 0);
    found += course.states_set_aside() > 0 ? 1 : 0;
  }
  EXPECT_GT(found, 0);
}

TEST_F(CorruptStateTest, AFlippedByteAnywhereIsFoundOrDoesNoHarm) {
  const char* const flips_text = std::getenv("FUSELINE_FLIPS");
  const std::uint64_t flips = flips_text == nullptr ? 12 : std::strtoull(flips_text, nullptr, 10);
  auto files = FilesByKind();
  for (const char* kind : {"sst", "blob", "log", "MANIFEST", "CURRENT"}) ASSERT_FALSE(files[kind].empty()) << kind;
  for (const auto& [kind, names] : files) {
    std::uint64_t flipped = 0, found = 0;
    for (const fs::path& name : names) {
      const std::uint64_t size = fs::file_size(fs::path(*dir_ / "killed") / name);
      const std::uint64_t step = std::max<std::uint64_t>(1, size / (flips / std::min<std::uint64_t>(names.size(), 4)));
      for (std::uint64_t place = step / 2; place < size; place += step) {
        SCOPED_TRACE(name.string() + " byte " + std::to_string(place) + " of " + std::to_string(size));
        ++flipped;
        found += IsSetAsideAfter([&](const fs::path& folder) { Flip(folder / name, place); }) ? 1 : 0;
        if (HasFailure()) return;
      }
    }
    std::cout << kind << ": " << names.size() << " files, " << flipped << " bytes flipped, " << found << " set aside\n";
    if (kind == "log" || kind == "MANIFEST" || kind == "CURRENT") {
      EXPECT_GT(found * 2, flipped) << kind;
    }
  }
}

}  // namespace
}  // namespace fuseline::test
