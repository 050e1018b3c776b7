#include "fuseline/policy_store/epoch_file.h"

#include <charconv>
#include <string>

#include "fuseline/core/file.h"

namespace fuseline {

Result<std::uint64_t> NextEpoch(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "epoch";
  std::uint64_t last = 0;
  const auto text = ReadFile(path);
  if (text) {
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), last);
    if (error != std::errc() || std::string_view(end, text->data() + text->size()) != "\n" || last == 0) {
      return Error(Code::kCorrupt, "file holds no epoch:", path.string());
    }
  } else if (text.error().code != Code::kNotFound) {
    return tl::unexpected(text.error());
  }
  FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(path, std::to_string(last + 1) + "\n"));
  return last + 1;
}

}  // namespace fuseline
