#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// An Ed25519 private key (RFC 8032). Signing the same bytes gives the same 64 bytes. Thread-safe once made.
class SigningKey {
 public:
  static Result<SigningKey> Generate();
  // PEM as `openssl genpkey -algorithm ed25519` writes it. Errors: kInvalidInput for anything else; the text is never repeated.
  static Result<SigningKey> FromPem(std::string_view pem);
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;
  ~SigningKey();

  std::string Sign(std::string_view bytes) const;  // 64 bytes.
  std::string public_key() const;                  // 32 bytes.
  std::string ToPem() const;                       // A secret.

 private:
  struct Impl;
  explicit SigningKey(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The public keys that somebody trusts: several, so that a key can follow another. Value type, thread-safe to read.
class PublicKeys {
 public:
  PublicKeys() = default;  // Trusts nobody, and asks for nothing: empty().
  // Hex, 64 digits each, separated by commas or blanks. Errors: kInvalidInput, with the key that is none.
  static Result<PublicKeys> FromHex(std::string_view text);

  bool empty() const { return keys_.empty(); }
  // Whether one of them signed `bytes`. Cost: some 50 us for each key until the one that did.
  bool Verify(std::string_view bytes, std::string_view signature) const;

 private:
  std::vector<std::string> keys_;  // 32 bytes each.
};

}  // namespace fuseline
