#!/usr/bin/env python3
"""Checks what a compiler does not: who may include whom, where a library may be named, which files are built,
which log lines the runbook explains.

Usage: tidy.py ROOT. Prints one line per finding, PATH:LINE: what and what to do; exits 1 if there is any.
The tables below are the rules. A room that needs another room or library gets a line here, in a commit that says why.
"""

import pathlib
import re
import subprocess
import sys
from typing import Iterator, NamedTuple

# Room -> rooms whose public headers it may include (itself is understood).
ROOM_MAY_INCLUDE = {
    "core": set(),
    "proto": {"core"},
    "kafka": {"core"},
    "redis": {"core"},
    "fusion": {"core", "proto"},
    "ingest": {"core", "proto", "kafka"},
    "sessionizer": {"core", "proto"},
    "learner": {"core", "proto", "fusion"},
    "rollout": {"core", "proto"},
    "policy_store": {"core", "proto", "redis", "fusion"},
    "serving_bridge": {"core", "proto", "redis", "fusion", "rollout"},
    "simulator": {"core", "proto", "fusion", "rollout", "serving_bridge"},
    "datasets": {"core", "proto"},
    "response_model": {"core", "proto", "fusion", "datasets"},
    "comparison": {"core"},
    "test_support": {"core"},
}
# The event log is the one part of serving_bridge that speaks to Kafka, and may be left out of a build.
EXTRA_ROOMS_OF_FILES = [(re.compile(r"^(?:tests/)?serving_bridge/.*event_log"), {"kafka"})]

ROOM_OF_FOLDER = {
    "base/core": "core", "base/kafka": "kafka", "base/redis": "redis", "proto": "proto", "fusion": "fusion",
    "ingest": "ingest", "rollout": "rollout", "sessionizer": "sessionizer", "learner": "learner", "policy_store": "policy_store",
    "serving_bridge": "serving_bridge", "lab/simulator": "simulator", "lab/datasets": "datasets", "lab/response_model": "response_model",
    "lab/comparison": "comparison",
    "tests/support": "test_support",
}
FOLDER_OF_ROOM = {room: folder for folder, room in ROOM_OF_FOLDER.items()}
# These join rooms: every public header is open to them.
JOINING_FOLDERS = ("apps/", "bench/", "tests/integration/", "tests/simulation/", "tests/crash/", "tests/learning/",
                   "tests/golden/", "tests/fuzz/", "tests/install/", "tests/apps/")

# How an include of a library begins -> the library.
LIBRARY_OF_INCLUDE = {
    "tl/": "expected", "spdlog/": "spdlog", "prometheus/": "prometheus", "httplib.h": "httplib", "openssl/": "openssl",
    "google/protobuf/": "protobuf", "yaml-cpp/": "yaml", "librdkafka/": "rdkafka", "hiredis/": "hiredis",
    "rocksdb/": "rocksdb", "torch/": "torch", "ATen/": "torch", "c10/": "torch", "Eigen/": "eigen", "cblas": "blas", "oneapi/dnnl/": "onednn", "libxsmm.h": "xsmm",
    "nlohmann/": "json", "zlib.h": "zlib", "zstd.h": "zstd", "CLI/": "cli11", "benchmark/": "benchmark",
    "gtest/": "gtest", "gmock/": "gtest", "rapidcheck": "rapidcheck", "sodium": "sodium", "pybind11/": "python",
    "nanobind/": "python", "Python.h": "python",
}
# Room -> libraries it may include, in src/ alone.
ROOM_MAY_USE = {
    "core": {"spdlog", "prometheus", "httplib", "openssl"},
    "proto": {"protobuf", "yaml", "json"},
    "kafka": {"rdkafka"},
    "redis": {"hiredis", "openssl"},
    "fusion": {"eigen", "blas", "json"},
    "ingest": {"zlib", "zstd"},
    "sessionizer": {"rocksdb"},
    "learner": set(),
    "rollout": set(),
    "policy_store": {"openssl", "sodium"},
    "serving_bridge": {"eigen", "blas", "python"},
    "simulator": set(),
    "datasets": {"zlib", "zstd"},
    "response_model": set(),
    "comparison": {"json"},
    "test_support": {"rdkafka", "hiredis"},
}
# Who handles messages may use what reads and writes them, e.g. length-delimited streams.
for _room, _others in ROOM_MAY_INCLUDE.items():
    if "proto" in _others:
        ROOM_MAY_USE[_room].add("protobuf")
TEST_LIBRARIES = {"gtest", "rapidcheck"}
# In public headers of a room, for everybody: `expected` is the type of every result.
PUBLIC_LIBRARIES = {"expected"}
PUBLIC_LIBRARIES_OF_ROOM = {"test_support": {"gtest"}}
# LibTorch is slow to compile and defines macros with common names, so its headers stay in few files.
TORCH_FOLDERS = ("learner/src/torch/", "lab/response_model/src/torch/", "tests/learner/", "bench/learner_bench.cc", "bench/scorer_step_bench.cc", "bench/ranker_torch.cc")

