#!/usr/bin/env python3
"""Drafting on and off, side by side: the same generations in turn on two nodes of one model, in memory.

    tests/bench/mtp.py [MODEL [ROUNDS [AT_ONCE [MODE...]]]]     default: images/demo, 5 rounds, 1 at once, off and on

Prints the decode rate of each mode (tokens behind the first, by the time they took; median of the rounds) and what share of the drafts was right.
A measurement, not a test; nothing else should run beside it."""
import os
import statistics
import sys
import threading

from_here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(from_here, "..", "e2e"))
from live import Live  # noqa: E402
from node import ROOT, Folder  # noqa: E402

MODEL = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "images", "demo")
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
AT_ONCE = int(sys.argv[3]) if len(sys.argv) > 3 else 1
MODES = sys.argv[4:] or ["off", "on"]
PROMPTS = ["A penstock is the pipe that", "The gate picks", "Only the experts that", "Every byte that two processes see", "The router starts a pass",
           "A server that dies"]


def decode_rate(node, temperature):
    """Tokens per second of all streams together, the first token of each not counted."""
    tokens, seconds, left, lock = [0], [0.0], list(enumerate(PROMPTS * AT_ONCE)), threading.Lock()

    def work():
        while True:
            with lock:
                if not left:
                    return
                i, prompt = left.pop()
            s = node.stream(prompt=f"{prompt}", max_tokens=120, temperature=temperature, seed=i)
            r = s.result()
            with lock:
                tokens[0] += r.tokens - 1
                seconds[0] += s.times[-1] - s.times[0]

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return tokens[0] / (seconds[0] / AT_ONCE)


with Folder() as f:
    nodes = {m: Live(f"{f.socket}.{m}", MODEL, "--mtp", m, "--context", "1024") for m in MODES}
    for m, node in nodes.items():
        if node.failed:
            sys.exit(f"{m}: {node.failed}")
    for temperature in (0, 1):
        rate = {m: [] for m in MODES}
        before = {m: n.metrics() for m, n in nodes.items()}
        for k in range(ROUNDS + 1):
            for m, node in nodes.items():
                r = decode_rate(node, temperature)
                if k:  # the first round warms up
                    rate[m].append(r)
        for m, node in nodes.items():
            now = node.metrics()
            d = {k: now[k] - before[m][k] for k in ("tokens", "passes", "mtp_passes", "drafted_tokens", "accepted_tokens")}
            print(f"temperature {temperature}, {AT_ONCE} at once, --mtp {m}: {statistics.median(rate[m]):.0f} tokens/s (spread {min(rate[m]):.0f}-"
                  f"{max(rate[m]):.0f}), {statistics.median(rate[m]) / statistics.median(rate[MODES[0]]):.2f} of {MODES[0]}; {d['tokens']} tokens, "
                  f"{d['passes'] - d['mtp_passes']} passes, {d['mtp_passes']} of MTP, {d['accepted_tokens']} of {d['drafted_tokens']} drafts right", flush=True)
    for node in nodes.values():
        node.stop()
