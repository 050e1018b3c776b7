#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace fuseline::bench {

// One of several ways to do the same work. They are measured in turn, round after round, so that a slow minute of the
// machine meets all of them.
struct Way {
  std::string name;
  std::function<double(double seconds)> time;  // Microseconds of CPU time of one pass, measured for about so long.
  std::vector<double> us{};                    // What it said, round by round.
};

Way WayHere(std::string name, std::function<void()> pass);  // In this process and thread.

void MeasureInTurn(std::vector<Way>& ways, std::size_t rounds, double seconds);

struct Spread {
  double median, best, worst;
};
Spread SpreadOf(const Way& way);                                         // REQUIRES: it was measured.
const Way* Find(const std::vector<Way>& ways, const std::string& name);  // Null if there is none.

// One line: median, best and worst, and how many times `base` the median is.
void Print(const Way& way, const Way* base);

// How busy the machine is: "load 1.25".
std::string Load();

}  // namespace fuseline::bench
