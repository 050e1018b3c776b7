// Writes the conformance vectors to standard output: requests, and what the ranker makes of them. They are kept beside this
// file, and written anew only when a decision is meant to change:
//   fuseline_conformance_vectors tests/golden/policy_v1 > tests/conformance/ranker_vectors.json
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/assignment.h"
#include "fuseline/serving_bridge/decision_maker.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN: such a number is a string.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity"); }

// Nine digits say which float it is.
Json Array(const std::vector<float>& values) {
  Json array = Json::array();
  for (const float value : values) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));
    array.push_back(Number(std::strtod(digits, nullptr)));
  }
  return array;
}

struct Item {
  std::string id;
  std::vector<float> dense;
  std::vector<std::uint64_t> ids;
  std::vector<float> scores;
};

struct Case {
  std::string about, request_id, user_id;
  std::vector<float> user_dense, context_dense;
  std::vector<std::uint64_t> user_ids;
  std::vector<Item> items;
  std::size_t expose = 0;
};

// Of the default schema.
Case RandomCase(const std::string& about, std::uint64_t number, std::size_t candidates, std::size_t expose) {
  Random random(2026, "conformance", number);
  const auto floats = [&](std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(random.NextUniform());
    return values;
  };
  Case made{.about = about, .request_id = "request-" + std::to_string(number), .user_id = "user-" + std::to_string(number % 7),
            .user_dense = floats(8), .context_dense = floats(3), .user_ids = {random.NextU64()}, .items = {}, .expose = expose};
  for (std::size_t i = 0; i < candidates; ++i) made.items.push_back({"item-" + std::to_string(i), floats(9), {random.NextU64()}, floats(5)});
  return made;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = {RandomCase("one candidate", 1, 1, 0), RandomCase("all are shown", 2, 7, 0), RandomCase("the best five of forty", 3, 40, 5),
                             RandomCase("more asked for than there are", 4, 3, 10), RandomCase("no candidates", 5, 0, 5)};
  Case defaults = RandomCase("features that are absent have the schema's defaults", 6, 6, 0);
  defaults.user_dense.clear(), defaults.user_ids.clear(), defaults.context_dense.clear();
  for (Item& item : defaults.items) item.dense.clear(), item.ids.clear();
  cases.push_back(defaults);
  Case equal = RandomCase("equal scores keep the order of the candidates", 7, 6, 4);
  for (Item& item : equal.items) item = equal.items[0];
  for (std::size_t i = 0; i < equal.items.size(); ++i) equal.items[i].id = "item-" + std::to_string(i);
  cases.push_back(equal);
  Case outside = RandomCase("task scores outside their range are cut to it", 8, 5, 0);
  outside.items[1].scores[0] = 3.5F, outside.items[2].scores[1] = -2.0F;
  cases.push_back(outside);
  Case not_a_number = RandomCase("a feature that is no number: the static weights, without noise", 9, 5, 0);
  not_a_number.items[3].dense[2] = std::numeric_limits<float>::quiet_NaN();
  cases.push_back(not_a_number);
  Case infinite = RandomCase("a task score that is infinite counts as its minimum, and the request falls back", 10, 5, 0);
  infinite.items[0].scores[2] = std::numeric_limits<float>::infinity();
  cases.push_back(infinite);
  for (std::uint64_t number = 11; number <= 20; ++number) cases.push_back(RandomCase("random", number, number, number % 6));
  return cases;
}

Json Described(const Case& from) {
  Json json = {{"about", from.about}, {"request_id", from.request_id}, {"user_id", from.user_id}, {"expose", from.expose},
               {"user", {{"dense", Array(from.user_dense)}, {"ids", from.user_ids}}},
               {"context", {{"dense", Array(from.context_dense)}, {"ids", Json::array()}}}, {"items", Json::array()}};
  for (const Item& item : from.items) {
    json["items"].push_back({{"id", item.id}, {"dense", Array(item.dense)}, {"ids", item.ids}, {"scores", Array(item.scores)}});
  }
  return json;
}

