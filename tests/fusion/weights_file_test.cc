// The weights file: what is written comes back, the layout is the one that is documented, and hostile bytes are refused.
#include "fuseline/fusion/weights_file.h"

#include <cstring>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

TensorMap Example() {
  return {{"b", {{2}, {0.5F, -1.0F}}}, {"a", {{2, 3}, {1, 2, 3, 4, 5, 6}}}, {"scalar", {{}, {7.0F}}}, {"none", {{0, 4}, {}}}};
}

std::string File(std::string_view header, std::string_view data) {
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(header).append(data);
}

TEST(WeightsFileTest, WhatIsEncodedComesBack) {
  const TensorMap tensors = Example();
  ASSERT_OK_AND_ASSIGN(const TensorMap decoded, DecodeWeights(EncodeWeights(tensors)));
  ASSERT_EQ(decoded.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(decoded.at(name).shape, tensor.shape) << name;
    EXPECT_EQ(decoded.at(name).values, tensor.values) << name;
  }
}

TEST(WeightsFileTest, TheLayoutIsTheDocumentedOneToTheByte) {
  const std::string expected_header =
      R"({"a":{"data_offsets":[0,8],"dtype":"F32","shape":[1,2]}})";  // 56 bytes: no padding.
  ASSERT_EQ(expected_header.size() % 8, 0U);
  EXPECT_EQ(ToHex(EncodeWeights({{"a", {{1, 2}, {1.0F, -2.0F}}}})), ToHex(File(expected_header, std::string("\0\0\x80\x3f\0\0\0\xc0", 8))));
}

TEST(WeightsFileTest, TheDataStartsAtAMultipleOfEight) {
  for (std::size_t length = 1; length < 20; ++length) {
    const std::string bytes = EncodeWeights({{std::string(length, 'n'), {{1}, {1.0F}}}});
    EXPECT_EQ((bytes.size() - 4) % 8, 0U);
  }
}

TEST(WeightsFileTest, MetadataAndOtherOrdersOfKeysAreRead) {
  const std::string data(8, '\0');
  EXPECT_THAT(DecodeWeights(File(R"({"__metadata__":{"format":"pt"},"x":{"shape":[2],"dtype":"F32","data_offsets":[0,8]}}   )", data)), IsOk());
  EXPECT_THAT(DecodeWeights(File(R"({"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", data)), IsOk());
  EXPECT_THAT(DecodeWeights(File("{}", "")), IsOk());
}

TEST(WeightsFileTest, HeadersThatContradictThemselvesAreRefused) {
  const std::string data(8, '\0');
  const char* const headers[] = {
      "",
      "[]",
      "null",
      "{",
      R"({"x":1})",
      R"({"x":[]})",
      R"({"x":{}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} junk)",
      R"({"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",                            // Shape and extent.
      R"({"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})",            // Dimensions.
      R"({"x":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}})",      // Wraps to 0 in 64 bits.
      R"({"x":{"dtype":"F32","shape":[4294967295,4294967295,4294967295],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",                           // Beyond the end.
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",                            // Bytes of nobody.
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",                            // A hole.
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"x":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}})",
  };
  for (const char* const header : headers) EXPECT_THAT(DecodeWeights(File(header, data)), HasCode(Code::kCorrupt)) << header;
}

TEST(WeightsFileTest, ImpossibleLengthsAreRefused) {
  const std::string good = EncodeWeights(Example());
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_THAT(DecodeWeights(std::string_view(good).substr(0, length)), HasCode(Code::kCorrupt)) << length;
  }
  EXPECT_THAT(DecodeWeights(good + "x"), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeWeights(std::string(16, '\xff')), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeWeights(good, good.size() - 1), HasCode(Code::kCorrupt));
  EXPECT_THAT(DecodeWeights(good, good.size()), IsOk());
}

TEST(WeightsFileTest, DeepNestingIsRefusedWithoutHarm) {
  EXPECT_THAT(DecodeWeights(File(std::string(1'000'000, '['), "")), HasCode(Code::kCorrupt));
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"x":)";
  EXPECT_THAT(DecodeWeights(File(nested, "")), HasCode(Code::kCorrupt));
}

TEST(WeightsFileTest, ValuesThatAreNotFiniteAreRefused) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(DecodeWeights(EncodeWeights({{"x", {{2}, {0.0F, bad}}}})), HasCode(Code::kCorrupt));
  }
}

TEST(WeightsFileTest, AnyFlippedByteIsRefusedOrGivesAWellFormedMap) {
  const std::string good = EncodeWeights(Example());
  Random random(5, "flip", 0);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (std::uint64_t flips = 1 + random.NextBelow(3); flips > 0; --flips) {
      bytes[random.NextBelow(bytes.size())] = static_cast<char>(random.NextBelow(256));
    }
    const auto decoded = DecodeWeights(bytes);
    if (!decoded) continue;
    for (const auto& [name, tensor] : *decoded) {
      std::uint64_t values = 1;
      for (const std::uint32_t extent : tensor.shape) values *= extent;
      ASSERT_EQ(values, tensor.values.size()) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace fuseline
