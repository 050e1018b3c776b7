// Dead letters: their JSON is read back by another parser, their sinks keep what they took.
#include "fuseline/ingest/dead_letter.h"

#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fuseline/core/random.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

std::string DecodeBase64(const std::string& text) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(kAlphabet.find(c));
    count += 6;
    if (count >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8) & 0xFF));
  }
  return bytes;
}

DeadLetter Letter(std::int64_t offset, std::string bytes) {
  DeadLetter letter;
  letter.source = "events";
  letter.partition = 3;
  letter.offset = offset;
  letter.reason = "field \"x\" is\n\xff odd \xc3\xa9";
  letter.size_bytes = static_cast<std::int64_t>(bytes.size());
  letter.bytes = std::move(bytes);
  return letter;
}

std::vector<nlohmann::json> Lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line, nullptr, false));
  return lines;
}

TEST(DeadLetterTest, AnyBytesComeBackFromItsJson) {
  constexpr std::uint64_t kSeed = 11;
  SCOPED_TRACE(kSeed);
  Random random(kSeed, "bytes", 0);
  for (std::size_t size = 0; size < 70; ++size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.NextBelow(256));
    const auto json = nlohmann::json::parse(EncodeDeadLetterJson(Letter(7, bytes)));
    EXPECT_EQ(DecodeBase64(json.at("bytes")), bytes);
    EXPECT_EQ(json.at("size_bytes"), size);
  }
}

TEST(DeadLetterTest, ItsJsonSaysWhatWhereAndWhyWhateverTheReasonQuotes) {
  DeadLetter letter = Letter(7, "xyz");
  EXPECT_EQ(EncodeDeadLetterJson(letter),
            R"({"source":"events","partition":3,"offset":7,"fate":"malformed",)"
            R"("reason":"field \"x\" is\u000a\ufffd odd é","size_bytes":3,"bytes":"eHl6"})");
  letter.fate = RecordFate::kQuarantined;
  letter.line = 12;
  const auto json = nlohmann::json::parse(EncodeDeadLetterJson(letter));
  EXPECT_EQ(json.at("fate"), "quarantined");
  EXPECT_EQ(json.at("line"), 12);
}

TEST(DeadLetterTest, TheFileHoldsEveryLetterAfterAFlushAndGoesOnWhenReopened) {
  const test::TempDir dir;
  const std::string path = dir / "dead.jsonl";
  {
    ASSERT_OK_AND_ASSIGN(const auto sink, OpenDeadLetterFile(path));
    ASSERT_THAT(sink->Write(Letter(1, "a")), IsOk());
    ASSERT_THAT(sink->Write(Letter(2, "b")), IsOk());
    ASSERT_THAT(sink->Flush(1'000), IsOk());
    EXPECT_EQ(Lines(path).size(), 2u);
  }
  std::ofstream(path, std::ios::app) << R"({"source":"half a li)";  // As a crash leaves it.
  ASSERT_OK_AND_ASSIGN(const auto sink, OpenDeadLetterFile(path));
  ASSERT_THAT(sink->Write(Letter(3, "c")), IsOk());
  ASSERT_THAT(sink->Flush(1'000), IsOk());
  const auto lines = Lines(path);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[2].is_discarded());
  EXPECT_EQ(lines[3].at("offset"), 3);
}

TEST(DeadLetterTest, AFullDiskIsUnavailableAndNothingIsForgotten) {
  ASSERT_OK_AND_ASSIGN(const auto sink, OpenDeadLetterFile("/dev/full"));
  ASSERT_THAT(sink->Write(Letter(1, "a")), IsOk());
  EXPECT_THAT(sink->Flush(1'000), HasCode(Code::kUnavailable));
  EXPECT_THAT(sink->Flush(1'000), HasCode(Code::kUnavailable));
}

class DeadLetterTopicTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(cluster_, kafka::MockCluster::Start(1));
    ASSERT_THAT(cluster_->CreateTopic("dead", 1), IsOk());
  }

  // Every letter of the topic, by offset of the record that it is about.
  std::map<std::int64_t, nlohmann::json> Letters(std::size_t count) {
    auto consumer = kafka::Consumer::Open(cluster_->connection(), {.topic = "dead", .group_id = ""});
    EXPECT_THAT((*consumer)->Assign({{0, kafka::StartPosition::Earliest()}}), IsOk());
    std::map<std::int64_t, nlohmann::json> letters;
    for (int i = 0; i < 200 && letters.size() < count; ++i) {
      const auto batch = (*consumer)->Consume(100, 50);
      if (!batch) continue;
      for (const auto& message : batch->messages()) {
        const auto json = nlohmann::json::parse(message.value);
        EXPECT_EQ(message.key, "3-" + json.at("offset").dump());
        letters[json.at("offset")] = json;
      }
    }
    return letters;
  }

  std::unique_ptr<kafka::MockCluster> cluster_;
};

TEST_F(DeadLetterTopicTest, LettersArriveThoughTheBrokerWasAway) {
  ASSERT_OK_AND_ASSIGN(const auto sink, OpenDeadLetterTopic(cluster_->connection(), "dead", 5));
  ASSERT_THAT(cluster_->SetBrokerDown(1), IsOk());
  for (int offset = 0; offset < 5; ++offset) ASSERT_THAT(sink->Write(Letter(offset, "x")), IsOk());
  EXPECT_THAT(sink->Write(Letter(5, "x")), HasCode(Code::kUnavailable));
  EXPECT_THAT(sink->Flush(100), HasCode(Code::kUnavailable));

  ASSERT_THAT(cluster_->SetBrokerUp(1), IsOk());
  ASSERT_THAT(sink->Flush(20'000), IsOk());
  ASSERT_THAT(sink->Write(Letter(5, "x")), IsOk());
  ASSERT_THAT(sink->Flush(20'000), IsOk());
  EXPECT_EQ(Letters(6).size(), 6u);
}

TEST_F(DeadLetterTopicTest, ALetterLargerThanTheTopicTakesIsCutAndSaysSo) {
  ASSERT_OK_AND_ASSIGN(const auto sink, OpenDeadLetterTopic(cluster_->connection(), "dead"));
  ASSERT_THAT(sink->Write(Letter(1, std::string(1 << 20, 'x'))), IsOk());
  ASSERT_THAT(sink->Flush(20'000), IsOk());
  const auto letters = Letters(1);
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters.at(1).at("size_bytes"), 1 << 20);
  EXPECT_EQ(DecodeBase64(letters.at(1).at("bytes")), std::string(1 << 19, 'x'));
}

}  // namespace
}  // namespace fuseline
