#!/usr/bin/env python3
"""`bench --replay` decides as a node does: a node with few slots is traced, and its counters of hits and misses are what the replay of the trace
counts with as many slots. Where a step computes in the order of the drive's answers and has not slots enough to ask for all at once, a replay can
only guess that order; here decode steps have enough, and the prefill's chunks are large enough to go in ascending order. What the node reads
on a guess (runtime/experts/hint.c) is not in a trace: it takes slots that a replay does not, which moves a hit in a hundred."""
import json
import os
import subprocess

from live import Live, talkative
from node import BIN, Folder, done, ok

SLOTS = 120  # of 3 MoE layers x 64 experts and MTP's


def counters(node):
    m = node.metrics()
    return [int(sum(v for k, v in m.items() if f"expert_{name}" in k)) for name in ("hits", "misses")], sum(v for k, v in m.items() if "hint_bytes" in k)


def replay(path, *options):
    out = subprocess.run([os.path.join(BIN, "penstock"), "bench", "--replay", path, "--json", *options], capture_output=True, text=True)
    return json.loads(out.stdout) if out.returncode == 0 else out.stderr


with Folder() as f:
    talkative(f.make_model("--layers", "4", "--experts", "64", "--experts-per-token", "8"))
    trace = os.path.join(f.path, "trace")
    node = Live(f.socket, f.model, "--memory", "400M", "--slots", str(SLOTS), "--chunk", "32", "--mtp", "off", "--trace-routes", trace)
    ok(not node.failed, "a node with few slots starts", node.failed)
    first = counters(node)
    for i in range(3):
        node.complete([9 + i] + [5 + j * (13 + i) % 250 for j in range(60)], 50, seed=i, temperature=1)
    (hits, misses), guessed = counters(node)
    ok(node.stop() == 0, "it ends", node.output())
    size = replay(trace, "--slots", str(SLOTS))
    got = size["sizes"][0]["penstock"]["hits"] if isinstance(size, dict) else size
    print("#", first, hits, misses, got)
    ok(isinstance(size, dict) and size["sizes"][0]["asked"] == hits + misses, "the replay asks as often as the node did", size)
    may_differ = 0.02 * (hits + misses) if guessed else 0
    ok(abs(got - hits) <= may_differ, "and has its hits", f"{got} replayed, {hits} of {hits + misses} counted; before the first question: {first}")
    made = os.path.join(f.path, "made")
    a, b = replay("synth:small", "--share", "20", "--write", made), replay(made, "--share", "20")
    ok(a == b and isinstance(a, dict), "a made-up trace that was written is the same when read", (a, b))
    ok("--share" in str(replay(made, "--share", "120")), "a share of more than all is refused")
done()
