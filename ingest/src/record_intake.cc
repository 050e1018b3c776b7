#include "record_intake.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fuseline {

Record RecordIntake::Take(std::string_view bytes, const Origin& origin, ByteArena& arena) {
  const auto size_bytes = static_cast<std::int64_t>(bytes.size());
  if (bytes.empty()) return TakeMalformed(bytes, size_bytes, "record is empty", origin);
  Record record;
  record.offset = origin.offset;
  if (const Status status = ViewEvent(bytes, limits_, arena, &record.event); !status.ok()) {
    return TakeMalformed(bytes, size_bytes, status.message, origin);
  }
  if (!origin.record_time_ms) return record;
  const std::int64_t ahead_ms = record.event.event_time_ms - *origin.record_time_ms;
  if (ahead_ms <= max_future_ms_) return record;
  if (record.event.kind == EventView::Kind::kControl) {  // It speaks for the log: there is nobody to send it again.
    record.fate = RecordFate::kVoidControl;
  } else {
    record.fate = RecordFate::kQuarantined;
    Bury(bytes, size_bytes, "event_time_ms is " + std::to_string(ahead_ms) + " ms ahead of its record", record.fate, origin);
  }
  return record;
}

Record RecordIntake::TakeMalformed(std::string_view bytes, std::int64_t size_bytes, std::string_view reason,
                                   const Origin& origin) {
  Record record;
  record.offset = origin.offset;
  record.fate = RecordFate::kMalformed;
  Bury(bytes, size_bytes, reason, record.fate, origin);
  return record;
}

void RecordIntake::Bury(std::string_view bytes, std::int64_t size_bytes, std::string_view reason, RecordFate fate,
                        const Origin& origin) {
  if (dead_letters_ == nullptr) return;
  DeadLetter letter;
  letter.source = origin.source;
  letter.partition = origin.partition;
  letter.offset = origin.offset;
  letter.line = origin.line;
  letter.fate = fate;
  letter.reason = reason;
  letter.bytes = bytes;
  letter.size_bytes = size_bytes;
  unwritten_.push_back(std::move(letter));
  ++letters_;
}

std::uint64_t RecordIntake::SettledLetters() {
  while (!unwritten_.empty() && dead_letters_->Write(std::move(unwritten_.front())).ok()) unwritten_.pop_front();
  if (settled_ < written()) settled_ = std::max(settled_, written() - std::min(written(), dead_letters_->Waiting()));
  return settled_;
}

Status RecordIntake::Settle(std::int64_t deadline_ms) {
  while (!unwritten_.empty()) {
    Status status = dead_letters_->Write(std::move(unwritten_.front()));
    if (status.code == Code::kUnavailable && settled_ < written()) {  // A full sink: what it holds goes out first.
      FUSELINE_RETURN_IF_ERROR(dead_letters_->Flush(deadline_ms));
      settled_ = written();
      status = dead_letters_->Write(std::move(unwritten_.front()));
    }
    FUSELINE_RETURN_IF_ERROR(status);
    unwritten_.pop_front();
  }
  if (settled_ == letters_) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(dead_letters_->Flush(deadline_ms));
  settled_ = letters_;
  return OkStatus();
}

}  // namespace fuseline
