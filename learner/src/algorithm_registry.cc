#include <map>
#include <utility>

#include "algorithm.h"
#include "fuseline/core/check.h"
#include "fuseline/learner/algorithms.h"

namespace fuseline {
namespace {

struct Entry {
  AlgorithmTraits traits;
  AlgorithmFactory factory;
};

// The one global of the room: files that nobody names enter themselves here before main, and nothing changes it afterwards.
std::map<std::string, Entry>& Registry() {
  static std::map<std::string, Entry> registry;
  return registry;
}

Result<Entry> Find(const std::string& name) {
  const auto found = Registry().find(name);
  if (found != Registry().end()) return found->second;
  std::string names;
  for (const std::string& known : AlgorithmNames()) names += (names.empty() ? "" : ", ") + known;
  return Error(Code::kInvalidInput, "learner.algorithm is none of " + names + ':', name);
}

}  // namespace

AlgorithmRegistrar::AlgorithmRegistrar(const std::string& name, AlgorithmTraits traits, AlgorithmFactory factory) {
  FUSELINE_CHECK(Registry().emplace(name, Entry{traits, factory}).second);
}

std::vector<std::string> AlgorithmNames() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : Registry()) names.push_back(name);
  return names;
}

Status CheckAlgorithm(const v1::Config& config) {
  const auto entry = Find(config.learner().algorithm());
  return entry ? OkStatus() : entry.error();
}

Result<AlgorithmTraits> AlgorithmTraitsOf(const std::string& name) {
  FUSELINE_ASSIGN_OR_FAIL(const Entry entry, Find(name));
  return entry.traits;
}

Result<std::unique_ptr<Algorithm>> CreateAlgorithm(const v1::Config& config, const Problem& problem) {
  FUSELINE_ASSIGN_OR_FAIL(const Entry entry, Find(config.learner().algorithm()));
  return entry.factory(config, problem);
}

}  // namespace fuseline
