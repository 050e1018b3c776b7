#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <queue>
#include <unordered_map>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "scorer/input_statistics.h"
#include "scorer/rmtl.h"
#include "scorer/scorer_model.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kScoreBatch = 1'024;
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// What shapes a scorer's weights, and nothing else: what a training does not look at is named here. A new setting shapes until it is.
v1::Config ShapingScorer(const v1::Config& config) {
  v1::Config shaping;
  v1::Scorer& scorer = *shaping.mutable_scorer();
  scorer = config.scorer();
  scorer.clear_checkpoint_every_steps();
  scorer.clear_progressive_batch();
  scorer.clear_learn();
  scorer.clear_pretraining_impressions();
  scorer.clear_critic_impressions();
  scorer.clear_version_every_steps();
  scorer.clear_gate_impressions();
  scorer.clear_gate_min_impressions();
  scorer.clear_gate_tolerance();
  shaping.mutable_learner()->set_threads(config.learner().threads());
  shaping.mutable_fuseline()->set_seed(config.fuseline().seed());
  *shaping.mutable_schema() = SchemaOf(config);
  return shaping;
}

template <typename Value>
std::string_view BytesOf(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

std::string InputDigest(const ScorerRows& rows, ScorerSplit split) {
  Sha256 digest;
  for (const std::size_t number : {rows.id_fields, rows.dense_width, rows.tasks, split.train_end, split.validation_end})
    digest.Update(std::to_string(number) + ' ');
  for (const std::string_view bytes : {BytesOf(rows.ids), BytesOf(rows.dense), BytesOf(rows.labels), BytesOf(rows.session)})
    digest.Update(bytes.substr(0, bytes.size() / rows.size() * split.validation_end));
  if (!rows.goes_on.empty()) digest.Update(BytesOf(rows.goes_on).substr(0, split.validation_end));
  return digest.Finish();
}

// Of each row in [0, end), the next of its session before `end`; kNone: it is the last.
std::vector<std::size_t> NextInSession(const ScorerRows& rows, std::size_t end) {
  std::vector<std::size_t> next(end, kNone);
  std::unordered_map<std::uint32_t, std::size_t> last;
  for (std::size_t row = 0; row < end; ++row) {
    const auto [found, is_new] = last.try_emplace(rows.session[row], row);
    if (!is_new) next[found->second] = row;
    found->second = row;
  }
  return next;
}

// Of rows [0, end) those that critics learn from: what follows in their session is known, be it a row or its end.
std::vector<std::size_t> RowsOfCritics(const ScorerRows& rows, const std::vector<std::size_t>& next, std::size_t end) {
  std::vector<std::size_t> which;
  for (std::size_t row = 0; row < end; ++row)
    if (next[row] != kNone || rows.goes_on.empty() || rows.goes_on[row] == 0) which.push_back(row);
  return which;
}

Result<std::vector<float>> ScoreRows(const ScorerModel& model, const InputStatistics& inputs, const ScorerRows& rows, std::size_t begin,
                                     std::size_t end, std::span<const float> numbers) {
  std::vector<float> scores;
  std::vector<std::size_t> which;
  for (; begin < end; begin += which.size()) {
    which.resize(std::min(kScoreBatch, end - begin));
    std::iota(which.begin(), which.end(), begin);
    FUSELINE_ASSIGN_OR_FAIL(const auto of_batch, model.Predict(inputs.Gather(rows, which, numbers)));
    scores.insert(scores.end(), of_batch.begin(), of_batch.end());
  }
  return scores;
}

class Training final : public ScorerTraining {
 public:
  Training(const v1::Config& config, const ScorerFields& fields, const ScorerRows& rows, ScorerSplit split,
           std::unique_ptr<ScorerModel> model)
      : config_(ShapingScorer(config)),
        settings_(config.scorer()),
        seed_(config.fuseline().seed()),
        batch_rows_(static_cast<std::size_t>(SizesOf(settings_).batch)),
        fields_(fields),
        rows_(rows),
        split_(split),
        input_sha256_(InputDigest(rows, split)),
        inputs_(fields.shape(), rows.tasks),
        model_(std::move(model)),
        next_(NextInSession(rows, split.validation_end)),
        rows_of_critics_(RowsOfCritics(rows, next_, split.train_end)) {
    LookBack();
  }

  Status Advance() override {
    FUSELINE_CHECK(!done());
    DrawOrder();
    const std::size_t begin = batch_ * batch_rows_;
    const auto which = std::span(order_).subspan(begin, std::min(batch_rows_, order_.size() - begin));
    if (phase_ == ScorerPhase::kCritics) return AdvanceCritics(which);
    return AdvanceModel(which);
  }

  ScorerPosition position() const override { return {phase_, epoch_, batch_, Batches(phase_), batch_rows_, impressions_}; }
  double validation_loss() const override { return best_loss_; }
  v1::ScorerCheckpoint Save() const override;
  Status Restore(const v1::ScorerCheckpoint& checkpoint) override;

  Result<std::vector<float>> Score(std::size_t begin, std::size_t end) const override {
    return ScoreRows(*model_, inputs_, rows_, begin, end, numbers_);
  }

  Status Learn(std::span<const std::size_t> rows) override {
    std::vector<float> numbers;
    for (const std::size_t row : rows) inputs_.Numbers(rows_, row, &numbers);
    for (std::size_t i = 0; i < rows.size(); ++i)
      inputs_.CountInput(rows_, rows[i], std::span(numbers).subspan(i * inputs_.numbers(), inputs_.numbers()));
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const ScorerStep step, model_->Step(inputs_.Gather(rows_, rows), step_++));
    for (const std::size_t row : rows) inputs_.CountOutcome(rows_, row);
    return OkStatus();
  }

  PolicyVersion MakeVersion() const override;

 private:
  // Takes the rows as time brought them: each one's numbers are of outcomes that were known before it.
  void LookBack() {
    using Due = std::pair<std::int64_t, std::size_t>;
    std::priority_queue<Due, std::vector<Due>, std::greater<>> unknown;
    for (std::size_t row = 0; row < split_.validation_end; ++row) {
      for (; !unknown.empty() && unknown.top().first < rows_.time_ms[row]; unknown.pop()) inputs_.CountOutcome(rows_, unknown.top().second);
      inputs_.Numbers(rows_, row, &numbers_);
      if (row < split_.train_end) inputs_.CountInput(rows_, row, std::span(numbers_).last(inputs_.numbers()));
      unknown.emplace(rows_.known_ms[row], row);
    }
    for (; !unknown.empty(); unknown.pop()) inputs_.CountOutcome(rows_, unknown.top().second);
  }

  std::uint64_t Batches(ScorerPhase phase) const {
    const std::size_t rows = phase == ScorerPhase::kCritics ? rows_of_critics_.size() : split_.train_end;
    return (rows + batch_rows_ - 1) / batch_rows_;
  }

  // The epoch's order of rows, a function of seed, phase and epoch. Both trainings of the model have the same.
  void DrawOrder() {
    const bool critics = phase_ == ScorerPhase::kCritics;
    if (!order_.empty() && drawn_ == std::pair(critics, epoch_)) return;
    drawn_ = {critics, epoch_};
    if (critics) {
      order_ = rows_of_critics_;
    } else {
      order_.resize(split_.train_end);
      std::iota(order_.begin(), order_.end(), std::size_t{0});
    }
    Random random(seed_, critics ? "scorer.critic_order" : "scorer.order", epoch_);
    for (std::size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.NextBelow(i)]);
  }

  Status AdvanceModel(std::span<const std::size_t> which);
  Status AdvanceCritics(std::span<const std::size_t> which);
  void CountBatch(std::size_t rows, double figure) {
    epoch_sum_ += figure;
    impressions_ += rows;
    ++batch_;
    ++step_;
  }
  Status Validate();
  Status EndModelPhase();
  Status EnterCritics();
  Status EnterWeighted();
  void Enter(ScorerPhase phase) {
    phase_ = phase;
    epoch_ = batch_ = step_ = 0;
    epoch_sum_ = 0;
    last_epoch_mean_ = 0;
  }

  const v1::Config config_;
  const v1::Scorer settings_;
  const std::uint64_t seed_;
  const std::size_t batch_rows_;
  const ScorerFields fields_;
  const ScorerRows& rows_;
  const ScorerSplit split_;
  const std::string input_sha256_;
  InputStatistics inputs_;
  std::vector<float> numbers_;  // [validation_end, D], as they were when each row was shown.
  std::unique_ptr<ScorerModel> model_;
  std::unique_ptr<ScorerCritics> critics_;  // Null before their phase.
  const std::vector<std::size_t> next_, rows_of_critics_;
  std::vector<float> frozen_;  // Predictions that critics learn by, of rows [0, validation_end).

  ScorerPhase phase_ = ScorerPhase::kPretraining;
  std::uint64_t epoch_ = 0, batch_ = 0, step_ = 0, impressions_ = 0;
  std::vector<std::size_t> order_;
  std::pair<bool, std::uint64_t> drawn_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  std::uint64_t best_step_ = 0, since_best_ = 0;
  TensorMap best_;
  double epoch_sum_ = 0, last_epoch_mean_ = 0;
  std::vector<v1::ScorerPoint> curve_;
};

