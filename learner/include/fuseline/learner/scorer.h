#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/fusion/scorer_layout.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/scorer.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// The multi-task scorer: impressions with their outcomes → a model of the task scores that a policy fuses. It
// stands upstream of everything else here; docs/scorer.md tells its parts and settings.

// Impressions as a scorer reads them, in order of time. Row-major.
struct ScorerRows {
  std::size_t id_fields = 0, dense_width = 0, tasks = 0;
  std::vector<std::uint32_t> ids;     // [n, id_fields]: rows of the embedding table.
  std::vector<float> dense;           // [n, dense_width], as logged.
  std::vector<float> labels;          // [n, tasks]: what came of it, as a share of the task's range; of most 0 or 1.
  std::vector<std::uint32_t> session; // [n]; other sessions' rows may stand between those of one.
  std::vector<std::int64_t> time_ms;  // [n], of the impression,
  std::vector<std::int64_t> known_ms; // [n], and when its outcome was known.
  // [n]: 1 where the session went on behind the row, or nobody knows that it ended there: where no later row of it is there either, a
  // training's critics leave the row out. Empty: every session ends with its last row.
  std::vector<std::uint8_t> goes_on;

  std::size_t size() const { return session.size(); }
};

// Features → rows, by the feature schema: a categorical feature is an id field, dense ones follow one another;
// users' and items' own ids are two id fields more. An id is hashed into its field's rows of one embedding table:
// field f with B buckets has B + 1 of them, the first for ids that are too rare to have a row of their own.
// Immutable; thread-safe.
class ScorerFields {
 public:
  // Errors: kInvalidInput for a task in scorer.tasks that the schema does not have, or that is there twice.
  static Result<ScorerFields> Create(const v1::Config& config);

  const v1::ScorerShape& shape() const { return shape_; }
  const std::vector<std::string>& tasks() const { return tasks_; }
  ScorerRows NoRows() const;

  // A task's value, cut to the schema's range → its share of that range, which is what is learned and predicted; and back.
  float ShareOf(std::size_t task, float value) const;
  float ValueOf(std::size_t task, float share) const;

  // Appends ids and dense values of one impression; labels, session and times are the caller's. A scope without
  // any value takes the schema's defaults. Errors: kInvalidInput as FeatureEncoder; `rows` is unchanged then.
  Status Append(const FeatureView& user, const FeatureView& context, const FeatureView& item, std::string_view user_id,
                std::string_view item_id, ScorerRows* rows) const;

 private:
  ScorerFields() = default;

  v1::ScorerShape shape_;
  std::vector<std::string> tasks_;
  std::vector<std::pair<float, float>> ranges_;  // Of each task.
  ScorerLayout layout_;
};

class Outcomes;

// Requests and what became of their items → rows, as a learner reads them from its stream: labels by the tasks' names or
// scorer.outcomes (docs/scorer.md). Immutable; thread-safe.
class ScorerImpressions {
 public:
  // Errors: as ScorerFields; kInvalidInput where nobody says what a task predicts, listing what it may be.
  static Result<ScorerImpressions> Create(const v1::Config& config);

  const ScorerFields& fields() const { return fields_; }
  const std::string& outcomes() const;  // "TASK=OUTCOME,…", every task's.

  // Whether what became of that step's items is known: not of the last one where a finite log ended.
  static bool IsKnown(const v1::Trajectory& trajectory, int step);

  using LeftOut = std::map<std::string, std::uint64_t>;  // Impressions by reason, as in ScorerProgress.
  // Appends ids, numbers and labels of a request's items, in their order; session and times are the caller's. Without `rewards` only
  // those of the first, with labels 0. What cannot be read is counted instead. Returns how many rows were appended.
  std::size_t Append(const v1::Exposure& exposure, const google::protobuf::RepeatedPtrField<v1::RewardComponents>* rewards,
                     const std::string& user_id, ScorerRows* rows, LeftOut* left_out) const;

 private:
  ScorerImpressions(ScorerFields fields, std::shared_ptr<const Outcomes> outcomes, const v1::Config& config);
  bool IsSane(const v1::Exposure& exposure) const;

  ScorerFields fields_;
  std::shared_ptr<const Outcomes> outcomes_;
  std::string schema_digest_;
  float max_feature_;
};

