#include "peer_process.h"

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

Result<std::unique_ptr<PeerProcess>> PeerProcess::Start(const std::string& script, const std::string& arguments) {
  std::unique_ptr<PeerProcess> peer(new PeerProcess());
  const std::string pipe = peer->folder_ / "commands";
  if (::mkfifo(pipe.c_str(), 0600) != 0) return Error(Code::kUnavailable, "cannot make a pipe", pipe);
  // A child's own standard input is empty.
  const std::string command = "exec '" FUSELINE_PEERS_DIR "/" + script + "' " + arguments +  //
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

PeerProcess::~PeerProcess() {
  if (commands_ >= 0) ::close(commands_);  // The end of its input.
  if (process_) process_->Stop(10'000);
}

Result<std::string> PeerProcess::Ask(const std::string& command) {
  const std::string line = command + "\n";
  if (::write(commands_, line.data(), line.size()) != std::ssize(line)) {
    return Error(Code::kUnavailable, "the peer does not listen");
  }
  return NextLine();
}

Result<std::string> PeerProcess::NextLine() {
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
