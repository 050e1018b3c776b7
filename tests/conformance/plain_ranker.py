"""What a ranker does, in plain numpy and nothing of ours: the shortest text to port to another language, and a second opinion on the
conformance vectors. Default schema and settings; box exploration; a manifest's actor."""
import json
import math
import struct

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def fnv1a64(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def fnv1a32(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def bucket(user: str, salt: str) -> float:
    inner = str(fnv1a32((salt + user).encode())).encode()
    return fnv1a32(inner) % 10_000 / 10_000


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Random:
    """SplitMix64, started from (seed, purpose, counter)."""

    def __init__(self, seed: int, purpose: str, counter: int):
        start = mix((mix((seed + GOLDEN) & MASK) + fnv1a64(purpose.encode())) & MASK)
        self.state = mix((start + counter * GOLDEN) & MASK)

    def uniform(self) -> float:
        self.state = (self.state + GOLDEN) & MASK
        return (mix(self.state) >> 11) * 2.0**-53


def read_weights(data: bytes) -> dict:
    """The safetensors layout."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"]).astype(np.float64)
        for name, entry in header.items() if name != "__metadata__"
    }


class PlainRanker:
    """schema: {scope: [("dense", width, default) | ("id", buckets, default)]} and tasks [(min, max)]; ranges: lower, upper, static_action."""

    def __init__(self, weights: bytes, schema: dict, tasks: list, ranges: tuple, box: tuple, seed: int, version: int):
        self.tensors, self.schema, self.tasks = read_weights(weights), schema, tasks
        self.lower, self.upper, self.static = (np.asarray(values, np.float64) for values in ranges)
        self.box, self.seed, self.version = box, seed, version

    def encode(self, scope: str, dense: list, ids: list) -> list:
        absent, columns, dense, ids = not dense and not ids, [], list(dense), list(ids)
        for kind, width, default in self.schema[scope]:
            if kind == "id":
                value = default if absent else ids.pop(0)
                one_hot = [0.0] * width
                one_hot[mix((value + GOLDEN) & MASK) % width] = 1.0  # One round of SplitMix64.
                columns += one_hot
            else:
                columns += [default] * width if absent else [dense.pop(0) for _ in range(width)]
        return columns

    def act(self, request: dict) -> np.ndarray:
        shared = self.encode("user", **request["user"]) + self.encode("context", **request["context"])
        rows = [shared + self.encode("item", item["dense"], item["ids"]) + self.usable(item["scores"]) for item in request["items"]]
        x = (np.asarray(rows) - self.tensors["normaliser.mean"]) * self.tensors["normaliser.scale"]
        layers = sum(name.startswith("actor.") and name.endswith(".weight") for name in self.tensors)
        for i in range(layers):
            x = x @ self.tensors[f"actor.{i}.weight"].T + self.tensors[f"actor.{i}.bias"]
            x = np.tanh(x) if i == layers - 1 else np.maximum(x, 0)
        return x

    def usable(self, scores: list) -> list:
        return [min(max(s, lo), hi) if math.isfinite(s) else lo for s, (lo, hi) in zip(scores, self.tasks)]

    def fuse(self, scores: list, action: np.ndarray) -> float:
        business = self.lower + 0.5 * (action + 1) * (self.upper - self.lower)
        k = len(scores)
        return sum(business[i] * math.log(max(s + business[k + i], 1e-6)) for i, s in enumerate(scores))

    def rank(self, request: dict) -> dict:
        n = len(request["items"])
        finite = all(math.isfinite(v) for item in request["items"] for v in item["dense"] + item["scores"])
        finite = finite and all(math.isfinite(v) for v in request["user"]["dense"] + request["context"]["dense"])
        empty = {"order": [], "fused_scores": [], "baseline_actions": [], "executed_actions": [], "log_density": None, "policy_version": 0,
                 "arm": "learning", "fell_back": False}
        if n == 0:
            return empty
        baseline = self.act(request) if finite else np.tile(self.static, (n, 1))
        noise, log_density = np.zeros_like(self.static), None
        if finite:
            log_density, random = 0.0, Random(self.seed, "exploration", fnv1a64(request["request_id"].encode()))
            for d in range(len(noise)):
                lo, hi = max(self.box[0], -1 - baseline[:, d].min()), min(self.box[1], 1 - baseline[:, d].max())
                draw = random.uniform()
                if hi - lo >= 1e-6:
                    noise[d] = lo + (hi - lo) * draw
                    log_density -= math.log(hi - lo)
        executed = baseline + noise
        fused = [self.fuse(self.usable(item["scores"]), executed[i]) for i, item in enumerate(request["items"])]
        order = sorted(range(n), key=lambda i: (-fused[i], i))[: request["expose"] or n]
        return {**empty, "order": order, "fused_scores": [fused[i] for i in order],
                "baseline_actions": baseline[order].ravel().tolist(), "executed_actions": executed[order].ravel().tolist(),
                "log_density": log_density, "policy_version": self.version if finite else 0, "fell_back": not finite}