// How well scores say what happened.
struct TaskFigures {
  double auc = -1;              // Of all pairs whose outcomes differ, the share in the right order, ties one half: of 0 and 1 the area
                                // under the ROC curve. -1 where there is no such pair.
  double log_loss = 0;          // Cross-entropy, mean over impressions, in nats. Infinite, and the area -1, where a score is not finite.
  double session_log_loss = 0;  // Mean over sessions of the session's mean.
  std::uint64_t positives = 0;  // Impressions with an outcome above 0.
};
// Of rows [begin, end) and their scores [end - begin, tasks]. REQUIRES: begin < end.
std::vector<TaskFigures> JudgeScores(const ScorerRows& rows, std::size_t begin, std::size_t end, std::span<const float> scores);

// The backbones in this program, sorted: what scorer.backbone may name. A build without LibTorch has none.
std::vector<std::string> ScorerBackbones();
// Errors: kInvalidInput for a name that is none of these, listing them.
Status CheckScorerBackbone(const std::string& name);

// Whether a learner can learn, and a scorer with it, under these settings: the names of both, and where scorer.learn is true its
// tasks, what they predict (scorer.outcomes), its backbone, and whether its gate can let anything pass. Errors: kInvalidInput, naming
// the key and what it may be.
Status CheckScorerStream(const v1::Config& config);

// Rows [0, train_end) are learned from, [train_end, validation_end) say when to stop.
struct ScorerSplit {
  std::size_t train_end = 0, validation_end = 0;
};

enum class ScorerPhase : std::uint8_t { kPretraining, kCritics, kWeighted, kDone };
std::string_view PhaseName(ScorerPhase phase);

struct ScorerPosition {
  ScorerPhase phase = ScorerPhase::kPretraining;
  std::uint64_t epoch = 0, batch = 0, batches = 0;  // `batches` of an epoch.
  std::uint64_t batch_rows = 0;                     // Impressions of one.
  std::uint64_t impressions = 0;                    // Learned from since the beginning, by this object.
};

// One training, batch by batch: pretraining with early stopping; and if scorer.weights asks for RMTL (arXiv
// 2302.03328), critics with the backbone frozen, then the training whose losses they weigh.
//
// Where: `fuseline train-scorer` drives it, and keeps its checkpoints. Thread-compatible. A function of rows,
// split, settings and seed alone: weights are bit-identical on one build, BLAS and thread count, however often it
// was broken off and gone on with. Errors of all that train or score: kInternal for LibTorch's.
class ScorerTraining {
 public:
  // `rows` is borrowed for its life. Errors: kInvalidInput for an unknown backbone, or a split with an empty side.
  static Result<std::unique_ptr<ScorerTraining>> Create(const v1::Config& config, const ScorerFields& fields, const ScorerRows& rows,
                                                        ScorerSplit split);
  virtual ~ScorerTraining() = default;

  virtual Status Advance() = 0;  // One batch. REQUIRES: not done.
  virtual ScorerPosition position() const = 0;
  bool done() const { return position().phase == ScorerPhase::kDone; }
  virtual double validation_loss() const = 0;  // The least so far of the phase's weights, mean over tasks; infinite before the first look.

  // Everything that a restart needs. Errors of Restore: kConflict when it is of other settings or rows; kCorrupt.
  virtual v1::ScorerCheckpoint Save() const = 0;
  virtual Status Restore(const v1::ScorerCheckpoint& checkpoint) = 0;

  // Predicted shares [end - begin, tasks], by the weights at hand: once done, the best. Of rows learned from and looked at by what was
  // known when they were shown; of those behind by what is known now.
  virtual Result<std::vector<float>> Score(std::size_t begin, std::size_t end) const = 0;

  // Goes on learning, one step by these rows, whose inputs and outcomes are counted then: progressive validation
  // scores, then learns. Losses are not weighed, whatever scorer.weights says.
  virtual Status Learn(std::span<const std::size_t> rows) = 0;

  // The version that came of it, without number, policy, build, input in words, metrics and wall time. REQUIRES: done.
  virtual PolicyVersion MakeVersion() const = 0;
};

// Writes into a manifest what settings and fields say of a scorer: form, schema, algorithm (its backbone), preset.
void DescribeScorer(const v1::Config& config, const ScorerFields& fields, v1::PolicyManifest& manifest);

// A version that scores. Thread-compatible.
class Scorer {
 public:
  // Errors: kCorrupt when manifest and weights contradict each other; kInvalidInput for a policy's version, or a backbone that this
  // program does not have.
  static Result<std::unique_ptr<Scorer>> Load(const PolicyVersion& version);
  virtual ~Scorer() = default;
  virtual Result<std::vector<float>> Score(const ScorerRows& rows, std::size_t begin, std::size_t end) const = 0;
};

}  // namespace fuseline
