"""Fuseline's ranker: fuses a request's predicted scores with the newest published policy.

    from fuseline_ranker import Ranker

    with Ranker("fuseline.yaml", name="ranker-7") as ranker:
        decision = ranker.rank(request_id="r1", user_id="u42", item_ids=ids, task_scores=scores, item_dense=dense, expose=10)
        shown = [ids[i] for i in decision.order]

With the setting ranker.scorer=live, task_scores may be left out: the newest published scorer predicts them from the features.

A Ranker follows Redis with a thread of its own and never waits for it: while Redis is away or a version is refused, the last good version
serves on; before the first one, the static weights do. Thread-safe; the interpreter's lock is released while a request is ranked.
"""
import ctypes
import dataclasses
import threading
import weakref
from typing import Optional, Sequence

import numpy as np

from . import _library as c

__all__ = ["Corrupt", "Decision", "Error", "InvalidInput", "NotFound", "Ranker", "State", "Unavailable", "bucket"]

_lib = c.load()


class Error(Exception):
    """What every failure here is."""


class InvalidInput(Error, ValueError):
    """The request or a setting is wrong; the message says which."""


class NotFound(Error):
    """A file that was named is not there."""


class Unavailable(Error):
    """A queue is full or a disk fails: try again later."""


class Corrupt(Error):
    """Stored bytes are not what their digest promises."""


_ERRORS = {1: InvalidInput, 2: NotFound, 3: Unavailable, 4: Corrupt}


def _check(code: int) -> None:
    if code != 0:
        raise _ERRORS.get(code, Error)(_lib.fuseline_last_error().decode())


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to show, best first (m = min(expose, n) items), and how that was chosen."""

    order: np.ndarray  # int64 [m]: indices into the request's candidates.
    fused_scores: np.ndarray  # float64 [m]
    baseline_actions: np.ndarray  # float32 [m, D], normalised to [-1, 1]: what the policy says,
    executed_actions: np.ndarray  # float32 [m, D]: and with the request's noise.
    log_density: Optional[float]  # Of the noise; None when nothing was explored.
    policy_version: int  # 0: the static weights.
    scorer_version: int  # Whose task scores were fused; 0: no scorer's.
    arm: str
    fell_back: bool  # Input that is not finite got the static weights.
    exposure: Optional[bytes]  # The event for the learner (protobuf fuseline.v1.Event), if asked for.


@dataclasses.dataclass(frozen=True)
class State:
    version: int  # Being served; 0: the static weights.
    epoch: int
    change: int
    taken: int  # Versions that began to serve.
    refused: int  # Attempts to take one that was refused.
    redis_connected: bool
    scorer_version: int  # Of the scorer; 0: there is none.
    events_written: int
    events_dropped: int


def bucket(user_id: str, salt: str) -> float:
    """Where a user stands in [0, 1) under a salt: GrowthBook's hash, version 2."""
    return _lib.fuseline_bucket(user_id.encode(), salt.encode())


def _matrix(values, kind, name: str, rows: int) -> np.ndarray:
    """`values` as a C array of `kind`, [rows, …]; None: of no columns.

    Whether the columns are the schema's, the library says, and counts.
    """
    array = np.ascontiguousarray(np.empty((rows, 0)) if values is None else values, dtype=kind)
    if rows == 0 and array.size == 0:
        return array.reshape(0, 0)
    if array.ndim != 2 or array.shape[0] != rows:
        raise InvalidInput(f"{name} has shape {array.shape} instead of {(rows, '…')}")
    return array


def _vector(values, kind) -> np.ndarray:
    return np.ascontiguousarray(() if values is None else values, dtype=kind).reshape(-1)


def _text(path) -> Optional[bytes]:
    return None if path is None else str(path).encode()


def _pointer(array: np.ndarray, kind):
    return ctypes.cast(array.ctypes.data, kind)


def _features(dense: np.ndarray, ids: np.ndarray) -> c.Features:
    return c.Features(_pointer(dense, c.c_float_p), dense.size, _pointer(ids, c.c_uint64_p), ids.size)


class _Reader:
    """A thread's way into the library: goes with its thread, or with its ranker, whichever is first."""

    def __init__(self, ranker: ctypes.c_void_p):
        self.handle = ctypes.c_void_p()
        _check(_lib.fuseline_reader_open(ranker, self.handle))
        self.close = weakref.finalize(self, _lib.fuseline_reader_close, self.handle)


