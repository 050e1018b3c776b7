#include "scorer_table.h"

#include <cstdio>
#include <functional>

#include <nlohmann/json.hpp>

#include "fuseline/comparison/interval.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;
using Table = TaskTable ScorerResult::*;
using Figure = double TaskFigures::*;

struct Measure {
  const char* name;
  Figure figure;
};
constexpr Measure kMeasures[] = {
    {"AUC", &TaskFigures::auc}, {"log loss", &TaskFigures::log_loss}, {"session log loss", &TaskFigures::session_log_loss}};

std::string Number(double value, const char* format = "%.4f") {
  char text[40];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string MeanText(const std::vector<double>& values) {
  const MeanInterval interval = IntervalOf(values);
  if (values.size() < 2) return Number(interval.mean);
  return Number(interval.mean) + " ± " + Number(interval.upper - interval.mean);
}

std::string DifferenceText(const std::vector<double>& values) {
  const MeanInterval interval = IntervalOf(values);
  const std::string mean = Number(interval.mean, "%+.4f");
  if (values.size() < 2) return mean;
  const bool clear = interval.lower > 0 || interval.upper < 0;
  return (clear ? "**" + mean + "**" : mean) + " [" + Number(interval.lower, "%+.4f") + ", " + Number(interval.upper, "%+.4f") + "]";
}

// The runs of one row of the table, by seed.
struct Group {
  std::string backbone, weights;
  std::vector<const ScorerResult*> runs;
  std::string Name() const { return weights == "none" ? backbone : backbone + ", " + weights; }
};

std::vector<Group> Grouped(const std::vector<ScorerResult>& results) {
  std::vector<Group> groups;
  for (const ScorerResult& result : results) {
    auto group = groups.begin();
    while (group != groups.end() && (group->backbone != result.backbone || group->weights != result.weights)) ++group;
    if (group == groups.end()) group = groups.insert(group, {result.backbone, result.weights, {}});
    group->runs.push_back(&result);
  }
  return groups;
}

const Group* PlainOf(const std::vector<Group>& groups, const Group& group) {
  for (const Group& other : groups) {
    if (other.backbone == group.backbone && other.weights == "none" && &other != &group) return &other;
  }
  return nullptr;
}

// Of the seeds that both have.
std::vector<double> Paired(const Group& group, const Group& other, const std::function<double(const ScorerResult&)>& value) {
  std::vector<double> differences;
  for (const ScorerResult* run : group.runs) {
    for (const ScorerResult* plain : other.runs) {
      if (run->seed == plain->seed) differences.push_back(value(*run) - value(*plain));
    }
  }
  return differences;
}

std::string TaskSection(const std::vector<Group>& groups, const std::string& task, Table table, const std::string& rates_name,
                        const TaskFigures& rates) {
  std::string text = "| scorer |";
  for (const Measure& measure : kMeasures) text += std::string(" ") + measure.name + " |";
  text += " AUC beside " + rates_name + " | AUC by its weights | log loss by its weights |\n|---|---|---|---|---|---|---|\n";
  text += "| *" + rates_name + "* |";
  for (const Measure& measure : kMeasures) text += " " + Number(rates.*(measure.figure)) + " |";
  text += " | | |\n";
  for (const Group& group : groups) {
    const auto value_of = [&](Figure figure) {
      return [figure, table, &task](const ScorerResult& run) { return (run.*table).at(task).*figure; };
    };
    text += "| " + group.Name() + " |";
    for (const Measure& measure : kMeasures) {
      std::vector<double> values;
      for (const ScorerResult* run : group.runs) values.push_back(value_of(measure.figure)(*run));
      text += " " + MeanText(values) + " |";
    }
    std::vector<double> beside;
    for (const ScorerResult* run : group.runs) beside.push_back(value_of(&TaskFigures::auc)(*run) - rates.auc);
    text += " " + DifferenceText(beside) + " |";
    const Group* const plain = PlainOf(groups, group);
    for (const Figure figure : {&TaskFigures::auc, &TaskFigures::log_loss}) {
      const auto paired = plain == nullptr ? std::vector<double>() : Paired(group, *plain, value_of(figure));
      text += (paired.empty() ? "" : " " + DifferenceText(paired)) + " |";
    }
    text += "\n";
  }
  return text;
}

Json JsonOf(const TaskTable& table) {
  Json json = Json::object();
  for (const auto& [task, figures] : table) {
    for (const Measure& measure : kMeasures) json[task][measure.name] = figures.*(measure.figure);
    json[task]["positives"] = figures.positives;
  }
  return json;
}

}  // namespace

std::string ScorerMarkdown(const std::vector<ScorerResult>& results, const RatesFigures& rates) {
  const auto groups = Grouped(results);
  std::string text;
  for (const auto& [task, figures] : rates.frozen) {
    text += "**" + task + "**, frozen at the end of the training days\n\n" + TaskSection(groups, task, &ScorerResult::frozen, rates.name, figures);
    text += "\n**" + task + "**, progressive\n\n" +
            TaskSection(groups, task, &ScorerResult::progressive, rates.name, rates.progressive.at(task)) + "\n";
  }
  return text;
}

std::string ScorerJson(const std::vector<ScorerResult>& results, const RatesFigures& rates) {
  Json json;
  json[rates.name == "smoothed rates" ? "smoothed_rates" : "constant_rates"] = {{"frozen", JsonOf(rates.frozen)}, {"progressive", JsonOf(rates.progressive)}};
  json["runs"] = Json::array();
  for (const ScorerResult& result : results) json["runs"].push_back(Json::parse(ResultJson(result)));
  return json.dump(2) + '\n';
}

}  // namespace fuseline
