#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "fuseline/core/status.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// Events into one file, in the form that its name asks for: .jsonl, .jsonl.gz, .jsonl.zst (one event a line), or .pb
// (each event's protobuf bytes after their length as a varint). Written beside the path and moved there by Finish, so that a
// broken import leaves no half file behind.
// Where: what importers write; ingest's file source reads it back. Thread-compatible.
class EventWriter {
 public:
  // Errors: kInvalidInput for another suffix, kUnavailable if the file cannot be made.
  static Result<EventWriter> Open(const std::filesystem::path& path);
  EventWriter(EventWriter&&) noexcept;
  EventWriter& operator=(EventWriter&&) noexcept;
  ~EventWriter();  // Without Finish: removes what was written.

  Status Write(const v1::Event& event);  // Errors: kUnavailable for a full or failing disk.
  Status Finish();                       // Errors: as Write. REQUIRES: called once, and nothing after it.
  std::uint64_t bytes() const;           // Before compression.

 private:
  struct Impl;
  explicit EventWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
