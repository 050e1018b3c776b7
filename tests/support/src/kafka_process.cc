#include "fuseline/test_support/kafka_process.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include <librdkafka/rdkafka.h>

#include "fuseline/core/file.h"
#include "fuseline/test_support/server.h"

namespace fuseline::test {
namespace {

constexpr const char* kBrokerScript = FUSELINE_KAFKA_DIR "/broker.sh";
constexpr int kStartPatienceMs = 60'000;
constexpr int kAnswerPatienceMs = 1'000;
constexpr int kAdminPatienceMs = 30'000;
constexpr int kPortAttempts = 3;

using Client = std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)>;

void IgnoreLog(const rd_kafka_t*, int, const char*, const char*) {}

Client MakeClient(const std::string& bootstrap_servers) {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char problem[256];
  rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap_servers.c_str(), problem, sizeof problem);
  rd_kafka_conf_set_log_cb(
      conf, IgnoreLog);  // While it starts, every try would print a refused connection.
  return {rd_kafka_new(RD_KAFKA_PRODUCER, conf, problem, sizeof problem), rd_kafka_destroy};
}

bool AnswersMetadata(rd_kafka_t* client) {
  const rd_kafka_metadata_t* metadata = nullptr;
  if (rd_kafka_metadata(client, /*all_topics=*/0, nullptr, &metadata, kAnswerPatienceMs) !=
      RD_KAFKA_RESP_ERR_NO_ERROR)
    return false;
  const bool has_broker = metadata->broker_cnt > 0;
  rd_kafka_metadata_destroy(metadata);
  return has_broker;
}

std::string KafkaHome() {
  if (const char* home = std::getenv("FUSELINE_KAFKA_HOME"); home != nullptr && *home != '\0')
    return home;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* user = std::getenv("HOME");
  const std::string base = cache != nullptr && *cache != '\0'
                               ? cache
                               : std::string(user != nullptr ? user : "") + "/.cache";
  return base + "/fuseline/kafka-" FUSELINE_KAFKA_VERSION;
}

Status CheckInstalled() {
  const std::string home = KafkaHome();
  if (std::filesystem::exists(home + "/lib/kafka_2.13-" FUSELINE_KAFKA_VERSION ".jar")) return OkStatus();
  return ErrorStatus(Code::kNotFound, "no Kafka broker installed (run deploy/setup.sh)", home);
}

Code CodeOf(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: return Code::kOk;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS: return Code::kConflict;
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TRANSPORT: return Code::kUnavailable;
    default: return Code::kInvalidInput;
  }
}

}  // namespace

Result<std::unique_ptr<KafkaProcess>> KafkaProcess::Start() { return StartInTempDir(nullptr); }

Result<std::unique_ptr<KafkaProcess>> KafkaProcess::StartBehind(TcpProxy& proxy) { return StartInTempDir(&proxy); }

Result<std::unique_ptr<KafkaProcess>> KafkaProcess::StartInTempDir(TcpProxy* proxy) {
  FUSELINE_FAIL_IF_ERROR(CheckInstalled());
  Status status;
  for (int attempt = 0; attempt < kPortAttempts;
       ++attempt) {  // A new folder each time: the format names the ports.
    std::unique_ptr<KafkaProcess> kafka(new KafkaProcess());
    kafka->folder_ = kafka->own_folder_.emplace().path();
    kafka->SetPorts(FreePort(), FreePort());
    if (proxy != nullptr) {
      kafka->proxied_port_ = FreePort();
      kafka->proxy_port_ = proxy->port();
      proxy->Serve(kafka->proxied_port_);
    }
    status = kafka->Launch();
    if (status.ok()) return kafka;
  }
  return tl::unexpected(status);
}

Result<std::unique_ptr<KafkaProcess>> KafkaProcess::Start(const std::string& folder) {
  FUSELINE_FAIL_IF_ERROR(CheckInstalled());
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  std::unique_ptr<KafkaProcess> kafka(new KafkaProcess());
  kafka->folder_ = folder;
  int port = 0, controller_port = 0;
  if (std::ifstream ports(folder + "/ports"); ports >> port >> controller_port) {
    kafka->SetPorts(port, controller_port);
  } else {
    kafka->SetPorts(FreePort(), FreePort());
    const std::string chosen = std::to_string(kafka->port_) + ' ' + std::to_string(kafka->controller_port_) + '\n';
    FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder + "/ports", chosen));
  }
  FUSELINE_FAIL_IF_ERROR(kafka->Launch());
  return kafka;
}

