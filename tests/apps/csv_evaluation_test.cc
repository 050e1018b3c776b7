// What `fuseline evaluate ope` and `gauc` say of files as people have them: worked out by hand, quoted, in any order of columns, and
// wrong in every cell, where the named line is what a person needs.

#include "csv_evaluation.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

class CsvEvaluationTest : public testing::Test {
 protected:
  Result<std::string> Ope(const std::string& text, double clip = 10) { return OpeJson(Write("input.csv", text), clip); }
  Result<std::string> Gauc(const std::string& text) { return GaucJson(Write("input.csv", text)); }

  static Json Parsed(const Result<std::string>& json) {
    EXPECT_THAT(json, IsOk());
    return Json::parse(json.value_or(""), nullptr, /*allow_exceptions=*/false);
  }
  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_THAT(WriteFileAtomically(folder_ / name, text), IsOk());
    return folder_ / name;
  }

  test::TempDir folder_;
};

// w = 2, 0.2, 9; r = 1, 0, 2: sum w = 11.2, sum w r = 20, sum w^2 = 85.04.
constexpr const char* kDecisions =
    "reward,behaviour_density,target_density,q_logged,v_target\n1,0.25,0.5,0.5,0.4\n0,0.5,0.1,0.2,0.3\n2,0.1,0.9,1,1.5\n";

TEST_F(CsvEvaluationTest, OpePrintsOneObjectWithTheFiguresWorkedOutByHand) {
  const Json json = Parsed(Ope(kDecisions, 3));
  EXPECT_EQ(json["n"], 3);
  EXPECT_NEAR(json["ips"], 20.0 / 3, 1e-9);
  EXPECT_NEAR(json["snips"], 20.0 / 11.2, 1e-9);
  EXPECT_NEAR(json["clipped_ips"], 8.0 / 3, 1e-9);   // min(w, 3): (2 + 0 + 6) / 3.
  EXPECT_NEAR(json["dr"], 12.16 / 3, 1e-9);          // 0.4 + 2 * 0.5, 0.3 - 0.2 * 0.2, 1.5 + 9.
  EXPECT_NEAR(json["sndr"], 2.2 / 3 + 9.96 / 11.2, 1e-9);
  EXPECT_NEAR(json["ess"], 125.44 / 85.04, 1e-9);
  EXPECT_EQ(json.size(), 8U);
  EXPECT_EQ(json["intervals"]["level"], 0.95);
  EXPECT_THAT(json["intervals"]["kind"].get<std::string>(), HasSubstr("normal"));
  const double half = 1.959963984540054 * std::sqrt(1752.0 / 54);  // Of 2, 0, 18.
  EXPECT_NEAR(json["intervals"]["ips"][0], 20.0 / 3 - half, 1e-9);
  EXPECT_NEAR(json["intervals"]["ips"][1], 20.0 / 3 + half, 1e-9);
  for (const char* name : {"snips", "clipped_ips", "dr", "sndr"}) EXPECT_EQ(json["intervals"][name].size(), 2U) << name;
}

TEST_F(CsvEvaluationTest, ColumnsAreFoundByNameWhateverTheirOrderQuotesAndLineEnds) {
  const Json plain = Parsed(Ope(kDecisions));
  EXPECT_NEAR(plain["clipped_ips"], 20.0 / 3, 1e-9) << "by default only ratios beyond 10 are clipped";
  EXPECT_EQ(Parsed(Ope(
                "\xEF\xBB\xBF\"note\",v_target,target_density,q_logged,behaviour_density,\"reward\"\r\n"
                "\"a, \"\"b\"\"\",0.4,0.5,0.5,\"0.25\",1\r\n,0.3,1e-1,0.2,5E-1,0\r\n\r\nx,1.5,0.9,1,0.1,2")),
            plain);
}

TEST_F(CsvEvaluationTest, WithoutAModelTheDoublyRobustAreNull) {
  for (const char* text : {"reward,behaviour_density,target_density\n1,0.5,0.5\n0,0.5,0.25\n",
                           "reward,behaviour_density,target_density,q_logged\n1,0.5,0.5,1\n0,0.5,0.25,1\n"}) {
    const Json json = Parsed(Ope(text));
    EXPECT_TRUE(json["dr"].is_null());
    EXPECT_TRUE(json["sndr"].is_null());
    EXPECT_TRUE(json["intervals"]["dr"].is_null());
    EXPECT_NEAR(json["ips"], 0.5, 1e-9);
  }
}

