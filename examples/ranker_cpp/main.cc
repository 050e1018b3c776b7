// Ranks a request with the newest policy that Fuseline published:  ranker_example fuseline.yaml
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "fuseline/proto/settings.h"
#include "fuseline/serving_bridge/ranker.h"

int main(int argc, char** argv) {
  const auto config = fuseline::LoadSettings({.file = argc > 1 ? argv[1] : "", .environment = fuseline::SettingsEnvironment(), .flags = {}});
  if (!config) return std::cerr << config.error().message << '\n', 2;
  fuseline::Log log(fuseline::Severity::kWarn);
  fuseline::Metrics metrics;
  const fuseline::SystemClock clock;
  auto options = *fuseline::RankerOptionsOf(*config);
  options.name = "example-cpp";
  const auto ranker = fuseline::Ranker::Open(options, log, metrics, clock);
  if (!ranker) return std::cerr << ranker.error().message << '\n', 2;

  // Never needed in production: until a version is there, the static weights serve.
  for (int i = 0; i < 100 && (*ranker)->status().version == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));

  auto reader = (*ranker)->NewReader();  // One per thread.
  const float scores[3][5] = {{0.2F, 0.3F, 20, 0.02F, 0.01F}, {0.1F, 0.6F, 45, 0.05F, 0.02F}, {0.4F, 0.1F, 8, 0.01F, 0.0F}};
  const std::string_view names[3] = {"a", "b", "c"};
  std::vector<fuseline::CandidateView> candidates;
  for (const auto& task_scores : scores) candidates.push_back({{}, task_scores});  // No features: the schema's defaults.
  const auto decision = (*ranker)->Rank({.request_id = "r1", .user_id = "u42", .surface = "feed", .event_time_ms = clock.wall_ms(), .user = {},
                                         .context = {}, .item_ids = names, .candidates = candidates, .expose_count = 0}, reader);
  if (!decision) return std::cerr << decision.error().message << '\n', 1;
  std::cout << "version " << decision->policy_version << ", best first:";
  for (const auto& item : decision->order) std::cout << ' ' << names[item.candidate] << '=' << item.fused_score;
  std::cout << '\n';
}
