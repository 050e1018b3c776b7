#include "kafka_streams_peer.h"

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fuseline::bench {
namespace {

constexpr int kAnswerPatienceMs = 900'000;
constexpr int kStepMs = 20;

std::string ContentOf(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path).rdbuf();
  return content.str();
}

}  // namespace

Result<std::unique_ptr<KafkaStreamsPeer>> KafkaStreamsPeer::Start(const std::string& bootstrap_servers,
                                                                  const std::string& topic) {
  constexpr const char* kScript = FUSELINE_PEERS_DIR "/kafka_streams/run.sh";
  std::unique_ptr<KafkaStreamsPeer> peer(new KafkaStreamsPeer());
  const std::string pipe = peer->folder_ / "commands";
  if (::mkfifo(pipe.c_str(), 0600) != 0) return Error(Code::kUnavailable, "cannot make a pipe", pipe);
  // A child's own standard input is empty.
  const std::string command = "exec '" + std::string(kScript) + "' " + bootstrap_servers + " " + topic +  //
                              " <'" + pipe + "' 2>'" + peer->folder_ / "log" + "'";
  FUSELINE_ASSIGN_OR_FAIL(ChildProcess process,
                          ChildProcess::Start({"bash", "-c", command}, peer->folder_ / "answers"));
  peer->process_ = std::make_unique<ChildProcess>(std::move(process));
  peer->commands_ = ::open(pipe.c_str(), O_WRONLY | O_CLOEXEC);  // Waits until the child reads.
  if (peer->commands_ < 0) return Error(Code::kUnavailable, "cannot open a pipe", pipe);
  const auto ready = peer->NextLine();
  if (ready) return peer;
  constexpr int kNotBuilt = 3;
  return Error(peer->process_->Wait() == kNotBuilt ? Code::kNotFound : Code::kUnavailable, ready.error().message);
}

KafkaStreamsPeer::~KafkaStreamsPeer() {
  if (commands_ >= 0) ::close(commands_);  // The end of its input.
  if (process_) process_->Stop(10'000);
}

Result<KafkaStreamsPeer::Pass> KafkaStreamsPeer::Run(const std::string& guarantee, const std::string& aggregate) {
  const std::string command = guarantee + " " + aggregate + "\n";
  if (::write(commands_, command.data(), command.size()) != std::ssize(command)) {
    return Error(Code::kUnavailable, "the peer does not listen");
  }
  FUSELINE_ASSIGN_OR_FAIL(const std::string line, NextLine());
  Pass pass;
  if (std::sscanf(
          line.c_str(), "events=%" SCNd64 " sessions=%" SCNd64 " accepted=%" SCNd64 " cpu_s=%lf wall_s=%lf rss_mb=%lf",
          &pass.events, &pass.sessions, &pass.accepted, &pass.cost.cpu_s, &pass.cost.wall_s, &pass.rss_mib) != 6) {
    return Error(Code::kUnavailable, "the peer says", line);
  }
  return pass;
}

Result<std::string> KafkaStreamsPeer::NextLine() {
  for (int waited_ms = 0; waited_ms < kAnswerPatienceMs; waited_ms += kStepMs) {
    const std::string content = ContentOf(folder_ / "answers");
    if (const std::size_t end = content.find('\n', answers_read_); end != std::string::npos) {
      return content.substr(std::exchange(answers_read_, end + 1), end - answers_read_);
    }
    if (!process_->running()) return Error(Code::kUnavailable, "the peer has ended:", ContentOf(folder_ / "log"));
    ::usleep(kStepMs * 1000);
  }
  return Error(Code::kUnavailable, "the peer does not answer");
}

}  // namespace fuseline::bench
