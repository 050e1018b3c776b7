"""The installed Python package decides what the conformance vectors say, and so does a ranker that shares no line with ours."""
import concurrent.futures
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import numpy as np

import fuseline_ranker
from fuseline_ranker import InvalidInput, NotFound, Ranker, Unavailable

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import plain_ranker  # noqa: E402

GOLDEN = HERE.parent / "golden"


def load_vectors() -> dict:
    vectors = json.loads((HERE / "ranker_vectors.json").read_text())
    for request in vectors["requests"]:
        for item in request["items"]:
            item["dense"], item["scores"] = ([float(value) for value in item[name]] for name in ("dense", "scores"))
    return vectors


def arguments(request: dict) -> dict:
    items = request["items"]
    absent = bool(items) and not items[0]["dense"]
    return {
        "request_id": request["request_id"], "user_id": request["user_id"], "item_ids": [item["id"] for item in items],
        "task_scores": np.array([item["scores"] for item in items], np.float32).reshape(len(items), 5),
        "item_dense": None if absent else np.array([item["dense"] for item in items], np.float32).reshape(len(items), 9),
        "item_features_ids": None if absent else np.array([item["ids"] for item in items], np.uint64).reshape(len(items), 1),
        "user_dense": request["user"]["dense"], "user_ids": request["user"]["ids"], "context_dense": request["context"]["dense"],
        "expose": request["expose"],
    }


class RankerTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copy(GOLDEN / "policy_v1.manifest.pb", self.folder / "manifest.pb")
        shutil.copy(GOLDEN / "policy_v1.safetensors", self.folder / "weights.safetensors")
        self.vectors = load_vectors()

    def open(self, **more) -> Ranker:
        ranker = Ranker(name="ranker-1", version_folder=self.folder, **more)
        self.addCleanup(ranker.close)
        return ranker

    def check(self, request: dict, decision: dict):
        expected = request["expected"]
        self.assertEqual(list(decision["order"]), expected["order"])
        for name in ("fused_scores", "baseline_actions", "executed_actions"):
            np.testing.assert_allclose(np.ravel(decision[name]), expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
        for name in ("policy_version", "arm", "fell_back"):
            self.assertEqual(decision[name], expected[name], name)
        self.assertEqual(decision["log_density"] is None, expected["log_density"] is None)
        if expected["log_density"] is not None:
            self.assertAlmostEqual(decision["log_density"], expected["log_density"], places=4)

    def test_every_decision_is_the_one_that_the_vectors_say(self):
        ranker = self.open()
        self.assertGreaterEqual(len(self.vectors["requests"]), 20)
        for request in self.vectors["requests"]:
            with self.subTest(request["about"]):
                self.check(request, vars(ranker.rank(**arguments(request))))

    def test_a_ranker_in_plain_numpy_decides_the_same(self):
        vectors, weights = self.vectors, (GOLDEN / "policy_v1.safetensors").read_bytes()
        self.assertEqual(hashlib.sha256(weights).hexdigest(), vectors["weights_sha256"])
        ranges = tuple(vectors["ranges"][name] for name in ("lower", "upper", "static_action"))
        plain = plain_ranker.PlainRanker(weights, vectors["schema"], vectors["tasks"], ranges, tuple(vectors["box"]), vectors["seed"],
                                         vectors["policy_version"])
        for request in vectors["requests"]:
            with self.subTest(request["about"]):
                self.check(request, plain.rank(request))

    def test_every_user_stands_where_the_vectors_say(self):
        for one in self.vectors["buckets"]:
            self.assertEqual(fuseline_ranker.bucket(one["user"], one["salt"]), one["bucket"])
            self.assertEqual(plain_ranker.bucket(one["user"], one["salt"]), one["bucket"])

    def test_what_is_wrong_is_said(self):
        with self.assertRaisesRegex(InvalidInput, "max_candidates"):
            self.open(settings=["ranker.max_candidate=3"])
        with self.assertRaises(NotFound):
            Ranker("absent.yaml", name="r")
        ranker = self.open()
        request = arguments(self.vectors["requests"][2])
        with self.assertRaisesRegex(InvalidInput, "task_scores has shape"):
            ranker.rank(**{**request, "task_scores": request["task_scores"][:-1]})
        with self.assertRaisesRegex(InvalidInput, "task scores disagrees with the schema: 4 instead of 5"):
            ranker.rank(**{**request, "task_scores": request["task_scores"][:, :4]})
        with self.assertRaisesRegex(InvalidInput, "scope item"):
            ranker.rank(**{**request, "item_features_ids": None})
        with self.assertRaisesRegex(InvalidInput, "scope user"):
            ranker.rank(**{**request, "user_ids": None})
        with self.assertRaisesRegex(InvalidInput, "user_id"):
            ranker.rank(**{**request, "user_id": ""})
        self.assertEqual(len(ranker.rank(request_id="r", user_id="u", item_ids=[], task_scores=[]).order), 0)
        for line in ('refused_total{reason="schema"} 3', 'refused_total{reason="identity"} 1', "empty_total 1"):
            self.assertIn("fuseline_serving_bridge_requests_" + line, ranker.metrics())
        with self.assertRaisesRegex(InvalidInput, "event_file"):
            ranker.rank(**request, log=True)
        with self.assertRaisesRegex(InvalidInput, "STARE"):
            ranker.feedback(event_id="f", user_id="u", request_id="r", item_id="i", kind="STARE", event_time_ms=1)
        ranker.close()
        with self.assertRaisesRegex(InvalidInput, "closed"):
            ranker.rank(**request)

    def test_exposures_and_feedback_are_logged_and_handed_back(self):
        ranker = self.open(event_file=self.folder / "events.jsonl")
        request = arguments(self.vectors["requests"][2])
        decision = ranker.rank(**request, log=True, exposure=True)
        self.assertIn(request["request_id"].encode(), decision.exposure)
        shown = request["item_ids"][decision.order[0]]
        event = ranker.feedback(event_id="f1", user_id=request["user_id"], request_id=request["request_id"], item_id=shown, kind="LIKE",
                                event_time_ms=2_000, log=True)
        self.assertIn(shown.encode(), event)
        ranker.close_events()
        self.assertEqual((ranker.state().events_written, ranker.state().events_dropped), (2, 0))
        with self.assertRaises(Unavailable):
            ranker.rank(**request, log=True)
        self.assertEqual(ranker.state().events_dropped, 1)
        self.assertIn('fuseline_serving_bridge_events_dropped_total{reason="closed"} 1', ranker.metrics())
        ranker.close()
        exposure, feedback = (json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines())
        self.assertEqual(exposure["exposure"]["items"][0]["item_id"], shown)
        self.assertEqual(feedback["feedback"]["kind"], "LIKE")

    def test_features_alone_are_enough_beside_a_scorer(self):
        golden = json.loads((GOLDEN / "scorer_v1.exposure.json").read_text())
        scorer = self.folder / "scorer"
        scorer.mkdir()
        shutil.copy(GOLDEN / "scorer_v1.manifest.pb", scorer / "manifest.pb")
        shutil.copy(GOLDEN / "scorer_v1.safetensors", scorer / "weights.safetensors")
        ranker = self.open(scorer_folder=scorer, event_file=self.folder / "events.jsonl")
        self.assertEqual(ranker.state().scorer_version, 1)
        for item in golden["items"]:  # One by one: a scope that is absent in some of them is absent in an array of all.
            features = item.get("itemFeatures", {})
            decision = ranker.rank(request_id=item["itemId"], user_id=golden["requestId"], item_ids=[item["itemId"]],
                                   item_dense=[features["dense"]] if features else None,
                                   item_features_ids=[[int(one) for one in features["ids"]]] if features else None,
                                   user_dense=golden["userFeatures"]["dense"], user_ids=[int(one) for one in golden["userFeatures"]["ids"]],
                                   context_dense=golden["contextFeatures"].get("dense"), log=True)
            self.assertEqual((decision.policy_version, decision.scorer_version), (1, 1))
        ranker.close_events()
        logged = [json.loads(line)["exposure"] for line in (self.folder / "events.jsonl").read_text().splitlines()]
        self.assertEqual([int(one["scorer_version"]) for one in logged], [1] * len(golden["items"]))
        for expected, exposure in zip(golden["items"], logged):
            np.testing.assert_allclose(exposure["items"][0]["task_scores"], expected["taskScores"], rtol=1e-4, atol=1e-5)
        with self.assertRaisesRegex(InvalidInput, "task scores"):
            self.open().rank(request_id="r", user_id="u", item_ids=["i"])

    def test_threads_come_and_go_each_with_a_reader_of_its_own(self):
        ranker, requests = self.open(), self.vectors["requests"]

        def orders():
            return [list(ranker.rank(**arguments(request)).order) for request in requests]

        expected = [request["expected"]["order"] for request in requests]
        for _ in range(5):
            with concurrent.futures.ThreadPoolExecutor(4) as threads:
                for future in [threads.submit(orders) for _ in range(8)]:
                    self.assertEqual(future.result(), expected)
        self.assertEqual(ranker.state().version, 1)
        self.assertIn("fuseline_serving_bridge_requests_total", ranker.metrics())


if __name__ == "__main__":
    unittest.main()
