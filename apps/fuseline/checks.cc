#include "checks.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>

#include "fuseline/core/file.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "learning_input.h"
#include "opening.h"
#include "trajectory_topic.h"

namespace fuseline {
namespace {

Result<std::string> CheckDisk(const v1::Config& config) {
  // The folder may not exist yet: its nearest parent that does tells the disk.
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(config.fuseline().state_dir(), error);
  while (!std::filesystem::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  FUSELINE_ASSIGN_OR_FAIL(const std::int64_t free_bytes, FreeDiskBytes(folder));
  if (free_bytes < config.fuseline().min_free_disk_bytes()) {
    return Error(Code::kUnavailable, "free bytes", free_bytes, "are below fuseline.min_free_disk_bytes",
                 config.fuseline().min_free_disk_bytes());
  }
  return std::to_string(free_bytes >> 20) + " MiB free at " + folder.string();
}

Result<std::string> CheckRedis(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_FAIL(RedisConnection redis, RedisConnection::Connect(RedisOptionsOf(config.redis())));
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"INFO", "memory"}));
  const std::string_view policy = RedisInfoField(reply.text, "maxmemory_policy");
  if (policy != "noeviction") {
    return Error(Code::kInvalidInput, "maxmemory-policy must be noeviction, or versions vanish; it is", policy);
  }
  return config.redis().address() + ", maxmemory-policy noeviction";
}

using TopicConfigs = std::map<std::string, std::string>;

std::string ValueOf(const TopicConfigs& configs, const char* key) {
  const auto found = configs.find(key);
  return found == configs.end() ? std::string() : found->second;
}

// Errors: kInvalidInput if the topic may lose what somebody still needs `needed_ms` after it was written; `why` says what that is.
Status CheckKeeps(const TopicConfigs& configs, std::int64_t needed_ms, std::string_view why) {
  if (ValueOf(configs, "cleanup.policy") != "delete") {
    return ErrorStatus(Code::kInvalidInput, "cleanup.policy must be delete; it is", ValueOf(configs, "cleanup.policy"));
  }
  const std::int64_t retention_ms = std::atoll(ValueOf(configs, "retention.ms").c_str());
  if (retention_ms < 0 || retention_ms > needed_ms) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "retention.ms", retention_ms, "must exceed", why, "=", needed_ms, "ms");
}

std::vector<std::string> DoubtsAboutEvents(const TopicConfigs& configs, const v1::Sessionizer& rules) {
  std::vector<std::string> doubts;
  const bool kept_for_ever = ValueOf(configs, "retention.ms") == "-1";
  if (ValueOf(configs, "message.timestamp.type") != "LogAppendTime") {
    doubts.push_back("message.timestamp.type is CreateTime: a producer's wrong clock moves event time and record time together, so that "
                     "ingest.max_future_ms does not stop it. Right for imports and simulations; otherwise set LogAppendTime");
    if (!kept_for_ever) {
      doubts.push_back("retention.ms goes by the producers' times: of an import, or of simulated time, the broker deletes what is old by "
                       "its own account. Set it to -1 for these");
    }
  }
  if (rules.cut_every_ms() == 0 && !kept_for_ever) {
    doubts.push_back("sessionizer.cut_every_ms is 0: a session may grow older than any retention.ms");
  }
  if (const std::string bytes = ValueOf(configs, "retention.bytes"); !bytes.empty() && bytes != "-1") {
    doubts.push_back("retention.bytes " + bytes + " may delete records long before retention.ms does");
  }
  return doubts;
}

CheckOutcome LookAtEventsTopic(kafka::Admin& admin, const v1::Config& config) {
  CheckOutcome outcome{.what = "topic " + config.kafka().events_topic()};
  const auto partitions = admin.PartitionCount(config.kafka().events_topic());
  const auto configs = admin.TopicConfigs(config.kafka().events_topic());
  outcome.status = !partitions ? partitions.error() : !configs ? configs.error() : OkStatus();
  if (!outcome.status.ok()) return outcome;
  const v1::Sessionizer& rules = config.sessionizer();
  outcome.status = CheckKeeps(*configs, rules.cut_every_ms() + rules.gap_ms() + rules.lateness_ms() + config.kafka().longest_outage_ms(),
                              "cut_every + gap + lateness + kafka.longest_outage_ms");
  outcome.doubts = DoubtsAboutEvents(*configs, rules);
  outcome.found = std::to_string(*partitions) + " partitions, retention.ms " + ValueOf(*configs, "retention.ms") + ", " +
                  ValueOf(*configs, "message.timestamp.type") + ", acks=all means min.insync.replicas " +
                  ValueOf(*configs, "min.insync.replicas");
  return outcome;
}

Result<std::string> CheckOwnTopic(kafka::Admin& admin, const std::string& topic) {
  const auto partitions = admin.PartitionCount(topic);
  if (partitions) return "there";
  if (partitions.error().code == Code::kNotFound) return "missing; a run makes it";
  return tl::unexpected(partitions.error());
}