Status Training::AdvanceModel(std::span<const std::size_t> which) {
  ScorerBatch batch = inputs_.Gather(rows_, which, numbers_);
  if (phase_ == ScorerPhase::kWeighted) FUSELINE_RETURN_IF_ERROR(WeighLosses(settings_, *model_, *critics_, batch));
  FUSELINE_ASSIGN_OR_RETURN(const ScorerStep step, model_->Step(batch, step_));
  CountBatch(which.size(), std::accumulate(step.loss.begin(), step.loss.end(), 0.0) / static_cast<double>(step.loss.size()));
  const auto looks = static_cast<std::uint64_t>(settings_.validations_per_epoch());
  const std::uint64_t batches = Batches(phase_);
  const bool look = batch_ * looks / batches != (batch_ - 1) * looks / batches;
  if (look) FUSELINE_RETURN_IF_ERROR(Validate());
  if (batch_ == batches) {
    ++epoch_;
    batch_ = 0;
    epoch_sum_ = 0;
  }
  const bool patient = since_best_ < static_cast<std::uint64_t>(settings_.patience());
  return patient && epoch_ < static_cast<std::uint64_t>(settings_.epochs()) ? OkStatus() : EndModelPhase();
}

Status Training::Validate() {
  FUSELINE_ASSIGN_OR_RETURN(const auto scores, Score(split_.train_end, split_.validation_end));
  double loss = 0;
  for (const TaskFigures& task : JudgeScores(rows_, split_.train_end, split_.validation_end, scores)) loss += task.log_loss;
  loss /= static_cast<double>(rows_.tasks);
  v1::ScorerPoint point;
  point.set_phase(static_cast<std::uint32_t>(phase_));
  point.set_step(step_);
  point.set_train_loss(epoch_sum_ / static_cast<double>(batch_));
  point.set_validation_loss(loss);
  curve_.push_back(point);
  ++since_best_;
  if (!(loss < best_loss_)) return OkStatus();
  best_loss_ = loss;
  best_step_ = step_;
  since_best_ = 0;
  best_ = model_->Weights();
  return OkStatus();
}

