#!/usr/bin/env python3
"""A server that is killed in the middle of a streamed reply changes no byte of it: each server, in prefill and in decode, all at once, and dozens of
times over several streams. Nothing is left over: no zombie, no descriptor, no map of init, no request that hangs.

    tests/e2e/resume.t [KILLS]      random kills (default 60)
"""
# time limit: 900 s
import os
import random
import sys
import time

from live import Live, talkative
from node import SERVERS, Folder, done, ok, wait_until

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")
rng = random.Random(SEED)

VICTIMS = [[s] for s in SERVERS] + [SERVERS]
SHORT = {"prompt": "hello world", "max_tokens": 250, "seed": 7, "temperature": 1}


LONG, TRIES = 800, 2


def long_prompt(i, n=0):
    """No two share their first page."""
    return {"prompt": [5 + i, 100 + n] + [5 + j * (7 + i) % 250 for j in range(LONG - 2)], "max_tokens": 20, "seed": i, "temperature": 1}


MIXED = [{"prompt": [5 + i] + [5 + j * 11 % 250 for j in range(100 * i)], "max_tokens": 120, "seed": 100 + i, "temperature": [1, 0.6, 0][i % 3],
          "top_p": [1, 0.9][i % 2], "top_k": [0, 40][i // 3]} for i in range(6)]


def differ(stream, want):
    """Why a stream is not the reply that it should be; "" if it is."""
    if not stream.reply:
        return stream.error or "no reply"
    if stream.reply.raw == want.raw:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(stream.reply.raw, want.raw)) if a != b), 0)
    return f"byte {at} of {len(want.raw)}: {stream.reply.raw[at - 200:at + 100]} {want.raw[at - 200:at + 100]}"


def kill_in_decode(node, programs, want):
    """A fast machine may have ended the reply by then: it is tried again."""
    for _ in range(20):
        s = node.stream(**SHORT)
        if not s.wait_for_events(rng.randrange(20, 150)):
            return f"no events: {s.error}"
        pids = node.kill(*programs)
        early = len(s.events) < 240
        s.result(200)
        why = differ(s, want) or ("" if len(pids) == len(programs) else "not all were there to be killed")
        if why or early:
            return why
    return "the reply was always there before the kill"


def kill_in_prefill(node, programs, i, wants):
    """The same, with another prompt each time: what was computed once is not computed again."""
    for n, want in enumerate(wants):
        before = node.metrics()["prompt_tokens"]
        s = node.stream(**long_prompt(i, n))
        computed = 0
        while computed < 100 and s.is_alive():
            computed = node.metrics()["prompt_tokens"] - before
        node.kill(*programs)
        s.result(200)
        why = differ(s, want)
        if why or 100 <= computed < LONG - 50:
            return why
    return f"killed after {computed} of {LONG} tokens"


def kill_at_random(node, wants):
    """Kills over streams that follow one another; what went wrong."""
    wrong, kills, streams = [], 0, [None] * len(MIXED)
    while kills < KILLS or any(streams):
        for i, s in enumerate(streams):
            if s and (not s.is_alive() or time.monotonic() - s.begin > 200):
                why = differ(s, wants[i]) if not s.is_alive() else f"stuck after {len(s.events)} events"
                wrong += [f"stream {i}: {why}"] if why else []
                streams[i] = None
                if why.startswith("stuck"):
                    return wrong, kills
            if not streams[i] and kills < KILLS:
                streams[i] = node.stream(**MIXED[i])
                streams[i].begin = time.monotonic()
        time.sleep(rng.uniform(0.005, 0.06))
        if kills < KILLS:
            kills += len(node.kill(*rng.sample(SERVERS, rng.choice([1, 1, 1, 2, 4]))))
    return wrong, kills


with Folder() as f:
    talkative(f.make_model())
    options = ("--memory", "160M", "--chunk", "16", "--context", "2048", "--slots", "40")
    node = Live(f.socket, f.model, *options[:3], "128", *options[4:])  # larger chunks: faster, and the same
    if not ok(not node.failed, "a node starts", node.failed):
        done()
    calm = node.stream(**SHORT).result()
    calm_long = [[node.stream(**long_prompt(i, n)).result() for n in range(TRIES)] for i in range(len(VICTIMS))]
    calm_mixed = [node.stream(**m).result() for m in MIXED]
    ok(all([calm, *sum(calm_long, []), *calm_mixed]) and calm.tokens == 250, "replies without a kill", [calm, calm_long, calm_mixed])
    ok(node.stop() == 0, "the undisturbed node ends", node.output())

    node = Live(f.socket, f.model, *options)
    ok(not node.failed, "a second node starts", node.failed)
    node.complete("warm", 3)
    wait_until(lambda: node.metrics()["connections"] <= 1)
    time.sleep(0.5)
    before = node.descriptors(), node.maps()
    for i, programs in enumerate(VICTIMS):
        name = programs[0] if len(programs) == 1 else "all four at once"
        why = kill_in_prefill(node, programs, i, calm_long[i])
        ok(not why, f"{name}, killed in prefill: the same bytes", why)
        why = kill_in_decode(node, programs, calm)
        ok(not why, f"{name}, killed in decode: the same bytes", why)
    begin = time.monotonic()
    wrong, kills = kill_at_random(node, calm_mixed)
    ok(not wrong, "random kills over six streams: the same bytes", "\n".join(wrong[:5]))
    print(f"# {kills} kills in {time.monotonic() - begin:.1f} s")
    ok(node.complete(SHORT["prompt"], 250, seed=7, temperature=1) == calm, "the node answers as before")
    m = node.metrics()
    ok(m["running"] == 0 and m["queued"] == 0, "no request is left in the router", m)
    ok(wait_until(lambda: not node.zombies(), 3), "no zombie is left", node.zombies())
    ok(wait_until(lambda: (node.descriptors(), node.maps()) == before, 5), "no descriptor and no map of init is lost",
       f"{before} before, {node.descriptors()} {node.maps()} after")
    ok(node.stop() == 0, "SIGTERM ends it with status 0", node.output())
done()
