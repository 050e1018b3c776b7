// `make soak`: soak.h as a program. Its arguments are below; it exits 0 when all is proven or the time is up, 1 when it
// is not.

#include <cstdlib>
#include <iostream>

#include <CLI/CLI.hpp>

#include "soak.h"

int main(int argc, char** argv) {
  fuseline::test::SoakOptions options;
  std::string patience = "60m";
  CLI::App app(
      "Kills members of `fuseline sessionize` while events flow, and compares what they said with what one says that "
      "is left alone.\n"
      "Example: fuseline_soak --folder /var/tmp/fuseline-soak --for 60m; the same again goes on where that one "
      "stopped.");
  app.add_option("--folder", options.folder, "all of its state, a broker's data too")->required();
  app.add_option("--for", options.for_ms, "how long this call may take")
      ->transform(
          CLI::AsNumberWithUnit(std::map<std::string, std::int64_t>{{"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}}));
  app.add_option("--events", options.events, "events in all")
      ->check(CLI::Range(1'000ul, 1'000'000'000ul))
      ->capture_default_str();
  app.add_option("--kills", options.kills, "kills in all")->capture_default_str();
  app.add_option("--seed", options.seed, "of events and kills")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  auto soak = fuseline::test::Soak::Open(options);
  auto report = soak ? (*soak)->Run() : tl::unexpected(soak.error());
  if (!report) {
    std::cerr << "soak: " << report.error().message << '\n';
    return 1;
  }
  if (!report->finished) {
    std::cout << "soak: the time is up; the same command goes on\n";
    return 0;
  }
  std::cout << "soak: " << options.events << " events, " << options.kills << " kills: " << report->lost << " lost, "
            << report->twice << " twice, " << report->altered << " altered, " << report->gaps << " gaps; "
            << (report->proven() ? "byte-identical" : "NOT PROVEN") << "; " << report->trajectories << " trajectories, "
            << report->repeats << " repeats dropped\naccount:             " << report->account
            << "\nundisturbed account: " << report->undisturbed_account << '\n';
  return report->proven() ? 0 : 1;
}
