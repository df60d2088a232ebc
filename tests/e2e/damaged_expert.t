#!/usr/bin/env python3
"""Damage to routed experts that a running node meets: the replies that need them end with an error that names file and tensor, others go on, /health turns
red and stays so, and the node lives."""
import json
import os
import shutil
import sys

from live import Live, talkative
from node import ROOT, Folder, done, ok

sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import checkpoint as ck  # noqa: E402

EXPERT = "model.layers.2.mlp.experts.5.up_proj.weight"
PROMPTS = [[1 + i, 2, 3 + i] for i in range(12)]


def ask(node, prompt):
    status, body = node.get("/v1/completions", {"prompt": prompt, "max_tokens": 12, "temperature": 0})
    d = json.loads(body)
    return status, d["choices"][0]["text"] if status == 200 else d["error"]


with Folder() as f:
    talkative(f.make_model("--layers", "3"))
    shard = os.path.join(f.model, "model.safetensors")
    options = ["--memory", "300M", "--slots", "4", "--threads", "1"]
    node = Live(f.socket, f.model, *options)
    right = [ask(node, p) for p in PROMPTS]
    ok(all(s == 200 for s, _ in right), "a whole model answers", right)
    shutil.copy(shard, shard + ".new")
    os.rename(shard + ".new", shard)
    ok(ask(node, PROMPTS[0]) == right[0] and node.get("/health")[0] == 200, "a file that is replaced by another does not disturb the node that has it open")
    node.stop()

    with open(shard, "r+b") as s:
        h, base = ck.header(s.read())
        s.seek(base + h[EXPERT]["data_offsets"][1] - 1)
        s.write(b"\x7f")
    node = Live(f.socket, f.model, *options)
    got = [ask(node, p) for p in PROMPTS]
    wrong = [e for s, e in got if s != 200]
    ok(wrong and all(e["code"] == "model_damaged" and f"model.safetensors: tensor {EXPERT}" in e["message"] for e in wrong),
       "replies that need a damaged expert end with an error that names file and tensor", got)
    ok(all(g == r for g, r in zip(got, right) if g[0] == 200) and len(wrong) < len(got), "the others are as they were", got)
    status, body = node.get("/health")
    ok(status == 503 and EXPERT in body.decode(), "/health is red and names it", body)
    stream = node.stream(PROMPTS[[s for s, _ in got].index(503)], 12, temperature=0)
    stream.result()
    ok(stream.error and "[DONE]" not in stream.error or "status 503" in stream.error, "a stream says so too", stream.error)
    node.stop()

    node = Live(f.socket, f.model, *options)
    os.truncate(shard, base + h[EXPERT]["data_offsets"][0] // 2)
    got = [ask(node, p) for p in PROMPTS]
    wrong = [e for s, e in got if s != 200]
    ok(wrong and all("model.safetensors: tensor model.layers." in e["message"] and "the file ends before it" in e["message"] for e in wrong),
       "a shard that is cut under a running node is named", got)
    ok(node.get("/health")[0] == 503 and node.get("/v1/models")[0] == 200 and not node.zombies(), "and the node lives")
    ok(node.stop() == 0, "and stops as always")
done()
