#pragma once

#include <cstdint>
#include <string>

namespace fuseline {

// One line on standard error, rewritten a few times a second on a terminal, and once in ten seconds elsewhere.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // Ends the line.

  // True when the next Show is due: so that callers do not gather what nobody sees.
  bool due() const;
  void Show(const std::string& text);

 private:
  const bool terminal_;
  std::int64_t next_us_ = 0;
  bool shown_ = false;
};

// "12 s", "3 min 05 s": how long `done` of `total` will still take at the rate so far; "?" when nothing was done.
std::string EtaText(double done, double total, double elapsed_s);
std::string RateText(double per_second);  // "950", "12.3 k", "1.25 M".

}  // namespace fuseline
