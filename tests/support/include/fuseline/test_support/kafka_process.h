#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"
#include "fuseline/test_support/tcp_proxy.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::test {

// A real Apache Kafka broker (deploy/kafka/broker.sh) in a temporary folder on free loopback ports.
// It takes some 4 s and 200 MB, so the tests of a binary share one (SharedKafka) and keep apart by
// topic names; a test that kills or stops its broker starts its own. Thread-compatible.
class KafkaProcess {
 public:
  // Returns once the broker answers a metadata request, within 60 s.
  // Errors: kNotFound if its jars are not installed, kUnavailable if it cannot be started; the
  // message ends with its log.
  static Result<std::unique_ptr<KafkaProcess>> Start();
  // The same with a folder of the caller's, which keeps data and ports for the next call. Errors: also kUnavailable if a
  // port of before is taken.
  static Result<std::unique_ptr<KafkaProcess>> Start(const std::string& folder);
  // As the first, with a second listener behind `proxy`: whoever begins at the proxy's port is told to connect there for everything;
  // bootstrap_servers() is the direct way.
  static Result<std::unique_ptr<KafkaProcess>> StartBehind(TcpProxy& proxy);

  ~KafkaProcess();

  const std::string& bootstrap_servers() const { return bootstrap_servers_; }  // HOST:PORT
  std::int64_t pid() const { return process_->pid(); }

  // Errors: kConflict if the topic exists, kUnavailable if the broker does not answer,
  // kInvalidInput if it refuses `config`.
  Status CreateTopic(const std::string& topic, int partitions,
                     const std::map<std::string, std::string>& config = {});

  void Kill();       // SIGKILL.
  Status Restart();  // The same folder and ports. REQUIRES: it was killed.
  void Pause();      // SIGSTOP: connections stay, answers stop.
  void Resume();     // SIGCONT.

 private:
  KafkaProcess() = default;
  static Result<std::unique_ptr<KafkaProcess>> StartInTempDir(TcpProxy* proxy);
  Status Launch();

  void SetPorts(int port, int controller_port);

  std::optional<TempDir> own_folder_;  // Outlives the process below.
  std::string folder_;
  int port_ = 0;
  int controller_port_ = 0;
  int proxied_port_ = 0, proxy_port_ = 0;  // 0: no second listener.
  std::string bootstrap_servers_;
  std::optional<ChildProcess> process_;
};

// The broker that all tests of this binary share, started by the first call; a failure is
// remembered and returned again. REQUIRES: called from the main thread.
Result<KafkaProcess*> SharedKafka();

// Whether a missing component is a failure (CI=true) instead of a skipped test.
bool ComponentsAreRequired();

// Put first into a test (or SetUp) that needs a broker: declares it, or skips the test, saying why,
// where none is installed; fails the test for any other reason, and in CI for that one too.
//   FUSELINE_KAFKA_OR_SKIP(KafkaProcess* kafka, SharedKafka());
//   FUSELINE_KAFKA_OR_SKIP(std::unique_ptr<KafkaProcess> kafka, KafkaProcess::Start());
#define FUSELINE_KAFKA_OR_SKIP(declaration, expression)                                \
  auto fuseline_kafka = (expression);                                                  \
  if (!fuseline_kafka && fuseline_kafka.error().code == ::fuseline::Code::kNotFound && \
      !::fuseline::test::ComponentsAreRequired()) {                                    \
    GTEST_SKIP() << "not proven here: " << fuseline_kafka.error().message;             \
  }                                                                                    \
  ASSERT_TRUE(fuseline_kafka.has_value()) << fuseline_kafka.error().message;           \
  declaration = std::move(*fuseline_kafka)

}  // namespace fuseline::test
