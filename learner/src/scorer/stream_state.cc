// The durable state of the scorer in the stream: files of the learner's checkpoint.

#include <algorithm>
#include <sstream>

#include "checkpoint.h"
#include "fuseline/proto/schema.h"
#include "scorer/scorer_stream.h"

namespace fuseline {
namespace {

// Tables of any size: their digest vouches for them.
Result<TensorMap> ReadTensors(const std::filesystem::path& folder, const v1::FileRef& file) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string bytes, ReadBlob(folder, file));
  return DecodeWeights(bytes, bytes.size());
}

Result<std::optional<PolicyVersion>> ReadVersion(const std::filesystem::path& folder, bool is_there, const v1::PolicyManifest& manifest,
                                                 const v1::FileRef& weights) {
  if (!is_there) return std::optional<PolicyVersion>();
  FUSELINE_ASSIGN_OR_FAIL(std::string bytes, ReadBlob(folder, weights));
  return std::optional(PolicyVersion{manifest, std::move(bytes), {}});
}

}  // namespace

// What a state must share with the settings to be continued.
std::string ScorerStream::Shape() const {
  std::ostringstream text;
  const v1::ScorerShape& form = fields_.shape();
  const auto widths = [&](const char* name, const auto& values) {
    text << ' ' << name;
    for (const auto value : values) text << ' ' << value;
  };
  text << config_.scorer().backbone() << " outcomes " << impressions_.outcomes() << " embedding " << form.embedding_width();
  widths("bottom", form.bottom());
  widths("tower", form.tower());
  text << " experts " << form.experts() << ' ' << form.task_experts();
  widths("buckets", form.buckets());
  widths("critics", SizesOf(config_.scorer()).critic_hidden);
  text << " dense " << form.dense_width() << " ids " << form.user_id() << form.item_id() << " rates " << (form.rate_prior() > 0);
  // Labels hang on it where a task's outcome is valid or valid_play: what was learned from others cannot be gone on with.
  if (impressions_.outcomes().find("=valid") != std::string::npos) text << " valid_watch_ms " << config_.rewards().valid_watch_ms();
  return text.str();
}

Result<v1::ScorerState> ScorerStream::Save(const std::filesystem::path& folder) {
  if (!changed_) return saved_;
  v1::ScorerState state;
  state.set_shape(Shape());
  *state.mutable_counts() = counts_;
  TensorMap counted;
  *state.mutable_input_state() = inputs_.Save(&counted);
  FUSELINE_ASSIGN_OR_FAIL(*state.mutable_inputs(), WriteBlob(folder, "scorer-inputs", EncodeWeights(counted)));
  FUSELINE_ASSIGN_OR_FAIL(*state.mutable_plain(), WriteBlob(folder, "scorer-plain", EncodeWeights(plain_->Save())));
  if (critics_) {
    FUSELINE_ASSIGN_OR_FAIL(*state.mutable_critics(), WriteBlob(folder, "scorer-critics", EncodeWeights(critics_->Save())));
  }
  if (weighted_) {
    FUSELINE_ASSIGN_OR_FAIL(*state.mutable_weighted(), WriteBlob(folder, "scorer-weighted", EncodeWeights(weighted_->Save())));
  }
  FUSELINE_ASSIGN_OR_FAIL(*state.mutable_waiting(), WriteBlob(folder, "scorer-waiting", waiting_.Encode()));
  FUSELINE_ASSIGN_OR_FAIL(*state.mutable_held_back(), WriteBlob(folder, "scorer-held-back", held_back_.Encode()));
  *state.mutable_plain_window() = plain_window_.Save();
  *state.mutable_weighted_window() = weighted_window_.Save();
  if (accepted_) {
    *state.mutable_accepted() = accepted_->manifest;
    FUSELINE_ASSIGN_OR_FAIL(*state.mutable_accepted_weights(), WriteBlob(folder, "scorer-version", accepted_->weights));
  }
  if (pending_) {
    *state.mutable_pending() = pending_->manifest;
    FUSELINE_ASSIGN_OR_FAIL(*state.mutable_pending_weights(), WriteBlob(folder, "scorer-version", pending_->weights));
  }
  state.mutable_policy_versions()->Add(policy_versions_.begin(), policy_versions_.end());
  state.set_started_from(started_from_);
  state.set_measured_from(measured_from_);
  saved_ = std::move(state);
  changed_ = false;
  return saved_;
}

Status ScorerStream::Restore(const std::filesystem::path& folder, const v1::ScorerState& state) {
  if (state.shape() != Shape()) {
    return ErrorStatus(Code::kInvalidInput, "the scorer in", folder.string(),
                       "cannot be continued: scorer.backbone, preset, tasks, outcomes, widths, buckets, experts, critic_hidden, rate_prior as 0, or rewards.valid_watch_ms differ; it is",
                       "[" + state.shape() + "], but the settings ask for", "[" + Shape() + "]");
  }
  counts_ = state.counts();
  FUSELINE_ASSIGN_OR_RETURN(const TensorMap counted, ReadTensors(folder, state.inputs()));
  FUSELINE_RETURN_IF_ERROR(inputs_.Restore(state.input_state(), counted));
  FUSELINE_ASSIGN_OR_RETURN(const TensorMap plain, ReadTensors(folder, state.plain()));
  FUSELINE_RETURN_IF_ERROR(plain_->Restore(plain));
  const std::size_t tasks = fields_.tasks().size();
  if (state.has_critics()) {
    FUSELINE_ASSIGN_OR_RETURN(critics_, CreateScorerCritics(config_, fields_.shape(), tasks));
    FUSELINE_ASSIGN_OR_RETURN(const TensorMap critics, ReadTensors(folder, state.critics()));
    FUSELINE_RETURN_IF_ERROR(critics_->Restore(critics));
  }
  if (state.has_weighted()) {
    FUSELINE_ASSIGN_OR_RETURN(weighted_, CreateScorerModel(config_, fields_.shape(), tasks));
    FUSELINE_ASSIGN_OR_RETURN(const TensorMap weighted, ReadTensors(folder, state.weighted()));
    FUSELINE_RETURN_IF_ERROR(weighted_->Restore(weighted));
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::string waiting, ReadBlob(folder, state.waiting()));
  FUSELINE_RETURN_IF_ERROR(waiting_.Decode(waiting, inputs_.numbers(), inputs_.rows()));
  FUSELINE_ASSIGN_OR_RETURN(const std::string held_back, ReadBlob(folder, state.held_back()));
  FUSELINE_RETURN_IF_ERROR(held_back_.Decode(held_back, 0, inputs_.rows()));
  FUSELINE_RETURN_IF_ERROR(plain_window_.Restore(state.plain_window()));
  FUSELINE_RETURN_IF_ERROR(weighted_window_.Restore(state.weighted_window()));
  FUSELINE_ASSIGN_OR_RETURN(accepted_, ReadVersion(folder, state.has_accepted(), state.accepted(), state.accepted_weights()));
  FUSELINE_ASSIGN_OR_RETURN(pending_, ReadVersion(folder, state.has_pending(), state.pending(), state.pending_weights()));
  policy_versions_.assign(state.policy_versions().begin(), state.policy_versions().end());
  started_from_ = state.started_from();
  measured_from_ = state.measured_from();
  saved_ = state;
  changed_ = false;
  SetGauges();
  return OkStatus();
}

}  // namespace fuseline
