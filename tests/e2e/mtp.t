#!/usr/bin/env python3
"""Drafting with the MTP module changes no token: greedy and sampled, one at a time and several at once, with reused prefixes, with servers killed at
random, at the limit, at an end token, at a stop string and at the end of the context, and where sequences are set back.

    tests/e2e/mtp.t [GENERATIONS [MODE]]      generations of the demo model (default 30), with --mtp MODE (default on)
"""
import json
import os
import random
import subprocess
import sys
import threading
import time

from live import Live, least_memory, talkative
from node import BIN, ROOT, SANDBOX, SERVERS, Folder, done, ok

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 30
MODE = sys.argv[2] if len(sys.argv) > 2 else "on"
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")
rng = random.Random(SEED)
DEMO = os.path.join(ROOT, "images", "demo")
QUESTIONS = ["What is a penstock?", "What is 347 + 589?", "How do I start a node?", "Who are you?", "What does the gate do?", "What is 12 * 7?",
             "Which processes are there?", "Sort 5 3 9 1.", "What is the router?", "Tell me about experts."]


def generation(i):
    """Every third asks two things; every third is greedy; limits from one token on."""
    turns = [{"role": "user", "content": rng.choice(QUESTIONS)}]
    if i % 4 == 1:
        turns += [{"role": "assistant", "content": "I do not know."}, {"role": "user", "content": rng.choice(QUESTIONS)}]
    return dict({"messages": turns, "max_tokens": [120, 60, 1, 2, 3][i % 5], "temperature": [0, 1, 0.7][i % 3], "seed": i, "top_p": [1, 0.9][i % 2]},
                **({"stop": ["a"]} if i % 7 == 3 else {}))


def answer(node, request):
    status, data = node.get("/v1/chat/completions" if "messages" in request else "/v1/completions", request)
    d = json.loads(data)
    if status != 200:
        return status, d
    choice = d["choices"][0]
    return choice.get("text") or choice["message"]["content"], choice["finish_reason"], d["usage"]["completion_tokens"]


def answers(node, requests, at_once=1, kills=0):
    """Answers in order of the requests, `at_once` at a time; servers are killed meanwhile. (answers, kills)"""
    got, left, lock, killed = [None] * len(requests), iter(range(len(requests))), threading.Lock(), 0

    def work():
        while True:
            with lock:
                i = next(left, None)
            if i is None:
                return
            got[i] = answer(node, requests[i])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        time.sleep(rng.uniform(0.005, 0.05))
        if killed < kills:
            killed += len(node.kill(*rng.sample(SERVERS, rng.choice([1, 1, 1, 2, 4]))))
    return got, killed


def compare(got, want, requests, name):
    wrong = [f"{r}: {g} instead of {w}" for g, w, r in zip(got, want, requests) if g != w]
    return ok(not wrong and len(got) == len(want), name, "\n".join(wrong[:3]))


def start(f, model, mode, *options):
    node = Live(f.socket, model, "--mtp", mode, *options)
    if not ok(not node.failed, f"a node starts with --mtp {mode} {' '.join(options)}", node.failed):
        done()
    return node


with Folder() as f:
    requests = [generation(i) for i in range(COUNT)]
    # what is left of the context after this prompt is asked for, and sampled to its end
    ids = [5 + i * 37 % 900 for i in range(480)]
    requests += [{"prompt": ids[:n], "max_tokens": 512 - n, "temperature": 1, "seed": n} for n in (480, 256, 255, 257)]
    options = ("--memory", "200M", "--context", "512")
    node = start(f, DEMO, "off", *options)
    want, _ = answers(node, requests)
    m = node.metrics()
    ok(all(len(w) == 3 for w in want) and m["drafted_tokens"] == m["mtp_passes"] == 0, "replies without drafts", [w for w in want if len(w) < 3] or m)
    node.stop()

    node = start(f, DEMO, MODE, *options)
    got, _ = answers(node, requests)
    compare(got, want, requests, "one after the other: the same tokens with drafts")
    m = node.metrics()
    print(f"# {m['tokens']} tokens in {m['passes'] - m['mtp_passes']} passes and {m['mtp_passes']} of the module; "
          f"{m['accepted_tokens']} of {m['drafted_tokens']} drafts were right")
    if MODE == "on":
        ok(m["accepted_tokens"] > m["drafted_tokens"] // 4 > 0, "drafts are verified, and some are right", m)
        ok(m["accepted_tokens"] < m["drafted_tokens"], "and some are wrong", m)
    first = m
    got, _ = answers(node, requests, at_once=6)
    compare(got, want, requests, "six at once, from kept pages: the same tokens")
    m = node.metrics()
    drafted, right = (m[k] - first[k] for k in ("drafted_tokens", "accepted_tokens"))
    if MODE == "on":
        ok(drafted and right / drafted > 0.8 * first["accepted_tokens"] / first["drafted_tokens"], "drafts are as good behind a reused prefix",
           f"{right} of {drafted}, before {first}")
    got, killed = answers(node, requests, at_once=6, kills=40)
    compare(got, want, requests, f"with {killed} servers killed meanwhile: the same tokens")
    m = node.metrics()
    ok(m["running"] == 0 and m["queued"] == 0, "nobody is left waiting", m)
    ok(node.stop() == 0, "the node ends", node.output())

    # a model of random numbers: nearly every draft is wrong; pages run out
    talkative(f.make_model())
    few = [{"prompt": [5 + j * 13 % 250 for j in range(i, i + 200)], "max_tokens": 800, "seed": i, "temperature": 1} for i in range(4)]
    node = start(f, f.model, "off", "--memory", "200M", "--context", "1024")
    want, _ = answers(node, few, at_once=4)
    node.stop()
    options = ["--context", "1024", "--chunk", "16", "--mtp", MODE]
    node = start(f, f.model, MODE, "--memory", f"{least_memory(f.model, *options)}M", *options[:-2])
    for _ in range(20):  # any two that overlap need more pages than there are; a fast machine may not let them
        got, _ = answers(node, few, at_once=4)
        if got != want or node.metrics()["preempted"]:
            break
    compare(got, want, few, "set back for want of pages: the same tokens")
    ok(node.metrics()["preempted"] > 0, "sequences were set back")
    node.stop()

    plain = os.path.join(f.path, "plain")
    subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", plain, "--mtp", "0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    r = subprocess.run([os.path.join(BIN, "penstock"), "run", plain, "--mtp", "on", "--socket", f.socket, *SANDBOX], capture_output=True, text=True, timeout=60)
    ok(r.returncode == 2 and "no MTP module" in r.stderr, "a model without the module cannot draft", r.stderr)
done()
