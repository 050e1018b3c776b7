// A signature is taken from the key that made it and for the bytes that it was made for alone. Method: flips; OpenSSL's own PEM.
#include "fuseline/core/signature.h"

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

// RFC 8032, section 7.1, test 1, as PKCS #8.
constexpr const char* kPem =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
constexpr const char* kPublic = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
constexpr const char* kSignature =
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

TEST(SignatureTest, TheStandardsExampleIsSignedAsItSays) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::FromPem(kPem));
  EXPECT_EQ(ToHex(key.public_key()), kPublic);
  EXPECT_EQ(ToHex(key.Sign("")), kSignature);
}

TEST(SignatureTest, EveryFlippedBitIsSeen) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const PublicKeys keys, PublicKeys::FromHex(ToHex(key.public_key())));
  const std::string bytes = "what is signed", signature = key.Sign(bytes);
  ASSERT_TRUE(keys.Verify(bytes, signature));
  for (std::size_t bit = 0; bit < 8 * signature.size(); ++bit) {
    std::string flipped = signature;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(keys.Verify(bytes, flipped)) << "bit " << bit;
  }
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(keys.Verify(flipped, signature)) << "bit " << bit;
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{63}}) EXPECT_FALSE(keys.Verify(bytes, signature.substr(0, size)));
  EXPECT_FALSE(keys.Verify(bytes, signature + "x"));
}

TEST(SignatureTest, OneOfSeveralKeysIsEnoughAndNoneIsNot) {
  ASSERT_OK_AND_ASSIGN(const SigningKey old_key, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const SigningKey new_key, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const SigningKey other, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const PublicKeys both, PublicKeys::FromHex(ToHex(old_key.public_key()) + ", " + ToHex(new_key.public_key()) + "\n"));
  EXPECT_TRUE(both.Verify("x", old_key.Sign("x")));
  EXPECT_TRUE(both.Verify("x", new_key.Sign("x")));
  EXPECT_FALSE(both.Verify("x", other.Sign("x")));
  EXPECT_FALSE(PublicKeys().Verify("x", other.Sign("x")));
  EXPECT_TRUE(PublicKeys().empty());
}

TEST(SignatureTest, KeysSurviveTheirFileAndWhatIsNoneIsRefused) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate());
  ASSERT_OK_AND_ASSIGN(const SigningKey read, SigningKey::FromPem(key.ToPem()));
  EXPECT_EQ(read.public_key(), key.public_key());
  EXPECT_THAT(SigningKey::FromPem("no key"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(SigningKey::FromPem(""), HasCode(Code::kInvalidInput));
  EXPECT_THAT(PublicKeys::FromHex("abcd"), HasCode(Code::kInvalidInput));
  EXPECT_THAT(PublicKeys::FromHex(std::string(64, 'g')), HasCode(Code::kInvalidInput));
}

}  // namespace
}  // namespace fuseline