Status Training::EndModelPhase() {
  if (best_.empty()) return ErrorStatus(Code::kInternal, "no look at the validation impressions gave a finite log loss");
  FUSELINE_RETURN_IF_ERROR(model_->Load(best_));
  if (phase_ == ScorerPhase::kWeighted || settings_.weights() == "none") {
    Enter(ScorerPhase::kDone);
    return OkStatus();
  }
  Enter(ScorerPhase::kCritics);
  return EnterCritics();
}

Status Training::EnterCritics() {
  if (rows_of_critics_.empty()) {
    return ErrorStatus(Code::kInvalidInput, "critics have nothing to learn from: of no training impression it is known what followed in its session");
  }
  FUSELINE_ASSIGN_OR_RETURN(critics_, CreateScorerCritics(config_, fields_.shape(), rows_.tasks));
  FUSELINE_ASSIGN_OR_RETURN(frozen_, Score(0, split_.validation_end));
  return OkStatus();
}

Status Training::AdvanceCritics(std::span<const std::size_t> which) {
  CriticBatch batch;
  std::vector<std::size_t> following;
  const std::size_t tasks = rows_.tasks;
  for (const std::size_t row : which) {
    const bool last = next_[row] == kNone;
    following.push_back(last ? row : next_[row]);
    batch.terminated.push_back(last ? 1.0F : 0.0F);
    for (std::size_t k = 0; k < tasks; ++k) {
      const float p = frozen_[row * tasks + k];
      batch.action.push_back(p);
      batch.next_action.push_back(frozen_[following.back() * tasks + k]);
      batch.reward.push_back(RmtlReward(p, rows_.labels[row * tasks + k]));
    }
  }
  batch.at = inputs_.Gather(rows_, which, numbers_);
  batch.next = inputs_.Gather(rows_, following, numbers_);
  FUSELINE_ASSIGN_OR_RETURN(const double td_error, critics_->Step(batch));
  CountBatch(which.size(), td_error);
  if (batch_ < Batches(phase_)) return OkStatus();
  const double mean = epoch_sum_ / static_cast<double>(batch_), before = last_epoch_mean_;
  v1::ScorerPoint point;
  point.set_phase(static_cast<std::uint32_t>(phase_));
  point.set_step(step_);
  point.set_train_loss(mean);
  curve_.push_back(point);
  last_epoch_mean_ = mean;
  epoch_sum_ = 0;
  batch_ = 0;
  ++epoch_;
  const bool settled = epoch_ > 1 && !(before - mean > settings_.critic_settled() * before);
  return settled || epoch_ >= static_cast<std::uint64_t>(settings_.critic_epochs()) ? EnterWeighted() : OkStatus();
}

