#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fuseline::test {

// What is wrong with a document's tags and entities, or "": every element closed in order, one root, quotes closed, no bare & or <.
// Knows no comments and no declarations: the charts have none.
inline std::string WhyNotWellFormed(std::string_view xml) {
  std::vector<std::string> open;
  int roots = 0;
  for (std::size_t at = 0; at < xml.size();) {
    if (xml[at] == '&') {
      const auto end = xml.find(';', at);
      if (end == std::string_view::npos || end - at > 5) return "bare & at " + std::to_string(at);
    }
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    bool quoted = false;
    std::size_t end = at + 1;
    for (; end < xml.size() && (quoted || xml[end] != '>'); ++end) {
      if (xml[end] == '"') quoted = !quoted;
      if (xml[end] == '<') return "< inside a tag at " + std::to_string(end);
    }
    if (end == xml.size()) return "tag not closed at " + std::to_string(at);
    const std::string_view tag = xml.substr(at + 1, end - at - 1);
    const std::string name(tag.substr(tag.front() == '/' ? 1 : 0, tag.find_first_of(" />", 1) - (tag.front() == '/' ? 1 : 0)));
    if (tag.front() == '/') {
      if (open.empty() || open.back() != name) return "</" + name + "> closes nothing at " + std::to_string(at);
      open.pop_back();
    } else if (tag.back() != '/') {
      roots += open.empty() ? 1 : 0;
      open.push_back(name);
    }
    at = end + 1;
  }
  if (!open.empty()) return "<" + open.back() + "> is never closed";
  return roots == 1 ? "" : "not one root";
}

}  // namespace fuseline::test
