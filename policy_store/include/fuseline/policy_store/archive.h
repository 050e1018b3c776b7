#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/policy_store/file_system.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// A version as it stands in the archive. `manifest_bytes` are what its digest speaks of, and what goes to Redis.
struct ArchivedVersion {
  std::string manifest_bytes;
  PolicyVersion version;
};

// Every version that was made and not pruned, on disk. This is the truth; Redis is its publication.
//
//   FOLDER/versions/00000001/manifest.pb           PolicyManifest, canonical bytes
//                            weights.safetensors   the weights file; its SHA-256 is in the manifest
//                            manifest.sig          Ed25519 signature of manifest.pb, 64 bytes; only of a signed version
//                            SHA256SUMS            of them, as sha256sum writes it
//   FOLDER/aliases.pb                              SHA-256 (32 bytes) of what follows, then an AliasState
//   FOLDER/changes.jsonl                           who moved which alias (audit_trail.h)
//
// A version is written into a folder beside its own, each file and the folder synced, then renamed: it is there whole or
// not at all, whatever fails. Where: between learner and publisher. Thread-compatible; one process owns the folder.
// Errors of all: kUnavailable when the disk fails; nothing was changed then, or all was, and the call can be repeated.
class Archive {
 public:
  // Removes what an interrupted Put or Prune left. `files` is borrowed for the archive's life.
  // part_bytes: largest part that a manifest, if it names none, is given (fusion/policy_keys.h, SealManifest).
  static Result<Archive> Open(std::filesystem::path folder, std::uint64_t part_bytes, FileSystem& files);

  // To look at, also beside the process that owns it: nothing is made or removed. REQUIRES: only const methods are called.
  static Archive OpenReadOnly(std::filesystem::path folder, FileSystem& files);

  // The same, and to add whole versions, whose manifests have their parts, beside the process that owns it. What is
  // being written has a name of `writer`'s own; the owner may remove it when it opens the archive anew: Put fails
  // then, and can be repeated. REQUIRES: `writer` is not empty and nobody else's. Only const methods and Put are
  // called.
  static Archive OpenBeside(std::filesystem::path folder, const std::string& writer, FileSystem& files);

  // Durable when it returns. The same version again is accepted as done; the manifest may come without parts. `sign_with`, if any,
  // signs it when it is first stored; else the signature that it brings is.
  // Errors: kInvalidInput for version 0, no weights or a weights_sha256 that is not of these weights; kConflict if another manifest or
  // other weights are stored under this version.
  Status Put(const PolicyVersion& version, const SigningKey* sign_with = nullptr);

  // Errors: kNotFound; kCorrupt, naming the file, if its bytes are not those that were put.
  Result<ArchivedVersion> Get(std::uint64_t version) const;

  Result<std::vector<std::uint64_t>> List() const;  // Ascending.
  Result<std::uint64_t> Newest() const;             // Errors: kNotFound if there is none.

  // Removes all but the newest `keep` and those in `keep_too`; returns what it removed.
  Result<std::vector<std::uint64_t>> Prune(std::uint64_t keep, const std::set<std::uint64_t>& keep_too);

  // Where the aliases stood when last saved; empty if never. Errors: kCorrupt.
  Result<v1::AliasState> LoadAliases() const;
  Status SaveAliases(const v1::AliasState& state);

 private:
  Archive(std::filesystem::path folder, std::uint64_t part_bytes, FileSystem& files);
  std::filesystem::path FolderOf(std::uint64_t version) const;
  Result<std::string> ReadChecked(const std::filesystem::path& path, std::string_view sums) const;
  Status CheckSame(const PolicyVersion& version) const;
  Status Write(const PolicyVersion& version, const SigningKey* sign_with);

  std::filesystem::path folder_;
  std::filesystem::path versions_;
  std::uint64_t part_bytes_;
  FileSystem* files_;
  std::string unfinished_suffix_;  // Of names of what is being written.
};

}  // namespace fuseline