Status Training::EnterWeighted() {
  Enter(ScorerPhase::kWeighted);
  if (settings_.retrain_from() == "fresh") {
    FUSELINE_ASSIGN_OR_RETURN(model_, CreateScorerModel(config_, fields_.shape(), rows_.tasks));
  }
  best_loss_ = std::numeric_limits<double>::infinity();
  best_step_ = since_best_ = 0;
  best_.clear();
  return OkStatus();
}

v1::ScorerCheckpoint Training::Save() const {
  v1::ScorerCheckpoint checkpoint;
  checkpoint.set_format(kFormat);
  checkpoint.set_settings_sha256(Sha256Of(CanonicalBytes(config_)));
  checkpoint.set_input_sha256(input_sha256_);
  checkpoint.set_phase(static_cast<std::uint32_t>(phase_));
  checkpoint.set_epoch(epoch_);
  checkpoint.set_batch(batch_);
  checkpoint.set_step(step_);
  checkpoint.set_best_loss(best_loss_);
  checkpoint.set_best_step(best_step_);
  checkpoint.set_validations_since_best(since_best_);
  checkpoint.set_epoch_sum(epoch_sum_);
  checkpoint.set_last_epoch_mean(last_epoch_mean_);
  checkpoint.set_model(EncodeWeights(model_->Save()));
  if (!best_.empty()) checkpoint.set_best(EncodeWeights(best_));
  if (critics_) checkpoint.set_critics(EncodeWeights(critics_->Save()));
  for (const v1::ScorerPoint& point : curve_) *checkpoint.add_curve() = point;
  return checkpoint;
}

