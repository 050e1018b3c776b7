#pragma once

/* Fuseline's ranker for every language that can call C: it keeps the newest published policy version at hand, and fuses the task
 * scores of a request's candidates with it; those that a request does not bring, the newest scorer predicts (ranker.scorer=live). Link libfuseline_ranker; nothing else of Fuseline is needed.
 *
 *   fuseline_ranker* ranker;
 *   fuseline_ranker_options options = {.config_file = "fuseline.yaml", .name = "ranker-7"};
 *   if (fuseline_ranker_open(&options, &ranker) != FUSELINE_OK) die(fuseline_last_error());
 *   fuseline_reader* reader;                               // One per thread.
 *   fuseline_reader_open(ranker, &reader);
 *   fuseline_decision decision;
 *   if (fuseline_rank(reader, &request, &decision) == FUSELINE_OK) show(decision.order, decision.count);
 *
 * All strings are UTF-8 and end with 0. All arrays are row-major. No function keeps a pointer that it was given beyond its return.
 * A failed call changes nothing, and says why in fuseline_last_error. Nothing here throws, and nothing is fatal: while Redis is away or a
 * version is refused, the last good version serves on; before the first one, the static weights do. */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FUSELINE_API __attribute__((visibility("default")))
#else
#define FUSELINE_API
#endif

/* Grows with every change that breaks a caller who was compiled before. */
#define FUSELINE_RANKER_ABI 2
FUSELINE_API int fuseline_ranker_abi(void);

enum {
  FUSELINE_OK = 0,
  FUSELINE_INVALID_INPUT = 1, /* The request or a setting is wrong: the message says which. */
  FUSELINE_NOT_FOUND = 2,     /* A file that was named is not there. */
  FUSELINE_UNAVAILABLE = 3,   /* A queue is full, a disk fails: try again later. */
  FUSELINE_CORRUPT = 4,       /* Stored bytes are not what their digest promises. */
  FUSELINE_INTERNAL = 5
};

/* Why the last call of this thread failed; valid until its next failed call. */
FUSELINE_API const char* fuseline_last_error(void);

typedef struct fuseline_ranker fuseline_ranker; /* Thread-safe. */
typedef struct fuseline_reader fuseline_reader; /* For one thread at a time. */

typedef struct fuseline_ranker_options {
  const char* config_file;      /* The settings file; NULL: none. FUSELINE_SECTION__KEY in the environment goes before it, */
  const char* const* settings;  /* and these, "section.key=value", before both. */
  size_t settings_count;
  const char* name;             /* Of this ranker in `fuseline status`; unique among them. */
  const char* version_folder;   /* NULL: follow Redis. Else serve the version in this folder (manifest.pb, weights.safetensors). */
  const char* scorer_folder;    /* The same for the scorer, whose task scores a request without any gets then. */
  const char* event_file;       /* NULL: none. Else events are appended to it, one JSON object a line, by a thread of its own. */
} fuseline_ranker_options;

/* Starts to follow Redis and does not wait for it. */
FUSELINE_API int fuseline_ranker_open(const fuseline_ranker_options* options, fuseline_ranker** ranker);
/* Writes the events that wait into event_file, until they are safe there or patience_ms are over, and ends the event
 * log: what is logged later is dropped. FUSELINE_UNAVAILABLE: some were lost; fuseline_ranker_metrics tells how many,
 * and why. A second call does nothing. */
FUSELINE_API int fuseline_ranker_close_events(fuseline_ranker* ranker, int64_t patience_ms);
/* The same with 10 s if that was not called, and all the rest. REQUIRES: no reader is left. NULL is allowed. */
FUSELINE_API void fuseline_ranker_close(fuseline_ranker* ranker);

/* How many values a request of this ranker has; from the feature schema. */
typedef struct fuseline_shape {
  size_t user_dense, user_ids;
  size_t context_dense, context_ids;
  size_t item_dense, item_ids; /* Of each candidate, */
  size_t tasks;                /* k, and its task scores; D = 2k: k powers, then k biases. */
} fuseline_shape;
FUSELINE_API int fuseline_ranker_shape(const fuseline_ranker* ranker, fuseline_shape* shape);

typedef struct fuseline_state {
  uint64_t version;      /* Being served; 0: the static weights. */
  uint64_t epoch, change; /* Of the alias change that brought it. */
  uint64_t taken;        /* Versions that began to serve, */
  uint64_t refused;      /* and attempts to take one that was refused. */
  int redis_connected;
  uint64_t scorer_version; /* Of the scorer; 0: there is none. */
  uint64_t events_written, events_dropped; /* Safe in event_file; lost. What is on its way is in neither. */
} fuseline_state;
FUSELINE_API int fuseline_ranker_state(const fuseline_ranker* ranker, fuseline_state* state);