# A file here is an algorithm more, found by its folder: adding one names it nowhere else.
GLOBBED_FOLDERS = ("learner/src/algorithms/", "learner/src/torch/")

SYSTEM_FOLDERS = ("sys/", "netinet/", "arpa/", "linux/", "net/", "bits/")
SYSTEM_HEADERS = {
    "dirent.h", "dlfcn.h", "fcntl.h", "glob.h", "immintrin.h", "limits.h", "link.h", "malloc.h", "netdb.h", "poll.h", "pthread.h", "pwd.h",
    "sched.h", "signal.h", "spawn.h", "stdint.h", "stddef.h", "stdio.h", "stdlib.h", "string.h", "termios.h", "time.h", "unistd.h",
    "cpuid.h", "errno.h", "x86intrin.h", "inttypes.h", "stdbool.h", "math.h",
}

MUTEX = re.compile(r"\b(?:std::(?:\w*mutex|condition_variable\w*|lock_guard|unique_lock|scoped_lock|shared_lock)|pthread_mutex_t)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
LOGGED = re.compile(r'\blog_?(?:\.|->)(?:Error|Warn)\("([\w.]+)"')
CPP_SUFFIXES = {".h", ".cc"}
SNAKE_CASE = re.compile(r"^(__init__\.py|_?[a-z0-9]+(_[a-z0-9]+)*\.[a-z0-9]+)$")  # Python's private modules begin with _.
SNAKE_CASE_SUFFIXES = {".h", ".cc", ".proto", ".py"}

# Traces of one machine. Written so that no pattern matches its own line.
TRACES = [
    (re.compile(r"(?<![\w./$}])/(?:[h]ome|[U]sers|[r]oot|[w]ork)/\w"), "a path of one machine"),
    (re.compile(r"(?<![\w/])/[t]mp/\w+/"), "a path of one machine; a test has TempDir"),
    (re.compile(r"\.\./[s]hared\b"), "a folder outside the project"),
    (re.compile(r"\b(?:[p]ypi\.org|[f]iles\.pythonhosted|[r]epo1?\.maven|[m]aven-central|[d]eb\.debian|[r]egistry\.\w+\.\w+|"
                r"[c]onda\.anaconda)"), "the host name of a package registry; its client knows it"),
]
# The one file that may know where the data of the larger tests lies.
TRACES_ALLOWED = {".ci/run"}
BINARY_SUFFIXES = {".gz", ".zst", ".pb", ".bin", ".png", ".safetensors", ".jar"}


class Finding(NamedTuple):
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def project_files(root: pathlib.Path) -> list[str]:
    """The project's files: what git knows, staged or not yet added, else every file outside build/."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        return sorted({name for name in names if name and (root / name).is_file()})
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith(("build/", ".git/")))


def room_of(path: str) -> str | None:
    """The room whose rules hold for a file; a test belongs to the room it tests. None: a folder that joins rooms."""
    for folder, room in ROOM_OF_FOLDER.items():
        if path.startswith(folder + "/"):
            return room
    parts = path.split("/")
    if parts[0] == "tests" and len(parts) > 2 and parts[1] in ROOM_MAY_INCLUDE:
        return parts[1]
    return None


def library_of(include: str) -> str | None:
    for start, library in LIBRARY_OF_INCLUDE.items():
        if include.startswith(start):
            return library
    return None


def is_system(include: str) -> bool:
    if "/" not in include and not include.endswith(".h"):
        return "." not in include  # <vector>
    return include.startswith(SYSTEM_FOLDERS) or include in SYSTEM_HEADERS


def check_room_include(path: str, line: int, include: str) -> Iterator[Finding]:
    """An #include "fuseline/ROOM/…": the dependency table."""
    target = include.split("/")[1]
    target = "proto" if target == "v1" else target
    if target not in ROOM_MAY_INCLUDE:
        yield Finding(path, line, f"{include} is in no known room")
        return
    room, is_test = room_of(path), path.startswith(("tests/", "bench/"))
    if target == "test_support" and not is_test:
        yield Finding(path, line, f"{include} is for tests and benchmarks")
    if room is None or target == room or (is_test and target == "test_support"):
        return
    allowed = set(ROOM_MAY_INCLUDE[room])
    for pattern, extra in EXTRA_ROOMS_OF_FILES:
        if pattern.match(path):
            allowed |= extra
    if target not in allowed:
        yield Finding(path, line, f"{room} must not include {target} ({include})")


def check_private_include(path: str, line: int, include: str, files: set[str]) -> Iterator[Finding]:
    """An #include "name.h": a header beside the file, or in src/ of its own room."""
    folders = [path.rsplit("/", 1)[0]]
    room = room_of(path)
    if room is not None:
        folders += [FOLDER_OF_ROOM[room] + "/src", "tests/" + room]
    elif path.startswith(("apps/", "tests/apps/")):
        folders += ["apps/fuseline", "apps/fuseline/src", "tests/rollout"]  # Simulated sessions.
    elif path.startswith("tests/integration/"):
        folders += ["tests/crash"]  # Whatever runs the whole program shares one harness.
    elif path.startswith("bench/"):  # A benchmark may set its room up as that room's tests do.
        folders += ["tests/" + each for each in FOLDER_OF_ROOM]
        folders += [folder + "/src" for folder in FOLDER_OF_ROOM.values()]
    if path.startswith("tests/response_model/"):
        folders += ["lab/simulator/src"]  # The reader of the file that this room writes.
    if not any(f"{folder}/{include}" in files for folder in folders):
        yield Finding(path, line, f'"{include}" is no header of this room; another room offers only fuseline/ROOM/…')


def check_library_include(path: str, line: int, include: str) -> Iterator[Finding]:
    library, room = library_of(include), room_of(path)
    if library is None:
        if not is_system(include):
            yield Finding(path, line, f"<{include}> is of no library known to tests/tidy")
        return
    if library in PUBLIC_LIBRARIES:
        return
    if library == "torch":
        if not path.startswith(TORCH_FOLDERS):
            yield Finding(path, line, f"<{include}> belongs in learner/src/torch/")
        return
    if "/include/" in path:
        if library not in PUBLIC_LIBRARIES_OF_ROOM.get(room or "", set()):
            yield Finding(path, line, f"a public header must not show <{include}>; forward-declare or hide it in src/")
        return
    if path.startswith("tests/"):
        # json: what a room writes by hand, its tests read with somebody else's reader.
        allowed = TEST_LIBRARIES | {"json"} | ROOM_MAY_USE.get(room or "", set(LIBRARY_OF_INCLUDE.values()))
    else:
        allowed = ROOM_MAY_USE.get(room or "", set(LIBRARY_OF_INCLUDE.values()) - TEST_LIBRARIES)
    if library not in allowed:
        yield Finding(path, line, f"{room or path.split('/')[0]} must not use {library} (<{include}>)")


def check_cpp(path: str, text: str, files: set[str]) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            include = match[2]
            if include.startswith("fuseline/"):
                yield from check_room_include(path, number, include)
            elif match[1] == '"' and library_of(include) is None:
                yield from check_private_include(path, number, include, files)
            else:
                yield from check_library_include(path, number, include)
        if MUTEX.search(line.split("//")[0]) and not path.startswith("base/core/"):
            yield Finding(path, number, "only base/core names a mutex; use Guarded or BoundedQueue")
    if path.endswith(".h") and "#pragma once" not in text:
        yield Finding(path, 1, "a header begins with #pragma once")


def check_is_built(path: str, root: pathlib.Path) -> Iterator[Finding]:
    """A source file that no CMakeLists.txt above it lists is dead, and looks alive."""
    folder, name = pathlib.PurePosixPath(path).parent, pathlib.PurePosixPath(path)
    for parent in [folder, *folder.parents]:
        cmake = root / parent / "CMakeLists.txt"
        if cmake.is_file() and re.search(rf"(?<![\w/.]){re.escape(str(name.relative_to(parent)))}(?![\w.])", cmake.read_text()):
            return
    if any(path in cmake.read_text() for cmake in (root / "cmake").glob("*.cmake")):
        return
    if path.startswith(GLOBBED_FOLDERS):
        return
    yield Finding(path, 1, "no CMakeLists.txt lists this file")


def check_runbook(path: str, text: str, runbook: str) -> Iterator[Finding]:
    """A log line that asks for somebody tells them where to read on."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = LOGGED.search(line)
        if match and f"**`{match[1]}`**" not in runbook:
            yield Finding(path, number, f"deploy/RUNBOOK.md has no paragraph **`{match[1]}`**")


def check_text(path: str, text: str) -> Iterator[Finding]:
    if path in TRACES_ALLOWED:
        return
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, what in TRACES:
            match = pattern.search(line)
            if match:
                yield Finding(path, number, f"'{match[0]}': {what}")


def check(root: pathlib.Path) -> Iterator[Finding]:
    files = project_files(root)
    known = set(files)
    runbook = (root / "deploy/RUNBOOK.md").read_text() if "deploy/RUNBOOK.md" in known else ""
    for path in files:
        suffix = pathlib.PurePosixPath(path).suffix
        if suffix in SNAKE_CASE_SUFFIXES and not SNAKE_CASE.match(path.rsplit("/", 1)[-1]):
            yield Finding(path, 1, "file names are snake_case")
        if suffix in BINARY_SUFFIXES or "/corpus/" in path:
            continue
        text = (root / path).read_text(errors="replace")
        yield from check_text(path, text)
        if suffix in CPP_SUFFIXES:
            yield from check_cpp(path, text, known)
        if suffix in CPP_SUFFIXES and not path.startswith("tests/"):
            yield from check_runbook(path, text, runbook)
        if suffix == ".cc":
            yield from check_is_built(path, root)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(sys.argv[1])
    findings = list(check(root))
    for finding in findings:
        print(finding)
    print(f"{len(project_files(root))} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