Status Training::Restore(const v1::ScorerCheckpoint& checkpoint) {
  if (checkpoint.format() != kFormat) return ErrorStatus(Code::kCorrupt, "checkpoint of another format:", checkpoint.format());
  if (checkpoint.settings_sha256() != Sha256Of(CanonicalBytes(config_)))
    return ErrorStatus(Code::kConflict, "the checkpoint was made with other settings");
  if (checkpoint.input_sha256() != input_sha256_) return ErrorStatus(Code::kConflict, "the checkpoint was made of other impressions");
  const auto phase = static_cast<ScorerPhase>(checkpoint.phase());
  if (phase > ScorerPhase::kDone || checkpoint.batch() >= std::max<std::uint64_t>(1, Batches(phase))) return ErrorStatus(Code::kCorrupt, "the checkpoint's position is impossible");
  FUSELINE_ASSIGN_OR_RETURN(const TensorMap model, DecodeWeights(checkpoint.model()));
  FUSELINE_RETURN_IF_ERROR(model_->Restore(model));
  best_.clear();
  if (!checkpoint.best().empty()) {
    FUSELINE_ASSIGN_OR_RETURN(best_, DecodeWeights(checkpoint.best()));
  }
  if (!checkpoint.critics().empty()) {
    FUSELINE_ASSIGN_OR_RETURN(const TensorMap critics, DecodeWeights(checkpoint.critics()));
    // In their phase the model is the frozen one, so what they learn by is found again.
    FUSELINE_RETURN_IF_ERROR(EnterCritics());
    FUSELINE_RETURN_IF_ERROR(critics_->Restore(critics));
  }
  phase_ = phase;
  epoch_ = checkpoint.epoch();
  batch_ = checkpoint.batch();
  step_ = checkpoint.step();
  best_loss_ = checkpoint.best_loss();
  best_step_ = checkpoint.best_step();
  since_best_ = checkpoint.validations_since_best();
  epoch_sum_ = checkpoint.epoch_sum();
  last_epoch_mean_ = checkpoint.last_epoch_mean();
  curve_.assign(checkpoint.curve().begin(), checkpoint.curve().end());
  return OkStatus();
}

PolicyVersion Training::MakeVersion() const {
  FUSELINE_CHECK(done());
  TensorMap tensors = model_->Weights();
  inputs_.Export(&tensors);
  PolicyVersion version;
  version.weights = EncodeWeights(tensors);
  v1::PolicyManifest& manifest = version.manifest;
  DescribeScorer(config_, fields_, manifest);
  manifest.set_weights_sha256(Sha256Of(version.weights));
  v1::ScorerLineage& learned = *manifest.mutable_scorer()->mutable_lineage();
  learned.set_input_sha256(input_sha256_);
  learned.set_impressions(split_.train_end);
  learned.set_validation_impressions(split_.validation_end - split_.train_end);
  const auto known_end = rows_.known_ms.begin() + static_cast<std::ptrdiff_t>(split_.validation_end);
  learned.set_known_until_ms(*std::max_element(rows_.known_ms.begin(), known_end));
  learned.set_steps(best_step_);
  v1::Lineage& lineage = *manifest.mutable_lineage();
  lineage.set_update_steps(best_step_);
  lineage.set_settings(CanonicalBytes(config_));
  lineage.set_settings_sha256(Sha256Of(lineage.settings()));
  lineage.set_seed(seed_);
  lineage.set_blas(model_->facts().blas);
  lineage.set_threads(static_cast<std::uint32_t>(model_->facts().threads));
  lineage.set_device(model_->facts().device);
  return version;
}

class LoadedScorer final : public Scorer {
 public:
  LoadedScorer(InputStatistics inputs, std::unique_ptr<ScorerModel> model) : inputs_(std::move(inputs)), model_(std::move(model)) {}
  Result<std::vector<float>> Score(const ScorerRows& rows, std::size_t begin, std::size_t end) const override {
    return ScoreRows(*model_, inputs_, rows, begin, end, {});
  }