/* The ranker's counters in Prometheus' text format. Returns the bytes it needs without the closing 0; writes at most `capacity`, closed. */
FUSELINE_API size_t fuseline_ranker_metrics(const fuseline_ranker* ranker, char* text, size_t capacity);

FUSELINE_API int fuseline_reader_open(fuseline_ranker* ranker, fuseline_reader** reader);
FUSELINE_API void fuseline_reader_close(fuseline_reader* reader);

/* In schema order. All counts 0: the schema's defaults. */
typedef struct fuseline_features {
  const float* dense;
  size_t dense_count;
  const uint64_t* ids;
  size_t id_count;
} fuseline_features;

typedef struct fuseline_request {
  const char* request_id; /* Unique; the request's noise is drawn from it. */
  const char* user_id;
  const char* surface;    /* NULL: "". */
  int64_t event_time_ms;
  fuseline_features user, context;
  size_t candidates;            /* n */
  const char* const* item_ids;  /* [n] */
  const float* item_dense;      /* [n, item_dense_count] */
  size_t item_dense_count;
  const uint64_t* item_features_ids; /* [n, item_id_count] */
  size_t item_id_count;
  const float* task_scores;     /* [n, task_count] */
  size_t task_count;            /* 0: the scorer's, with ranker.scorer=live or a scorer_folder. */
  size_t expose_count;          /* How many will be shown; 0: all. */
} fuseline_request;

/* What to show, best first. Arrays and text are the reader's, until its next call. */
typedef struct fuseline_decision {
  size_t count;                  /* m = min(expose_count, n) */
  const size_t* order;           /* [m] indices into the candidates. */
  const double* fused_scores;    /* [m] */
  size_t action_width;           /* D */
  const float* baseline_actions; /* [m, D], normalised to [-1, 1]; what the policy says, */
  const float* executed_actions; /* [m, D] and with the request's noise: what was done. */
  int has_log_density;           /* 0: nothing was explored. */
  double log_density;
  uint64_t policy_version;       /* 0: the static weights. */
  uint64_t scorer_version;       /* Whose task scores were fused; 0: no scorer's. */
  const char* arm;               /* As in events. */
  int fell_back;                 /* Input that is not finite got the static weights. */
} fuseline_decision;

/* The same request, version and seed give the same decision. No candidates: an empty decision.
 * Takes no lock, makes no system call, and allocates nothing once the reader has seen as many candidates before.
 * FUSELINE_INVALID_INPUT: too many candidates, no user or request id, numbers of values that disagree with the schema. */
FUSELINE_API int fuseline_rank(fuseline_reader* reader, const fuseline_request* request, fuseline_decision* decision);

/* The exposure of the reader's last decision as the event that the learner reads (protobuf fuseline.v1.Event), to be sent to the events
 * topic with user_id as key. `request` is the one it was made of. The bytes are the reader's, until its next call. */
FUSELINE_API int fuseline_exposure_event(fuseline_reader* reader, const fuseline_request* request, const uint8_t** bytes, size_t* size);

/* The same into event_file. Never waits: FUSELINE_UNAVAILABLE and a count when the queue is full. */
FUSELINE_API int fuseline_log_exposure(fuseline_reader* reader, const fuseline_request* request);

typedef struct fuseline_feedback {
  const char* event_id; /* Chosen by you; a resend carries the same. */
  const char* user_id;
  int64_t event_time_ms;
  const char* request_id; /* Of the exposure. */
  const char* item_id;
  const char* kind;       /* "CLICK", "WATCH", "LIKE", … as in fuseline.v1.Feedback.Kind */
  int64_t watch_ms;
  int64_t item_duration_ms; /* 0: unknown. */
} fuseline_feedback;
FUSELINE_API int fuseline_feedback_event(fuseline_reader* reader, const fuseline_feedback* feedback, const uint8_t** bytes, size_t* size);
FUSELINE_API int fuseline_log_feedback(fuseline_ranker* ranker, const fuseline_feedback* feedback);

/* Where a user stands in [0, 1) under a salt: GrowthBook's hash, version 2. -1 if an argument is NULL. */
FUSELINE_API double fuseline_bucket(const char* user_id, const char* salt);

#ifdef __cplusplus
}
#endif
