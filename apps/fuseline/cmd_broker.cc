#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include "command.h"

namespace fuseline {
namespace {

struct BrokerOptions {
  std::string dir = ".fuseline-broker";
  int port = 9092;
};

// The script lies beside the sources of a build, or under share/ of an installation.
Result<std::filesystem::path> FindBrokerScript() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error(Code::kInternal, "cannot find this program's folder:", error.message());
  for (std::filesystem::path folder = program.parent_path(); folder != folder.root_path(); folder = folder.parent_path()) {
    for (const char* place : {"deploy/kafka/broker.sh", "share/fuseline/kafka/broker.sh"}) {
      if (std::filesystem::exists(folder / place, error)) return folder / place;
    }
  }
  return Error(Code::kNotFound, "deploy/kafka/broker.sh is in no folder above", program.string());
}

int RunBroker(const BrokerOptions& options) {
  const auto script = FindBrokerScript();
  if (!script) return Fail(script.error());
  std::cerr << "broker: data in " << options.dir << ", clients connect to 127.0.0.1:" << options.port << ", Ctrl-C ends it\n";
  std::vector<std::string> arguments{script->string(), options.dir, std::to_string(options.port)};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  // This process becomes the broker: a signal reaches it directly, and nothing of ours stands in between.
  ::execv(pointers[0], pointers.data());
  return Fail(ErrorStatus(Code::kInternal, "cannot run", script->string(), std::strerror(errno)));
}

}  // namespace

void RegisterBroker(Program& program) {
  auto options = std::make_shared<BrokerOptions>();
  CLI::App* broker = program.AddSubcommand("broker", "Run one real Kafka broker in the foreground, for trying things out",
                                           "fuseline broker --dir /tmp/broker --port 9092");
  broker->add_option("--dir", options->dir, "folder of its data; formatted on first use")->capture_default_str();
  broker->add_option("--port", options->port, "port for clients; the controller takes the next one")
      ->check(CLI::Range(1024, 65534))
      ->capture_default_str();
  program.SetBody(broker, [options] { return RunBroker(*options); });
}

}  // namespace fuseline
