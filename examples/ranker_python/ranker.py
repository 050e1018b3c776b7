"""Ranks a request with the newest policy that Fuseline published:  python ranker.py fuseline.yaml"""
import sys
import time

import numpy as np

from fuseline_ranker import Ranker

ITEMS = ["a", "b", "c"]
SCORES = np.array([[0.2, 0.3, 20, 0.02, 0.01], [0.1, 0.6, 45, 0.05, 0.02], [0.4, 0.1, 8, 0.01, 0.0]], np.float32)  # click, valid, watch, like, share

with Ranker(sys.argv[1] if len(sys.argv) > 1 else None, name="example-python") as ranker:
    # Never needed in production: until a version is there, the static weights serve.
    for _ in range(100):
        if ranker.state().version > 0:
            break
        time.sleep(0.1)

    # No features: the schema's defaults.
    decision = ranker.rank(request_id="r1", user_id="u42", surface="feed", event_time_ms=int(time.time() * 1000), item_ids=ITEMS, task_scores=SCORES)
    fused = " ".join(f"{ITEMS[i]}={score:.5g}" for i, score in zip(decision.order, decision.fused_scores))
    print(f"version {decision.policy_version}, best first: {fused}")