TEST_F(CsvEvaluationTest, ABadCellIsInvalidDataAndItsLineIsNamed) {
  const std::string header = "reward,behaviour_density,target_density,q_logged,v_target\n1,0.5,0.5,0,0\n";
  for (const char* row : {"1,0,0.5,0,0", "1,-0.5,0.5,0,0", "1,nan,0.5,0,0", "1,inf,0.5,0,0", "1,1e999,0.5,0,0", "1,0.5,-0.1,0,0",
                          "1,0.5,nan,0,0", "nan,0.5,0.5,0,0", "1,0.5,0.5,x,0", "1,0.5,0.5,0,", ",0.5,0.5,0,0", "1,0.5,0.5 ,0,0",
                          "1,0.5,0.5,0", "1,0.5,0.5,0,0,0", "\"1,0.5,0.5,0,0", "1,1e-300,1e300,0,0"}) {
    const auto refused = Ope(header + row + "\n1,0.5,0.5,0,0\n");
    ASSERT_THAT(refused, HasCode(Code::kInvalidInput)) << row;
    EXPECT_THAT(refused.error().message, HasSubstr("input.csv:3:")) << row;
  }
}

TEST_F(CsvEvaluationTest, AFileThatIsNoTableOfDecisionsIsRefused) {
  const auto missing = Ope("reward,behaviour_density\n1,1\n");
  ASSERT_THAT(missing, HasCode(Code::kInvalidInput));
  EXPECT_THAT(missing.error().message, HasSubstr("target_density"));
  EXPECT_THAT(Ope(""), HasCode(Code::kInvalidInput));
  EXPECT_THAT(Ope("reward,reward,behaviour_density,target_density\n1,2,1,1\n"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(Ope("reward,behaviour_density,target_density\n"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(Ope(std::string("\0\xFF\x1F\x8B\n,,,", 8)), HasCode(Code::kInvalidInput));
  EXPECT_THAT(OpeJson(folder_ / "bogus.csv", 10), HasCode(Code::kNotFound));
  EXPECT_THAT(OpeJson(folder_ / "", 10), HasCode(Code::kNotFound));
}

// User a: positives 0.9 (weight 2), 0.4 (1), negatives 0.4 (1), 0.1 (3). Won: 2 * 4 + 1 * (0.5 + 3) = 11.5 of 3 * 4.
// User b, 1,0: 0.2 against 0.8, won nothing of 1 * 1. User c has one class.
TEST_F(CsvEvaluationTest, GaucPrintsWhatIsWorkedOutByHand) {
  const Json json = Parsed(
      Gauc("score,user,weight,label\n0.9,a,2,1\n0.4,\"a\",1,1\n0.4,a,1,0\n0.1,a,3,0\n0.2,b,1,1\n0.8,b,1,0\n0.5,c,5,1\n"));
  EXPECT_EQ(json.size(), 3U);
  EXPECT_NEAR(json["gauc"], (7 * 11.5 / 12 + 2 * 0.0) / 9, 1e-9);
  EXPECT_EQ(json["users_used"], 2);
  // All: positives 0.9 (2), 0.5 (5), 0.4 (1), 0.2 (1); negatives 0.8 (1), 0.4 (1), 0.1 (3).
  // Won: 2 * 5 + 5 * 4 + 1 * (0.5 + 3) + 1 * 3 = 36.5 of 9 * 5.
  EXPECT_NEAR(json["auc"], 36.5 / 45, 1e-9);
}

TEST_F(CsvEvaluationTest, GaucWithoutWeightsCountsEachPairOnceAndTiesOneHalf) {
  const Json json = Parsed(Gauc("user,label,score\nu,1,1\nu,0,1\nv,1,1\n"));
  EXPECT_EQ(json["gauc"], 0.5);
  EXPECT_EQ(json["auc"], 0.5);
  const Json nobody = Parsed(Gauc("user,label,score\nu,1,1\nv,1,1\n"));
  EXPECT_TRUE(nobody["gauc"].is_null());
  EXPECT_TRUE(nobody["auc"].is_null());
  EXPECT_EQ(nobody["users_used"], 0);
}

TEST_F(CsvEvaluationTest, GaucRefusesBadCellsByLine) {
  for (const char* row : {"u,2,1,1", "u,0.5,1,1", "u,1,nan,1", "u,1,1,-1", "u,1,1,inf", "u,1,,1", "u,1,1", "u,yes,1,1"}) {
    const auto refused = Gauc(std::string("user,label,score,weight\nu,1,1,1\n") + row + "\n");
    ASSERT_THAT(refused, HasCode(Code::kInvalidInput)) << row;
    EXPECT_THAT(refused.error().message, HasSubstr("input.csv:3:")) << row;
  }
}

}  // namespace
}  // namespace fuseline
