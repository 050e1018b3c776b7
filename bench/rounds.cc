#include "rounds.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "measure.h"

namespace fuseline::bench {

Way WayHere(std::string name, std::function<void()> pass) {
  return {std::move(name), [pass = std::move(pass)](double seconds) {
            std::size_t passes = 1;
            while (true) {  // The clock is a system call: it is asked rarely.
              const double before = ThreadSeconds();
              for (std::size_t i = 0; i < passes; ++i) pass();
              const double took = ThreadSeconds() - before;
              if (took >= seconds) return 1e6 * took / static_cast<double>(passes);
              const double more = took > 0 ? 1.1 * seconds / took : 100.0;
              passes = static_cast<std::size_t>(static_cast<double>(passes) * std::clamp(more, 1.2, 100.0)) + 1;
            }
          }};
}

void MeasureInTurn(std::vector<Way>& ways, std::size_t rounds, double seconds) {
  for (Way& way : ways) way.time(seconds / 10);  // For nothing: code, caches and pages are there then.
  for (std::size_t round = 0; round < rounds; ++round) {
    for (Way& way : ways) way.us.push_back(way.time(seconds));
  }
}

Spread SpreadOf(const Way& way) {
  std::vector<double> us = way.us;
  std::ranges::sort(us);
  return {us[us.size() / 2], us.front(), us.back()};
}

const Way* Find(const std::vector<Way>& ways, const std::string& name) {
  const auto found = std::ranges::find(ways, name, &Way::name);
  return found == ways.end() ? nullptr : &*found;
}

void Print(const Way& way, const Way* base) {
  const Spread spread = SpreadOf(way);
  std::printf("  %-34s %10.2f us  (%.2f .. %.2f)", way.name.c_str(), spread.median, spread.best, spread.worst);
  if (base != nullptr) std::printf("  %6.2f times", spread.median / SpreadOf(*base).median);
  std::printf("\n");
  std::fflush(stdout);
}

std::string Load() {
  double loads[1] = {0};
  char text[32] = "load unknown";
  if (getloadavg(loads, 1) == 1) std::snprintf(text, sizeof text, "load %.2f", loads[0]);
  return text;
}

}  // namespace fuseline::bench
