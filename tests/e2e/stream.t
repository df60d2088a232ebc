#!/usr/bin/env python3
"""A model larger than its memory: the node stays within a budget of a third of the routed experts, and what it says it read is what the kernel counted.

    tests/e2e/stream.t              0.6 GB of experts
    tests/e2e/stream.t --big [DIR]  6.6 GB, made in DIR (default /tmp) and removed afterwards
"""
# time limit: 900 s
import os
import shutil
import sys
import time

from live import Cgroup, Live, PssPeak, drive_bytes, talkative
from node import Folder, done, ok

BIG = "--big" in sys.argv
SHAPE = {False: {"layers": 7, "hidden": 1024, "moe-intermediate": 512, "experts": 64},
         True: {"layers": 13, "hidden": 2048, "moe-intermediate": 1408, "experts": 64, "intermediate": 8192, "heads": 16, "kv-lora-rank": 512,
                "q-lora-rank": 768, "nope-dim": 128, "rope-dim": 64, "v-dim": 128, "vocab": 32000}}[BIG]
TOP_K, TOKENS, PROMPT = 6, 160 if BIG else 120, 512
MIB = 1 << 20


class Window:
    """Counters of node and kernel between two moments."""

    def __init__(self, node):
        self.node = node
        self.start = self.look()

    def look(self):
        return {"time": time.monotonic(), "io": self.node.io("experts")["read_bytes"], "drive": drive_bytes(self.node.model) or 0, **self.node.metrics()}

    def close(self):
        end = self.look()
        for key, value in self.start.items():
            setattr(self, key, end.get(key, 0) - value)
        asked = self.expert_hits + self.expert_misses
        self.hit_rate = self.expert_hits / asked if asked else 0
        return self

    def line(self, what, tokens):
        return (f"# {what}: {tokens / self.time:.2f} tokens/s, {self.read_bytes / tokens / 1e6:.2f} MB per token, hit rate {self.hit_rate:.3f}, "
                f"read {self.read_bytes / 1e9:.3f} GB (process {self.io / 1e9:.3f}, drive {self.drive / 1e9:.3f}), "
                f"{self.read_bytes / self.time / 1e9:.2f} GB/s, {self.drive_wait_ns / 1e7 / self.time:.0f} % of the time waiting for the drive")


def check(w, what, tokens, rows_need, slot):
    print(w.line(what, tokens))
    ok(w.expert_hits + w.expert_misses == rows_need if rows_need else w.expert_misses > 0, f"{what}: every expert that a token needs is a hit or a miss",
       f"{w.expert_hits} + {w.expert_misses}, {rows_need}")
    # and, as the issue of speed allows, what was read on a guess and not needed: at most a twentieth
    ok(0 <= w.read_bytes - w.expert_misses * slot <= w.expert_misses * (3 * 8192 + slot // 20), f"{what}: what is read is the missing experts, and little more",
       f"{w.read_bytes} bytes, {w.expert_misses} times {slot}")
    if w.io or not w.read_bytes:
        ok(abs(w.io - w.read_bytes) <= 0.01 * w.read_bytes, f"{what}: the kernel counted the same for the process", f"{w.io} {w.read_bytes}")
        if drive_bytes(w.node.model) is None:
            print(f"# {what}: no drive is known below the file (no /sys?): its counts are not compared")
        else:
            ok(w.drive >= 0.99 * w.read_bytes, f"{what}: and no less for the drive", f"{w.drive} {w.read_bytes}")
    else:
        print(f"# {what}: this file system counts no reads: what the kernel saw is not compared")


with Folder() as f:
    place = ([a for a in sys.argv[1:] if a != "--big"] or [f.path])[0]
    os.makedirs(place, exist_ok=True)
    f.model = os.path.join(place, f"penstock-stream-{os.getpid()}")
    if shutil.disk_usage(place).free < (12 << 30 if BIG else 2 << 30):
        print("1..0 # SKIP too little room on the disk")
        sys.exit(0)
    try:
        options = [x for key, value in SHAPE.items() for x in (f"--{key}", str(value))]
        begin = time.monotonic()
        talkative(f.make_model("--experts-per-token", str(TOP_K), *options))
        moe_layers = SHAPE["layers"] - 1
        expert = 3 * SHAPE["hidden"] * SHAPE["moe-intermediate"]
        routed = moe_layers * SHAPE["experts"] * expert
        budget = routed // 3 // MIB
        print(f"# {routed / 1e9:.2f} GB of routed experts, made in {time.monotonic() - begin:.1f} s; --memory {budget}M")
        cgroup = Cgroup()
        begin = time.monotonic()
        node = Live(f.socket, f.model, "--memory", f"{budget}M", "--context", "2048", "--parallel", "4", "--mtp", "off", cgroup=cgroup, seconds=120)
        node.model = f.model
        ok(not node.failed, "the node starts with a third of the experts' size", node.failed)
        if node.failed:
            done()
        print(f"# ready after {time.monotonic() - begin:.1f} s")
        print("# " + node.output().strip().replace("\n", "\n# "))
        pss = PssPeak(node, 0.2)
        prompt = [5 + j * 13 % 250 for j in range(PROMPT)]
        w = Window(node)
        first = node.complete(prompt, 1, seed=1, temperature=1)
        check(w.close(), "prefill", PROMPT, None, expert)
        w = Window(node)
        reply = node.complete([9], TOKENS, seed=2, temperature=1)
        w.close()
        check(w, "decode, cold", TOKENS, TOKENS * TOP_K * moe_layers, expert)
        w = Window(node)
        again = node.complete([9], TOKENS, seed=2, temperature=1)
        w.close()
        check(w, "decode, the same again", TOKENS, TOKENS * TOP_K * moe_layers, expert)
        ok(again == reply and reply.tokens == TOKENS, "the same text whichever experts were in slots", f"{reply} {again}")
        streams = [node.stream([9 + i], TOKENS // 4, seed=i, temperature=1) for i in range(4)]
        w = Window(node)
        ok(all(s.result() for s in streams), "four at once are answered", [s.error for s in streams])
        w.close()
        print(w.line("decode, four at once", TOKENS))
        peak = pss.stop()
        print(f"# peak: Pss {peak / MIB:.0f} MiB" + (f", memory cgroup {cgroup.peak() / MIB:.0f} MiB" if cgroup.path else "") + f", budget {budget} MiB")
        ok(peak < budget * MIB, "the sum of Pss never exceeds the budget", peak)
        if cgroup.path:
            ok(cgroup.peak() < budget * MIB, "nor does the memory cgroup's peak", cgroup.peak())
        ok(node.stop() == 0, "the node ends", node.output())
        cgroup.close()
    finally:
        shutil.rmtree(f.model, ignore_errors=True)
done()