 private:
  const InputStatistics inputs_;
  const std::unique_ptr<ScorerModel> model_;
};

}  // namespace

std::string_view PhaseName(ScorerPhase phase) {
  switch (phase) {
    case ScorerPhase::kPretraining: return "pretraining";
    case ScorerPhase::kCritics: return "critics";
    case ScorerPhase::kWeighted: return "weighted training";
    case ScorerPhase::kDone: return "done";
  }
  return "done";
}

Result<std::unique_ptr<ScorerTraining>> ScorerTraining::Create(const v1::Config& config, const ScorerFields& fields, const ScorerRows& rows,
                                                               ScorerSplit split) {
  FUSELINE_CHECK(split.validation_end <= rows.size() && split.train_end <= split.validation_end);
  if (split.train_end == 0 || split.validation_end == split.train_end)
    return Error(Code::kInvalidInput, "too few impressions to learn from and to look at:", split.train_end, "and",
                 split.validation_end - split.train_end);
  FUSELINE_ASSIGN_OR_FAIL(auto model, CreateScorerModel(config, fields.shape(), rows.tasks));
  return std::make_unique<Training>(config, fields, rows, split, std::move(model));
}

void DescribeScorer(const v1::Config& config, const ScorerFields& fields, v1::PolicyManifest& manifest) {
  manifest.set_algorithm(config.scorer().backbone());
  manifest.set_preset(config.scorer().preset());
  *manifest.mutable_schema() = SchemaOf(config);
  manifest.set_schema_digest(SchemaDigest(manifest.schema()));
  v1::ScorerForm& form = *manifest.mutable_scorer();
  form.set_backbone(config.scorer().backbone());
  for (const std::string& task : fields.tasks()) form.add_tasks(task);
  *form.mutable_shape() = fields.shape();
}

Result<std::unique_ptr<Scorer>> Scorer::Load(const PolicyVersion& version) {
  const v1::ScorerForm& form = version.manifest.scorer();
  if (!version.manifest.has_scorer()) return Error(Code::kInvalidInput, "the version is a policy's, not a scorer's");
  if (Sha256Of(version.weights) != version.manifest.weights_sha256()) return Error(Code::kCorrupt, "the scorer's weights differ from their digest");
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, DecodeWeights(version.weights));
  if (const auto served = ScorerNetwork::Create(version.manifest, tensors); !served)  // What no ranker takes is looked at no further.
    return Error(Code::kCorrupt, "the scorer contradicts itself:", served.error().message);
  v1::Config config;
  if (!config.ParseFromString(version.manifest.lineage().settings())) return Error(Code::kCorrupt, "the scorer's lineage holds no settings");
  FUSELINE_ASSIGN_OR_FAIL(const ScorerFields fields, ScorerFields::Create(config));
  v1::PolicyManifest told;
  DescribeScorer(config, fields, told);
  if (form.has_lineage()) *told.mutable_scorer()->mutable_lineage() = form.lineage();
  if (told.schema_digest() != version.manifest.schema_digest() || CanonicalBytes(told.scorer()) != CanonicalBytes(form))
    return Error(Code::kCorrupt, "the scorer's form is not that of its lineage's settings");
  InputStatistics inputs(form.shape(), static_cast<std::size_t>(form.tasks_size()));
  FUSELINE_FAIL_IF_ERROR(inputs.Import(tensors));
  FUSELINE_ASSIGN_OR_FAIL(auto model, CreateScorerModel(config, form.shape(), static_cast<std::size_t>(form.tasks_size())));
  FUSELINE_FAIL_IF_ERROR(model->Load(tensors));
  return std::make_unique<LoadedScorer>(std::move(inputs), std::move(model));
}

}  // namespace fuseline
