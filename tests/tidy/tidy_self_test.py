#!/usr/bin/env python3
"""Plants one violation of each rule into a small tree that keeps them all, and expects tidy.py to find exactly that one."""

import pathlib
import tempfile
import unittest

import tidy

CLEAN = {
    "ingest/CMakeLists.txt": "fuseline_library(ingest SOURCES src/kafka_source.cc)\n",
    "ingest/include/fuseline/ingest/kafka_source.h":
        '#pragma once\n\n#include <string>\n\n#include <tl/expected.hpp>\n\n#include "fuseline/core/status.h"\n',
    "ingest/src/kafka_source.cc":
        '#include "fuseline/ingest/kafka_source.h"\n\n#include <sys/types.h>\n#include <zlib.h>\n\n'
        '#include "fuseline/kafka/consumer.h"\n#include "fuseline/v1/event.pb.h"\n#include "reader.h"\n',
    "ingest/src/reader.h": "#pragma once\n",
    "base/core/CMakeLists.txt": "fuseline_library(core SOURCES src/guarded.cc)\n",
    "base/core/src/guarded.cc": "#include <mutex>\nstd::mutex mutex;\n",
    "learner/CMakeLists.txt": "fuseline_library(learner SOURCES src/torch/networks.cc)\n",
    "learner/src/torch/networks.cc": "#include <torch/torch.h>\n",
    "tests/ingest/CMakeLists.txt": "fuseline_test(t SOURCES kafka_source_test.cc)\n",
    "tests/ingest/kafka_source_test.cc":
        '#include <gtest/gtest.h>\n\n#include "fuseline/test_support/kafka_process.h"\n#include "reader.h"\n',
    "apps/fuseline/CMakeLists.txt": "fuseline_app(fuseline SOURCES main.cc)\n",
    "apps/fuseline/main.cc": '#include <CLI/CLI.hpp>\n\n#include "fuseline/ingest/kafka_source.h"\n',
    "README.md": "Run `build/release/bin/fuseline --state ./state`, see https://kafka.apache.org/documentation/.\n",
}

SOURCE = "ingest/src/kafka_source.cc"
HEADER = "ingest/include/fuseline/ingest/kafka_source.h"
APPENDED = [  # (rule, file, line added to it, what the finding says)
    ("a stage includes a stage", SOURCE, '#include "fuseline/sessionizer/sessionizer.h"', "ingest must not include sessionizer"),
    ("core includes a room", "base/core/src/guarded.cc", '#include "fuseline/v1/event.pb.h"', "core must not include proto"),
    ("a test reaches beyond its room", "tests/ingest/kafka_source_test.cc", '#include "fuseline/redis/connection.h"',
     "ingest must not include redis"),
    ("an unknown room", SOURCE, '#include "fuseline/utils/strings.h"', "no known room"),
    ("a program uses the tests' support", "apps/fuseline/main.cc", '#include "fuseline/test_support/temp_dir.h"', "is for tests"),
    ("a private header of another room", SOURCE, '#include "session_codec.h"', "no header of this room"),
    ("a library in a public header", HEADER, "#include <zlib.h>", "a public header must not show"),
    ("a library of another room", SOURCE, "#include <rocksdb/db.h>", "ingest must not use rocksdb"),
    ("messages below the messages", "base/core/src/guarded.cc", "#include <google/protobuf/message.h>", "core must not use protobuf"),
    ("a quoted library", SOURCE, '#include "rocksdb/db.h"', "ingest must not use rocksdb"),
    ("GoogleTest outside tests", "apps/fuseline/main.cc", "#include <gtest/gtest.h>", "apps must not use gtest"),
    ("an unknown library", SOURCE, "#include <boost/asio.hpp>", "no library known"),
    ("torch in a program", "apps/fuseline/main.cc", "#include <torch/torch.h>", "belongs in learner/src/torch/"),
    ("torch elsewhere in the learner", HEADER.replace("ingest", "learner"), "#pragma once\n#include <ATen/ATen.h>",
     "belongs in learner/src/torch/"),
    ("a mutex outside core", SOURCE, "static std::mutex mutex;", "only base/core names a mutex"),
    ("a lock outside core", SOURCE, "void F() { std::unique_lock lock(m); }", "only base/core names a mutex"),
    ("a condition variable outside core", SOURCE, "std::condition_variable_any changed;", "only base/core names a mutex"),
    ("a header without a guard", "ingest/src/bare.h", "struct Bare {};", "#pragma once"),
    ("a source nobody builds", "ingest/src/forgotten.cc", "int forgotten;", "no CMakeLists.txt lists this file"),
    ("a source whose name ends another's", "ingest/src/source.cc", "int source;", "no CMakeLists.txt lists this file"),
    ("a log line that nobody explains", SOURCE, 'log_.Error("ingest.record_lost", 1);', "has no paragraph **`ingest.record_lost`**"),
    ("a home folder", "README.md", "see /" + "home/ann/fuseline", "a path of one machine"),
    ("a root folder", "Makefile", "DATA = /" + "root/data", "a path of one machine"),
    ("a temporary folder", SOURCE, '// "/' + 'tmp/run7/log"', "a path of one machine"),
    ("a folder beside the project", "Makefile", "DATA = ../" + "shared/data", "a folder outside the project"),
    ("a registry's host", "deploy/setup.sh", "pip --index https://pypi." + "org/simple", "host name of a package registry"),
    ("a badly named file", "proto/fuseline/v1/EventV2.proto", 'syntax = "proto3";', "snake_case"),
]


class TidySelfTest(unittest.TestCase):
    def findings(self, files: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return [str(finding) for finding in tidy.check(root)]

    def test_a_tree_that_keeps_the_rules_has_no_finding(self):
        self.assertEqual(self.findings(CLEAN), [])

    def test_each_planted_violation_is_found_and_nothing_else(self):
        for rule, path, line, says in APPENDED:
            with self.subTest(rule):
                found = self.findings({**CLEAN, path: CLEAN.get(path, "") + line + "\n"})
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith(path + ":"), found)
                self.assertIn(says, found[0])

    def test_the_event_log_alone_may_speak_to_kafka_in_the_serving_bridge(self):
        include = '#include "fuseline/kafka/producer.h"\n'
        files = {**CLEAN, "serving_bridge/CMakeLists.txt": "SOURCES src/event_log.cc src/ranker.cc\n",
                 "serving_bridge/src/event_log.cc": include, "serving_bridge/src/ranker.cc": "\n"}
        self.assertEqual(self.findings(files), [])
        files["serving_bridge/src/ranker.cc"] = include
        self.assertEqual(len(self.findings(files)), 1)

    def test_the_continuous_integration_script_may_know_where_the_data_lies(self):
        self.assertEqual(self.findings({**CLEAN, ".ci/run": "data=../" + "shared/data\n"}), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