// The partitions of the topic of trajectories; 0: there is none.
Result<std::int32_t> LookAtTrajectoriesTopic(kafka::Admin& admin, const v1::Config& config, std::int32_t partitions_needed) {
  const std::string& topic = config.kafka().trajectories_topic();
  const auto partitions = admin.PartitionCount(topic);
  if (!partitions && partitions.error().code == Code::kNotFound) return 0;
  if (!partitions) return partitions;
  if (*partitions != partitions_needed) {
    return Error(Code::kInvalidInput, "topic", topic, "has", *partitions, "partitions; the events topic has", partitions_needed,
                 "and the two must agree");
  }
  FUSELINE_ASSIGN_OR_FAIL(const auto settings, admin.TopicConfigs(topic));
  FUSELINE_FAIL_IF_ERROR(CheckKeeps(settings, config.kafka().longest_outage_ms(), "kafka.longest_outage_ms"));
  const auto largest = settings.find("max.message.bytes");
  const std::int64_t bytes = largest == settings.end() ? 0 : std::atoll(largest->second.c_str());
  if (bytes < TrajectoryRecordBytesMax(config)) {
    return Error(Code::kInvalidInput, "topic", topic, "has max.message.bytes", bytes, "but sessionizer.max_trajectory_bytes needs",
                 TrajectoryRecordBytesMax(config));
  }
  return partitions;
}

Result<std::string> CheckTrajectoriesTopic(kafka::Admin& admin, const v1::Config& config, Role role) {
  const auto there = admin.PartitionCount(role == Role::kLearn ? config.kafka().trajectories_topic() : config.kafka().events_topic());
  if (!there) return tl::unexpected(there.error());
  if (role == Role::kLearn) return std::to_string(*there) + " partitions";
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t partitions, LookAtTrajectoriesTopic(admin, config, *there));
  return partitions == 0 ? std::string("missing; it will be made") : std::to_string(partitions) + " partitions";
}

// The partition count and cluster that the state was made with: a changed count is another topic.
Result<std::string> CheckInputOfState(const v1::Config& config, const std::string& topic) {
  const auto known = ReadFile(std::filesystem::path(config.fuseline().state_dir()) / "input");
  if (!known && known.error().code == Code::kNotFound) return "new";
  if (!known) return tl::unexpected(known.error());
  FUSELINE_ASSIGN_OR_FAIL(const std::string input, DescribeTopic(config, topic));
  if (*known == input) return "made from " + input;
  return Error(Code::kInvalidInput, "state folder was made from", "[" + *known + "],", "not from", "[" + input + "]");
}

}  // namespace

Status CheckEventsTopic(const v1::Config& config, Log& log) {
  FUSELINE_ASSIGN_OR_RETURN(const auto admin,
                            kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  const CheckOutcome outcome = LookAtEventsTopic(*admin, config);
  for (const std::string& doubt : outcome.doubts) {
    log.Warn("ingest.topic_doubtful", "topic", config.kafka().events_topic(), "doubt", doubt);
  }
  return outcome.status;
}

std::vector<CheckOutcome> CheckEverything(const v1::Config& config, Role role) {
  std::vector<CheckOutcome> outcomes;
  const auto add = [&](std::string what, Result<std::string> found) {
    outcomes.push_back({std::move(what), found.value_or(""), found ? OkStatus() : found.error(), {}});
  };
  const v1::Kafka& kafka = config.kafka();
  const Status scorer = role == Role::kSessionize ? OkStatus() : CheckScorerStream(config);
  add("settings", scorer.ok() ? Result<std::string>("valid") : tl::unexpected(scorer));
  add("disk", CheckDisk(config));
  if (role != Role::kSessionize) add("redis", CheckRedis(config));
  const auto admin = kafka::Admin::Open(ConnectionOf(kafka), kafka.connect_timeout_ms());
  const Status reachable = admin ? (*admin)->CheckReachable() : admin.error();
  add("kafka", reachable.ok() ? Result<std::string>(kafka.brokers()) : tl::unexpected(reachable));
  if (!reachable.ok()) return outcomes;
  if (role != Role::kLearn) outcomes.push_back(LookAtEventsTopic(**admin, config));
  if (role != Role::kRun) add("topic " + kafka.trajectories_topic(), CheckTrajectoriesTopic(**admin, config, role));
  add("state", CheckInputOfState(config, role == Role::kLearn ? kafka.trajectories_topic() : kafka.events_topic()));
  if (role != Role::kLearn) add("topic " + kafka.dead_letters_topic(), CheckOwnTopic(**admin, kafka.dead_letters_topic()));
  if (role != Role::kSessionize) add("topic " + kafka.claims_topic(), CheckOwnTopic(**admin, kafka.claims_topic()));
  return outcomes;
}

Status MakeTrajectoriesTopic(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_RETURN(const auto admin, kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  FUSELINE_ASSIGN_OR_RETURN(const std::int32_t needed, admin->PartitionCount(config.kafka().events_topic()));
  FUSELINE_ASSIGN_OR_RETURN(const std::int32_t found, LookAtTrajectoriesTopic(*admin, config, needed));
  if (found > 0) return OkStatus();
  constexpr std::int32_t kBrokersDefault = -1;
  Status made = admin->CreateTopic(config.kafka().trajectories_topic(), needed, kBrokersDefault,
                                   {{"cleanup.policy", "delete"},
                                    {"retention.ms", "-1"},
                                    {"max.message.bytes", std::to_string(TrajectoryRecordBytesMax(config))}});
  if (made.code != Code::kConflict) return made;
  const auto others = LookAtTrajectoriesTopic(*admin, config, needed);  // Another member just made it.
  return others ? OkStatus() : others.error();
}

Status MakeTopicUnlessThere(const v1::Config& config, const std::string& topic) {
  FUSELINE_ASSIGN_OR_RETURN(const auto admin,
                            kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  const auto found = admin->PartitionCount(topic);
  if (found) return OkStatus();
  if (found.error().code != Code::kNotFound) return found.error();
  Status made = admin->CreateTopic(topic, 1, 1, {{"retention.ms", "-1"}});
  return made.code == Code::kConflict ? OkStatus() : made;  // Conflict: somebody else just made it.
}

}  // namespace fuseline
