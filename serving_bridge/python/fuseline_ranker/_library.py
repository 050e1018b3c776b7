"""The C functions of fuseline/serving_bridge/c_ranker.h, as ctypes sees them. Structures and argument order are that header's."""
import ctypes
import os
import pathlib

ABI = 2

c_float_p = ctypes.POINTER(ctypes.c_float)
c_double_p = ctypes.POINTER(ctypes.c_double)
c_uint64_p = ctypes.POINTER(ctypes.c_uint64)
c_size_p = ctypes.POINTER(ctypes.c_size_t)
c_bytes_p = ctypes.POINTER(ctypes.c_uint8)


class Options(ctypes.Structure):
    _fields_ = [
        ("config_file", ctypes.c_char_p), ("settings", ctypes.POINTER(ctypes.c_char_p)), ("settings_count", ctypes.c_size_t),
        ("name", ctypes.c_char_p), ("version_folder", ctypes.c_char_p), ("scorer_folder", ctypes.c_char_p), ("event_file", ctypes.c_char_p),
    ]


class Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "user_dense", "user_ids", "context_dense", "context_ids", "item_dense", "item_ids", "tasks")]


class State(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint64), ("epoch", ctypes.c_uint64), ("change", ctypes.c_uint64), ("taken", ctypes.c_uint64),
        ("refused", ctypes.c_uint64), ("redis_connected", ctypes.c_int), ("scorer_version", ctypes.c_uint64), ("events_written", ctypes.c_uint64),
        ("events_dropped", ctypes.c_uint64),
    ]


class Features(ctypes.Structure):
    _fields_ = [("dense", c_float_p), ("dense_count", ctypes.c_size_t), ("ids", c_uint64_p), ("id_count", ctypes.c_size_t)]


class Request(ctypes.Structure):
    _fields_ = [
        ("request_id", ctypes.c_char_p), ("user_id", ctypes.c_char_p), ("surface", ctypes.c_char_p), ("event_time_ms", ctypes.c_int64),
        ("user", Features), ("context", Features), ("candidates", ctypes.c_size_t), ("item_ids", ctypes.POINTER(ctypes.c_char_p)),
        ("item_dense", c_float_p), ("item_dense_count", ctypes.c_size_t), ("item_features_ids", c_uint64_p),
        ("item_id_count", ctypes.c_size_t), ("task_scores", c_float_p), ("task_count", ctypes.c_size_t), ("expose_count", ctypes.c_size_t),
    ]


class Decision(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_size_t), ("order", c_size_p), ("fused_scores", c_double_p), ("action_width", ctypes.c_size_t),
        ("baseline_actions", c_float_p), ("executed_actions", c_float_p), ("has_log_density", ctypes.c_int),
        ("log_density", ctypes.c_double), ("policy_version", ctypes.c_uint64), ("scorer_version", ctypes.c_uint64), ("arm", ctypes.c_char_p), ("fell_back", ctypes.c_int),
    ]


class Feedback(ctypes.Structure):
    _fields_ = [
        ("event_id", ctypes.c_char_p), ("user_id", ctypes.c_char_p), ("event_time_ms", ctypes.c_int64), ("request_id", ctypes.c_char_p),
        ("item_id", ctypes.c_char_p), ("kind", ctypes.c_char_p), ("watch_ms", ctypes.c_int64), ("item_duration_ms", ctypes.c_int64),
    ]


def load():
    """The library: of FUSELINE_RANKER_LIBRARY, or the one inside the package."""
    path = os.environ.get("FUSELINE_RANKER_LIBRARY") or str(pathlib.Path(__file__).parent / "lib" / "libfuseline_ranker.so")
    library = ctypes.CDLL(path)
    pointer, p = ctypes.c_void_p, ctypes.POINTER
    for name, result, arguments in (
        ("fuseline_ranker_abi", ctypes.c_int, []),
        ("fuseline_last_error", ctypes.c_char_p, []),
        ("fuseline_ranker_open", ctypes.c_int, [p(Options), p(pointer)]),
        ("fuseline_ranker_close_events", ctypes.c_int, [pointer, ctypes.c_int64]),
        ("fuseline_ranker_close", None, [pointer]),
        ("fuseline_ranker_shape", ctypes.c_int, [pointer, p(Shape)]),
        ("fuseline_ranker_state", ctypes.c_int, [pointer, p(State)]),
        ("fuseline_ranker_metrics", ctypes.c_size_t, [pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("fuseline_reader_open", ctypes.c_int, [pointer, p(pointer)]),
        ("fuseline_reader_close", None, [pointer]),
        ("fuseline_rank", ctypes.c_int, [pointer, p(Request), p(Decision)]),
        ("fuseline_exposure_event", ctypes.c_int, [pointer, p(Request), p(c_bytes_p), c_size_p]),
        ("fuseline_log_exposure", ctypes.c_int, [pointer, p(Request)]),
        ("fuseline_feedback_event", ctypes.c_int, [pointer, p(Feedback), p(c_bytes_p), c_size_p]),
        ("fuseline_log_feedback", ctypes.c_int, [pointer, p(Feedback)]),
        ("fuseline_bucket", ctypes.c_double, [ctypes.c_char_p, ctypes.c_char_p]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if library.fuseline_ranker_abi() != ABI:
        raise ImportError(f"{path} has ABI {library.fuseline_ranker_abi()}, this package needs {ABI}")
    return library