Json Expected(const Case& from, const DecisionMaker& decisions, const ServingPolicy& policy) {
  std::vector<std::string_view> names;
  std::vector<CandidateView> candidates;
  for (const Item& item : from.items) names.push_back(item.id), candidates.push_back({{item.dense, item.ids}, item.scores});
  DecisionMaker::Workspace workspace;
  Decision decision;
  const Status decided = decisions.Decide({.request_id = from.request_id, .user_id = from.user_id, .surface = {}, .event_time_ms = 0,
                                          .user = {from.user_dense, from.user_ids}, .context = {from.context_dense, {}},
                                          .item_ids = names, .candidates = candidates, .expose_count = from.expose},
                                         policy, workspace, decision);
  FUSELINE_CHECK(decided.ok());
  Json json = {{"order", Json::array()}, {"fused_scores", Json::array()}, {"baseline_actions", Array(decision.baseline_actions)},
               {"executed_actions", Array(decision.executed_actions)},
               {"log_density", decision.log_density ? Json(*decision.log_density) : Json()},
               {"policy_version", decision.policy_version}, {"arm", decision.arm}, {"fell_back", decision.fell_back}};
  for (const RankedItem& item : decision.order) json["order"].push_back(item.candidate), json["fused_scores"].push_back(item.fused_score);
  return json;
}

// Scope → fields in their order: ["dense", width, default] or ["id", buckets, default].
Json SchemaJson(const v1::FeatureSchema& schema) {
  Json json = {{"user", Json::array()}, {"context", Json::array()}, {"item", Json::array()}};
  for (const auto& feature : schema.features()) {
    const char* const scope = feature.scope() == v1::USER ? "user" : feature.scope() == v1::CONTEXT ? "context" : "item";
    if (feature.has_categorical()) json[scope].push_back({"id", feature.categorical().buckets(), feature.categorical().default_value()});
    else json[scope].push_back({"dense", feature.dense().width(), feature.dense().default_value()});
  }
  return json;
}

Json TasksJson(const v1::FeatureSchema& schema) {
  Json json = Json::array();
  for (const auto& task : schema.tasks()) json.push_back({task.min(), task.max()});
  return json;
}

Json RangesJson(const v1::ActionRanges& ranges) {
  const auto values = [](const auto& from) { return Array({from.begin(), from.end()}); };
  return {{"lower", values(ranges.lower())}, {"upper", values(ranges.upper())}, {"static_action", values(ranges.static_action())}};
}

int Main(const std::string& policy_path) {
  Metrics metrics;
  const auto options = RankerOptionsOf(DefaultSettings());
  FUSELINE_CHECK(options.has_value());
  const auto decisions = DecisionMaker::Create(*options, metrics);
  const auto weights = ReadFile(policy_path + ".safetensors"), manifest_bytes = ReadFile(policy_path + ".manifest.pb");
  FUSELINE_CHECK(decisions.has_value() && weights.has_value() && manifest_bytes.has_value());
  v1::PolicyManifest manifest;
  FUSELINE_CHECK(manifest.ParseFromString(*manifest_bytes));
  const auto tensors = DecodeWeights(*weights);
  FUSELINE_CHECK(tensors.has_value());
  const auto network = PolicyNetwork::Create(manifest, *tensors);
  FUSELINE_CHECK(network.has_value());
  ServingPolicy policy{.network = &*network, .box = options->box, .version = manifest.version()};
  if (manifest.has_box()) policy.box = {manifest.box().lower(), manifest.box().upper()};

  Json json = {{"about", "What a ranker of Fuseline must decide under the version in tests/golden (policy_v1) and the default settings. Integers and "
                         "texts are exact; floats within 1e-5 (absolute and relative): kernels add in different orders. A number that JSON "
                         "lacks is a string."},
               {"format", 1},
               {"seed", options->seed},
               {"manifest_sha256", ToHex(Sha256Of(*manifest_bytes))},
               {"weights_sha256", ToHex(Sha256Of(*weights))},
               {"schema", SchemaJson(manifest.schema())},
               {"tasks", TasksJson(manifest.schema())},
               {"ranges", RangesJson(manifest.ranges())},
               {"box", Array({policy.box.lower, policy.box.upper})},
               {"policy_version", policy.version},
               {"buckets", Json::array()},
               {"requests", Json::array()}};
  for (const char* salt : {"", "salt", "experiment-7"}) {
    for (const char* user : {"u1", "u2", "42", "someone@example.org", "ü"}) {
      json["buckets"].push_back({{"user", user}, {"salt", salt}, {"bucket", BucketOf(user, salt, HashVersion::kTwo)}});
    }
  }
  for (const Case& one : Cases()) {
    Json described = Described(one);
    described["expected"] = Expected(one, *decisions, policy);
    json["requests"].push_back(std::move(described));
  }
  // A request a line, so that a difference shows where it is.
  std::string text = json.dump();
  for (std::size_t at = 0; (at = text.find(R"({"about":)", at + 1)) != std::string::npos;) text.insert(at++, 1, '\n');
  std::cout << text << '\n';
  return 0;
}

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuseline_conformance_vectors PATH_OF_POLICY   (without .safetensors and .manifest.pb)\n";
    return 2;
  }
  return fuseline::Main(argv[1]);
}