class Ranker:
    """
    config: the settings file; settings: "section.key=value", which go before the file and FUSELINE_SECTION__KEY.
    name: of this ranker in `fuseline status`; unique among them.
    version_folder: serve the version in this folder for ever, and ask no Redis for another.
    scorer_folder: the same for the scorer, whose task scores a request without any gets then.
    event_file: exposures and feedback are appended to it, one JSON object a line.
    """

    def __init__(self, config: Optional[str] = None, *, name: str, settings: Sequence[str] = (), version_folder: Optional[str] = None,
                 scorer_folder: Optional[str] = None, event_file: Optional[str] = None):
        lines = (ctypes.c_char_p * len(settings))(*(setting.encode() for setting in settings))
        options = c.Options(_text(config), lines, len(settings), name.encode(), _text(version_folder), _text(scorer_folder),
                            _text(event_file))
        handle = ctypes.c_void_p()
        _check(_lib.fuseline_ranker_open(options, handle))
        self._readers = weakref.WeakSet()  # Of all threads; the ranker must outlive them.
        self._thread = threading.local()
        self._handle = handle
        self._finalizer = weakref.finalize(self, Ranker._close, handle, self._readers)

    @staticmethod
    def _close(handle, readers):
        for reader in list(readers):
            reader.close()
        _lib.fuseline_ranker_close(handle)

    def close_events(self, patience_s: float = 10.0) -> None:
        """Writes the events that wait, and ends the event log: what is logged later is dropped.

        Raises Unavailable if some were lost; metrics() tells how many, and why.
        """
        self._reader()
        _check(_lib.fuseline_ranker_close_events(self._handle, int(patience_s * 1000)))

    def close(self) -> None:
        """Writes the events that wait, and ends. No call of another thread may be under way."""
        self._finalizer()

    def __enter__(self) -> "Ranker":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _reader(self) -> ctypes.c_void_p:
        if not self._finalizer.alive:
            raise InvalidInput("ranker is closed")
        reader = getattr(self._thread, "reader", None)
        if reader is None:
            reader = self._thread.reader = _Reader(self._handle)
            self._readers.add(reader)
        return reader.handle

    def rank(self, *, request_id: str, user_id: str, item_ids: Sequence[str], task_scores=None, item_dense=None, item_features_ids=None,
             user_dense=None, user_ids=None, context_dense=None, context_ids=None, surface: str = "", event_time_ms: int = 0,
             expose: int = 0, log: bool = False, exposure: bool = False) -> Decision:
        """Fuses and orders n candidates.

        task_scores [n, k], item_dense [n, …], item_features_ids [n, …]: in schema order; of user and context, one vector each. A scope
        without any takes the schema's defaults. task_scores=None: the scorer's (ranker.scorer=live, or a scorer_folder).
        expose: how many will be shown; 0: all. log: append the exposure to event_file; exposure: hand it back as bytes.
        Raises InvalidInput for shapes that disagree with the schema, too many candidates, no user or request id; Unavailable if the event
        log is full (the decision is lost then: log=False and exposure=True keeps both apart).
        """
        n = len(item_ids)
        names = (ctypes.c_char_p * n)(*(item.encode() for item in item_ids))
        dense = _matrix(item_dense, np.float32, "item_dense", n)
        ids = _matrix(item_features_ids, np.uint64, "item_features_ids", n)
        scores = _matrix(task_scores, np.float32, "task_scores", n)
        user = _vector(user_dense, np.float32), _vector(user_ids, np.uint64)
        context = _vector(context_dense, np.float32), _vector(context_ids, np.uint64)
        request = c.Request(request_id.encode(), user_id.encode(), surface.encode(), event_time_ms, _features(*user), _features(*context),
                            n, names, _pointer(dense, c.c_float_p), dense.shape[1], _pointer(ids, c.c_uint64_p), ids.shape[1],
                            _pointer(scores, c.c_float_p), scores.shape[1], expose)
        reader, made = self._reader(), c.Decision()
        _check(_lib.fuseline_rank(reader, request, made))
        if log:
            _check(_lib.fuseline_log_exposure(reader, request))
        event = None
        if exposure:
            data, size = c.c_bytes_p(), ctypes.c_size_t()
            _check(_lib.fuseline_exposure_event(reader, request, data, size))
            event = ctypes.string_at(data, size.value)
        return _decision(made, event)

    def feedback(self, *, event_id: str, user_id: str, request_id: str, item_id: str, kind: str, event_time_ms: int, watch_ms: int = 0,
                 item_duration_ms: int = 0, log: bool = False) -> bytes:
        """What a user did with an item that was shown, as the event for the learner. kind: "CLICK", "WATCH", "LIKE", …"""
        feedback = c.Feedback(event_id.encode(), user_id.encode(), event_time_ms, request_id.encode(), item_id.encode(), kind.encode(),
                              watch_ms, item_duration_ms)
        data, size = c.c_bytes_p(), ctypes.c_size_t()
        _check(_lib.fuseline_feedback_event(self._reader(), feedback, data, size))
        event = ctypes.string_at(data, size.value)
        if log:
            _check(_lib.fuseline_log_feedback(self._handle, feedback))
        return event

    def state(self) -> State:
        self._reader()
        state = c.State()
        _check(_lib.fuseline_ranker_state(self._handle, state))
        return State(state.version, state.epoch, state.change, state.taken, state.refused, bool(state.redis_connected),
                     state.scorer_version, state.events_written, state.events_dropped)

    def metrics(self) -> str:
        """Counters in Prometheus' text format."""
        self._reader()
        text = ctypes.create_string_buffer(_lib.fuseline_ranker_metrics(self._handle, None, 0) + 4096)
        _lib.fuseline_ranker_metrics(self._handle, text, len(text))
        return text.value.decode()


def _decision(made: c.Decision, event: Optional[bytes]) -> Decision:
    """A copy of what the reader will overwrite."""
    m, width = made.count, made.action_width

    def copy(pointer, kind, shape):
        if m == 0:
            return np.empty(shape, kind)
        return np.ctypeslib.as_array(pointer, shape).astype(kind, copy=True)

    return Decision(order=copy(made.order, np.int64, (m,)), fused_scores=copy(made.fused_scores, np.float64, (m,)),
                    baseline_actions=copy(made.baseline_actions, np.float32, (m, width)),
                    executed_actions=copy(made.executed_actions, np.float32, (m, width)),
                    log_density=made.log_density if made.has_log_density else None, policy_version=made.policy_version,
                    scorer_version=made.scorer_version,
                    arm=made.arm.decode(), fell_back=bool(made.fell_back), exposure=event)