void KafkaProcess::SetPorts(int port, int controller_port) {
  port_ = port;
  controller_port_ = controller_port;
  bootstrap_servers_ = "127.0.0.1:" + std::to_string(port);
}

// A broker that is asked to stop takes seconds over it, and nobody reads its folder again.
KafkaProcess::~KafkaProcess() = default;

Status KafkaProcess::Launch() {
  const std::string log_path = folder_ + "/broker.log";
  std::vector<std::string> arguments = {"env", "FUSELINE_KAFKA_CONTROLLER_PORT=" + std::to_string(controller_port_),
                                        kBrokerScript, folder_, std::to_string(port_)};
  if (proxied_port_ != 0) {
    const std::string direct = "PLAINTEXT://" + bootstrap_servers_ + ",PROXIED://127.0.0.1:";
    const std::string controller = ",CONTROLLER://127.0.0.1:" + std::to_string(controller_port_);
    arguments.push_back("listeners=" + direct + std::to_string(proxied_port_) + controller);
    arguments.push_back("advertised.listeners=" + direct + std::to_string(proxy_port_) + controller);
    arguments.push_back("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT");
  }
  FUSELINE_ASSIGN_OR_RETURN(process_, ChildProcess::Start(arguments, log_path));
  const Client client = MakeClient(bootstrap_servers_);
  return WaitUntilReady(*process_, log_path, kStartPatienceMs,
                        [&] { return AnswersMetadata(client.get()); });
}

Status KafkaProcess::CreateTopic(const std::string& topic, int partitions,
                                 const std::map<std::string, std::string>& config) {
  const Client client = MakeClient(bootstrap_servers_);
  char problem[256];
  rd_kafka_NewTopic_t* request = rd_kafka_NewTopic_new(
      topic.c_str(), partitions, /*replication_factor=*/1, problem, sizeof problem);
  if (request == nullptr) return Status{Code::kInvalidInput, problem};
  for (const auto& [key, value] : config)
    rd_kafka_NewTopic_set_config(request, key.c_str(), value.c_str());

  const std::unique_ptr<rd_kafka_AdminOptions_t, decltype(&rd_kafka_AdminOptions_destroy)> options(
      rd_kafka_AdminOptions_new(client.get(), RD_KAFKA_ADMIN_OP_CREATETOPICS),
      rd_kafka_AdminOptions_destroy);
  // Otherwise the answer may come before the broker serves the new topic.
  rd_kafka_AdminOptions_set_operation_timeout(options.get(), kAdminPatienceMs, problem,
                                              sizeof problem);
  const std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> queue(
      rd_kafka_queue_new(client.get()), rd_kafka_queue_destroy);
  rd_kafka_CreateTopics(client.get(), &request, 1, options.get(), queue.get());
  rd_kafka_NewTopic_destroy(request);

  const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> event(
      rd_kafka_queue_poll(queue.get(), kAdminPatienceMs), rd_kafka_event_destroy);
  if (event == nullptr) return Status{Code::kUnavailable, "no answer to CreateTopics for " + topic};
  if (const auto error = rd_kafka_event_error(event.get()); error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return Status{CodeOf(error), topic + ": " + rd_kafka_event_error_string(event.get())};
  }
  std::size_t count = 0;
  const rd_kafka_topic_result_t** results =
      rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  const auto error = rd_kafka_topic_result_error(results[0]);
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  const char* reason = rd_kafka_topic_result_error_string(results[0]);
  return Status{CodeOf(error),
                topic + ": " + (reason != nullptr ? reason : rd_kafka_err2str(error))};
}

void KafkaProcess::Kill() { process_->Kill(); }
Status KafkaProcess::Restart() { return Launch(); }
void KafkaProcess::Pause() { process_->Signal(SIGSTOP); }
void KafkaProcess::Resume() { process_->Signal(SIGCONT); }

Result<KafkaProcess*> SharedKafka() {
  static const auto kafka =
      KafkaProcess::Start();  // Its destructor stops the broker when the binary ends.
  if (!kafka) return tl::unexpected(kafka.error());
  return kafka->get();
}

bool ComponentsAreRequired() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string(ci) == "true";
}

}  // namespace fuseline::test
