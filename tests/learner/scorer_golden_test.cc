// What tests/golden and rankers in other languages are held to: a scorer of the default schema, a request, and the learner's scores of it.
// FUSELINE_UPDATE_GOLDEN writes it anew, and the corpus of the fuzz target.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "fuseline/core/file.h"
#include "fuseline/test_support/matchers.h"
#include "random_scorer.h"

namespace fuseline {
namespace {

using test::FillInputs;
using test::kBackbones;
using test::LearnersScores;
using test::Made;
using test::RandomScorer;
using test::Request;
using test::TableRows;

// Tables in which few rows hold anything: of the ids of `request`, three in four.
void FillRowsOf(const Request& request, const ScorerFields& fields, std::uint32_t width, Random& random, TensorMap& tensors) {
  ScorerRows rows = fields.NoRows();
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    ASSERT_THAT(fields.Append(request.user.View(), request.context.View(), request.items[i].View(), request.user_id, request.names[i], &rows),
                IsOk());
  }
  const std::size_t tasks = fields.tasks().size();
  std::vector<float> embeddings(TableRows(fields) * width), frequency(TableRows(fields)), seen(TableRows(fields)), outcomes(seen.size() * tasks);
  for (const std::uint32_t row : rows.ids) {
    if (row % 4 == 0) continue;
    for (std::size_t i = 0; i < width; ++i) embeddings[row * width + i] = static_cast<float>(random.NextNormal());
    frequency[row] = static_cast<float>(random.NextBelow(5));
    seen[row] = static_cast<float>(1 + random.NextBelow(40));
    for (std::size_t k = 0; k < tasks; ++k) outcomes[row * tasks + k] = static_cast<float>(random.NextUniform()) * seen[row];
  }
  PackRows("embedding", embeddings, width, &tensors);
  PackRows("frequency", frequency, 1, &tensors);
  if (fields.shape().rate_prior() <= 0) return;
  PackRows("seen", seen, 1, &tensors);
  PackRows("outcomes", outcomes, tasks, &tensors);
}

// One of each backbone for the fuzz target, small.
void WriteFuzzCorpus(const std::filesystem::path& folder) {
  for (const std::string& backbone : kBackbones) {
    Made made = RandomScorer(backbone, 5);
    Random random(1, "corpus." + backbone, 0);
    const Request request(made.config.schema(), 3, random);
    FillRowsOf(request, *made.fields, made.tensors["embedding"].shape[1], random, made.tensors);
    v1::ExportedVersion exported;
    exported.set_manifest(CanonicalBytes(made.version.manifest));
    exported.set_weights(EncodeWeights(made.tensors));
    ASSERT_THAT(WriteFileAtomically(folder / (backbone + ".pb"), CanonicalBytes(exported)), IsOk());
  }
}

TEST(ScorerGoldenTest, TheGoldenScorerSaysWhatTheLearnerSays) {
  // given
  const std::filesystem::path folder = std::filesystem::path(std::getenv("FUSELINE_SOURCE_DIR")) / "tests/golden";
  Made made;
  SettingsSources sources;
  sources.flags = {"scorer.backbone=mmoe", "scorer.embedding_width=3", "scorer.bottom=8,6", "scorer.tower=5", "scorer.experts=3",
                   "scorer.user_buckets=12", "scorer.item_buckets=15", "scorer.min_frequency=2", "scorer.dropout=0"};
  made.config = LoadSettings(sources).value();
  *made.config.mutable_schema() = DefaultSchema();
  std::string tasks;
  for (const v1::Task& task : made.config.schema().tasks()) tasks += (tasks.empty() ? "" : ",") + task.name();
  made.config.mutable_scorer()->set_tasks(tasks);
  ASSERT_OK_AND_ASSIGN(made.fields, ScorerFields::Create(made.config));
  Random random(3, "golden request", 0);
  Request request(made.config.schema(), 6, random);
  while (request.user.dense.empty()) request = Request(made.config.schema(), 6, random);
  if (std::getenv("FUSELINE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_OK_AND_ASSIGN(const auto model, CreateScorerModel(made.config, made.fields->shape(), made.fields->tasks().size()));
    made.tensors = model->Weights();
    Random weights(7, "golden", 0);
    FillInputs(*made.fields, weights, made.tensors);
    FillRowsOf(request, *made.fields, made.tensors["embedding"].shape[1], weights, made.tensors);
    DescribeScorer(made.config, *made.fields, made.version.manifest);
    made.version.manifest.set_version(1);
    made.version.manifest.set_policy("default.scorer");
    made.version.manifest.mutable_lineage()->set_settings(CanonicalBytes(made.config));
    made.Seal();
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.manifest.pb", CanonicalBytes(made.version.manifest)), IsOk());
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.safetensors", made.version.weights), IsOk());
    WriteFuzzCorpus(folder / "../fuzz/scorer_corpus");
  }
  ASSERT_OK_AND_ASSIGN(made.version.weights, ReadFile(folder / "scorer_v1.safetensors"));
  ASSERT_OK_AND_ASSIGN(const std::string manifest, ReadFile(folder / "scorer_v1.manifest.pb"));
  ASSERT_TRUE(made.version.manifest.ParseFromString(manifest));

  // when
  const std::vector<float> learners = LearnersScores(made, request);
  v1::Exposure exposure;
  exposure.set_scorer_version(1);
  const auto put = [](const Request::Values& values, v1::Features* to) {
    to->mutable_dense()->Add(values.dense.begin(), values.dense.end());
    to->mutable_ids()->Add(values.ids.begin(), values.ids.end());
  };
  put(request.user, exposure.mutable_user_features());
  put(request.context, exposure.mutable_context_features());
  exposure.set_request_id(request.user_id);  // The file has no other place for it.
  const std::size_t each = learners.size() / request.items.size();
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    v1::ExposedItem& item = *exposure.add_items();
    item.set_item_id(request.names[i]);
    put(request.items[i], item.mutable_item_features());
    for (std::size_t k = 0; k < each; ++k) item.add_task_scores(learners[i * each + k]);
  }
  std::string json;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(exposure, &json).ok());
  if (std::getenv("FUSELINE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_THAT(WriteFileAtomically(folder / "scorer_v1.exposure.json", json + "\n"), IsOk());
  }

  // then
  ASSERT_OK_AND_ASSIGN(const std::string stored, ReadFile(folder / "scorer_v1.exposure.json"));
  v1::Exposure golden;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(stored, &golden).ok());
  ASSERT_EQ(golden.items_size(), exposure.items_size());
  for (int i = 0; i < golden.items_size(); ++i) {
    for (int k = 0; k < golden.items(i).task_scores_size(); ++k) {
      const v1::Task& task = made.config.schema().tasks(k);
      EXPECT_NEAR(golden.items(i).task_scores(k), exposure.items(i).task_scores(k), 1e-5 * (task.max() - task.min()));
    }
  }
}

}  // namespace
}  // namespace fuseline
