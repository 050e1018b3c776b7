#include "session_rules.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/offset_metadata.h"
#include "fuseline/sessionizer/session_window.h"

namespace fuseline {
namespace {

// Rules take effect where they stand in the log. The record's own time says nothing, and none is earlier: so no broker's clock can
// make it a record from the future.
constexpr std::int64_t kNoEventTimeMs = 0;

v1::Event RecordOf(const v1::SessionRules& rules) {
  v1::Event record;
  record.set_event_id("rules-" + std::to_string(rules.version()));
  record.set_event_time_ms(kNoEventTimeMs);
  *record.mutable_control()->mutable_rules() = rules;
  return record;
}

void Follow(const EventBatch& batch, RulesInForce* in_force) {
  for (const Record& record : batch.records) {
    if (record.fate != RecordFate::kEvent || record.event.kind != EventView::Kind::kControl) continue;
    v1::Control control;
    if (!control.ParseFromArray(record.event.body.data(), static_cast<int>(record.event.body.size())) || !control.has_rules()) continue;
    v1::SessionRules& current = in_force->of_partition[batch.partition];
    if (control.rules().version() > current.version()) current = control.rules();
  }
  in_force->read_to[batch.partition] = batch.next_offset;
}

// Where the group's word about a partition begins to be true, and the rules in force there. The log may have forgotten that place, and
// what it has forgotten the group still says.
Result<kafka::StartPosition> AskGroup(kafka::Consumer& consumer, std::int32_t partition, v1::SessionRules* in_force) {
  FUSELINE_ASSIGN_OR_FAIL(const auto committed, consumer.Committed({&partition, 1}));
  if (committed.empty()) return kafka::StartPosition::Earliest();
  const auto metadata = DecodeOffsetMetadata(committed.at(partition).metadata);
  if (!metadata) return kafka::StartPosition::Earliest();
  *in_force = metadata->rules();
  in_force->set_version(metadata->rules_version());
  FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks marks, consumer.QueryWatermarks(partition));
  return kafka::StartPosition::Offset(std::max(metadata->low_water_offset(), marks.low));
}

}  // namespace

bool SameRules(const v1::SessionRules& a, const v1::SessionRules& b) { return a.format() == b.format() && ShapeOf(a) == ShapeOf(b); }

std::string RulesText(const v1::SessionRules& rules) {
  std::ostringstream text;
  text << "version " << rules.version() << ": gap_ms " << rules.gap_ms() << ", lateness_ms " << rules.lateness_ms()
       << ", cut_every_ms " << rules.cut_every_ms() << ", max_events " << rules.max_events() << ", format " << rules.format();
  return text.str();
}

Result<RulesInForce> ReadRules(const v1::Config& config, const RulesInForce& known) {
  RulesInForce in_force = known;
  KafkaSourceOptions options = KafkaSourceOptionsOf(config.kafka(), config.ingest());
  options.until_end = true;
  options.start = [&](kafka::Consumer& consumer, std::int32_t partition) -> Result<kafka::StartPosition> {
    if (const auto read_to = known.read_to.find(partition); read_to != known.read_to.end()) {
      return kafka::StartPosition::Offset(read_to->second);
    }
    if (config.kafka().group_id().empty()) return kafka::StartPosition::Earliest();
    return AskGroup(consumer, partition, &in_force.of_partition[partition]);
  };
  FUSELINE_ASSIGN_OR_FAIL(const auto source, KafkaSource::Open(std::move(options), /*dead_letters=*/nullptr));
  for (const std::int32_t partition : source->partitions()) in_force.of_partition[partition];  // None until a record says so.
  std::int64_t waited_ms = 0;  // Without anything; about.
  while (!source->finished()) {
    FUSELINE_ASSIGN_OR_FAIL(const auto batch, source->Next(config.ingest().poll_timeout_ms()));
    if (batch) Follow(*batch, &in_force);
    waited_ms = batch ? 0 : waited_ms + config.ingest().poll_timeout_ms();
    if (!source->finished() && waited_ms > config.kafka().connect_timeout_ms()) {
      return Error(Code::kUnavailable, "nothing came of topic", config.kafka().events_topic(), "within kafka.connect_timeout_ms",
                   config.kafka().connect_timeout_ms());
    }
  }
  return in_force;
}

RulesPlan PlanRules(const RulesInForce& in_force, const v1::SessionRules& wanted) {
  RulesPlan plan;
  for (const auto& [partition, rules] : in_force.of_partition) plan.version = std::max(plan.version, rules.version());
  const bool newest_says_so = std::ranges::all_of(in_force.of_partition, [&](const auto& entry) {
    return entry.second.version() < plan.version || SameRules(entry.second, wanted);
  });
  if (plan.version == 0 || !newest_says_so) ++plan.version;
  for (const auto& [partition, rules] : in_force.of_partition) {
    if (rules.version() < plan.version) plan.lacking.push_back(partition);
  }
  return plan;
}

Result<std::map<std::int32_t, RulesAppended>> AppendRules(const v1::Config& config, const v1::SessionRules& rules,
                                                          const std::vector<std::int32_t>& partitions) {
  std::map<std::int32_t, RulesAppended> appended;
  for (const std::int32_t partition : partitions) {
    appended[partition].status = ErrorStatus(Code::kUnavailable, "no answer within kafka.connect_timeout_ms",
                                             config.kafka().connect_timeout_ms());
  }
  FUSELINE_ASSIGN_OR_FAIL(const auto producer, kafka::Producer::Open(ConnectionOf(config.kafka()), {},
                                                                     [&](const kafka::DeliveryReport& report) {
                                                                       appended[static_cast<std::int32_t>(report.id)] = {report.offset, report.status};
                                                                     }));
  const std::string bytes = RecordOf(rules).SerializeAsString();
  for (const std::int32_t partition : partitions) {
    kafka::OutgoingMessage message;
    message.topic = config.kafka().events_topic();
    message.partition = partition;
    message.value = bytes;
    message.id = static_cast<std::uint64_t>(partition);
    if (Status refused = producer->Produce(message); !refused.ok()) appended[partition].status = std::move(refused);
  }
  // A deadline that passed shows in the partitions that got no answer.
  if (const Status flushed = producer->Flush(config.kafka().connect_timeout_ms()); !flushed.ok() && flushed.code != Code::kUnavailable) {
    return tl::unexpected(flushed);
  }
  return appended;
}

}  // namespace fuseline
