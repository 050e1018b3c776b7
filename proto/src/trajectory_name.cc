#include "fuseline/proto/trajectory_name.h"

#include <charconv>
#include <tuple>

namespace fuseline {
namespace {

template <typename Number>
bool TakeNumber(std::string_view& text, char separator, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  if (error != std::errc() || *number < 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (separator == '\0') return text.empty();
  if (text.empty() || text.front() != separator) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::strong_ordering CompareNames(const v1::TrajectoryName& a, const v1::TrajectoryName& b) {
  return std::tuple(a.partition(), a.offset(), a.ordinal()) <=> std::tuple(b.partition(), b.offset(), b.ordinal());
}

std::string NameText(const v1::TrajectoryName& name) {
  return std::to_string(name.partition()) + '-' + std::to_string(name.offset()) + '-' + std::to_string(name.ordinal());
}

Result<v1::TrajectoryName> ParseName(std::string_view text) {
  std::string_view rest = text;
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t ordinal = 0;
  if (!TakeNumber(rest, '-', &partition) || !TakeNumber(rest, '-', &offset) || !TakeNumber(rest, '\0', &ordinal) ||
      ordinal > UINT32_MAX) {
    return Error(Code::kInvalidInput, "trajectory name is not PARTITION-OFFSET-ORDINAL:", text);
  }
  v1::TrajectoryName name;
  name.set_partition(partition);
  name.set_offset(offset);
  name.set_ordinal(static_cast<std::uint32_t>(ordinal));
  return name;
}

}  // namespace fuseline
