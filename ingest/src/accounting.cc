#include "fuseline/ingest/accounting.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace fuseline {
namespace {

using Part = std::pair<std::string_view, std::uint64_t>;

// Every place where a record can end, in the order in which people and programs read them.
std::array<Part, 8> PartsOf(const v1::Accounting& accounting) {
  return {{{"used", accounting.used()},
           {"pending", accounting.pending()},
           {"duplicate", accounting.duplicate()},
           {"late", accounting.late()},
           {"orphan", accounting.orphan()},
           {"malformed", accounting.malformed()},
           {"quarantined", accounting.quarantined()},
           {"control", accounting.control()}}};
}

}  // namespace

bool IsBalanced(const v1::Accounting& accounting) {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : PartsOf(accounting)) sum += count;
  return sum == accounting.read();
}

void AddAccounting(const v1::Accounting& more, v1::Accounting* total) {
  total->set_read(total->read() + more.read());
  total->set_used(total->used() + more.used());
  total->set_pending(total->pending() + more.pending());
  total->set_duplicate(total->duplicate() + more.duplicate());
  total->set_late(total->late() + more.late());
  total->set_orphan(total->orphan() + more.orphan());
  total->set_malformed(total->malformed() + more.malformed());
  total->set_quarantined(total->quarantined() + more.quarantined());
  total->set_control(total->control() + more.control());
  total->set_used_over_max_events(total->used_over_max_events() + more.used_over_max_events());
  total->set_sessions(total->sessions() + more.sessions());
  total->set_trajectories(total->trajectories() + more.trajectories());
}

std::string AccountingText(const v1::Accounting& accounting) {
  std::string text = "read " + std::to_string(accounting.read());
  std::string_view separator = IsBalanced(accounting) ? " = " : " != ";
  for (const auto& [name, count] : PartsOf(accounting)) {
    text.append(separator).append(name).append(" ").append(std::to_string(count));
    separator = " + ";
  }
  return text;
}

std::string AccountingJson(const v1::Accounting& accounting) {
  std::string json = "{\"read\":" + std::to_string(accounting.read());
  for (const auto& [name, count] : PartsOf(accounting)) {
    json.append(",\"").append(name).append("\":").append(std::to_string(count));
  }
  return json + "}";
}

}  // namespace fuseline
