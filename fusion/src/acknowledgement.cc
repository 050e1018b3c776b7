#include "fuseline/fusion/acknowledgement.h"

#include <charconv>

namespace fuseline {
namespace {

// Takes a number and the space behind it off the front of `text`.
template <typename Number>
bool Take(std::string_view& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.empty()) return true;
  if (text.front() != ' ' || text.size() == 1) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string AcknowledgementText(const Acknowledgement& word) {
  return std::to_string(word.change) + ' ' + std::to_string(word.version) + ' ' + std::to_string(word.since_ms) + ' ' +
         std::to_string(word.seen_ms);
}

std::optional<Acknowledgement> ParseAcknowledgement(std::string_view text) {
  Acknowledgement word;
  if (!Take(text, word.change) || !Take(text, word.version) || !Take(text, word.since_ms)) return std::nullopt;
  if (!text.empty() && (!Take(text, word.seen_ms) || !text.empty())) return std::nullopt;
  return word;
}

}  // namespace fuseline
