#include "fuseline/kafka/mock_cluster.h"

#include <vector>

#include <librdkafka/rdkafka.h>
// It needs the header above and does not include it.
#include <librdkafka/rdkafka_mock.h>

#include "client.h"

namespace fuseline::kafka {

struct MockCluster::State {
  Owned<rd_kafka_t> handle;  // Outlives the cluster, whose threads are its own.
  rd_kafka_mock_cluster_t* cluster = nullptr;
  ~State() {
    if (cluster != nullptr) rd_kafka_mock_cluster_destroy(cluster);
  }
};

MockCluster::MockCluster(std::unique_ptr<State> state) : state_(std::move(state)) {}
MockCluster::~MockCluster() = default;

Result<std::unique_ptr<MockCluster>> MockCluster::Start(int brokers) {
  if (brokers < 1) return Error(Code::kInvalidInput, "a mock cluster needs a broker; asked for", brokers);
  Connection nobody;
  nobody.client_id = "fuseline-mock";
  FUSELINE_ASSIGN_OR_FAIL(auto conf, MakeConf(nobody, {}));
  auto state = std::make_unique<State>();
  FUSELINE_ASSIGN_OR_FAIL(state->handle, MakeHandle(RD_KAFKA_PRODUCER, std::move(conf)));
  state->cluster = rd_kafka_mock_cluster_new(state->handle.get(), brokers);
  if (state->cluster == nullptr) return Error(Code::kUnavailable, "mock cluster did not start");
  return std::unique_ptr<MockCluster>(new MockCluster(std::move(state)));
}

Connection MockCluster::connection() const {
  Connection connection;
  connection.bootstrap_servers = rd_kafka_mock_cluster_bootstraps(state_->cluster);
  return connection;
}

Status MockCluster::CreateTopic(const std::string& topic, std::int32_t partitions) {
  return FromKafka(rd_kafka_mock_topic_create(state_->cluster, topic.c_str(), partitions, 1), "mock topic", topic);
}

void MockCluster::FailNext(Request request, std::span<const int> kafka_errors) {
  std::vector<rd_kafka_resp_err_t> errors;
  for (const int error : kafka_errors) errors.push_back(static_cast<rd_kafka_resp_err_t>(error));
  rd_kafka_mock_push_request_errors_array(state_->cluster, static_cast<std::int16_t>(request), errors.size(), errors.data());
}

Status MockCluster::SetBrokerDown(int broker) {
  return FromKafka(rd_kafka_mock_broker_set_down(state_->cluster, broker), "mock broker down", broker);
}

Status MockCluster::SetBrokerUp(int broker) {
  return FromKafka(rd_kafka_mock_broker_set_up(state_->cluster, broker), "mock broker up", broker);
}

}  // namespace fuseline::kafka
