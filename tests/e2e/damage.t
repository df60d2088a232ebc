#!/usr/bin/env python3
"""Deaths in awkward moments: while weights are loaded, while slots are filled from the drive, between the parts of a prefill step that has met a damaged expert,
and with clients that go away. Replies are the same or end with an error; nothing hangs and nothing is left over.

    tests/e2e/damage.t [KILLS]      kills per part (default 30)
"""
import json
import os
import random
import struct
import sys
import threading
import time

from live import Live, least_memory, talkative
from node import SERVERS, Folder, dial, done, ok, wait_until

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")
rng = random.Random(SEED)
OPTIONS = ("--memory", "120M", "--context", "1024", "--slots", "40", "--chunk", "512")
PROMPTS = [[5 + i] + [5 + j * (3 + i) % 250 for j in range(499)] for i in range(3)]


def damage_expert(model, layer, expert):
    """An E4M3 NaN in one number of an expert."""
    path = os.path.join(model, "model.safetensors")
    with open(path, "r+b") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        begin = json.loads(f.read(n))[f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"]["data_offsets"][0]
        f.seek(8 + n + begin + 1000)
        f.write(b"\x7f")


class Killer(threading.Thread):
    """Kills servers until told to stop."""

    def __init__(self, node, programs, pause):
        super().__init__(daemon=True)
        self.node, self.programs, self.pause, self.kills, self.stopped = node, programs, pause, 0, False
        self.start()

    def run(self):
        while not self.stopped:
            time.sleep(rng.uniform(*self.pause))
            self.kills += len(self.node.kill(rng.choice(self.programs)))

    def stop(self):
        self.stopped = True
        self.join()
        return self.kills


def quiet(node, name):
    m = node.metrics()
    ok(m["running"] == 0 and m["queued"] == 0, f"{name}: no request is left", m)
    ok(wait_until(lambda: not node.zombies() and set(SERVERS) <= set(node.children()), 5), f"{name}: every server lives, no zombie is left")


with Folder() as f:
    talkative(f.make_model("--experts", "128", "--layers", "3", "--experts-per-token", "8"))
    calm = Live(f.socket, f.model, "--memory", "300M", "--context", "1024", "--chunk", "512")
    if not ok(not calm.failed, "a node starts", calm.failed):
        done()
    want = [calm.stream(p, 60, seed=i, temperature=1).result() for i, p in enumerate(PROMPTS)]
    ok(all(want), "replies without a kill", want)
    want_few = [calm.stream(p[:200 + 50 * i], 200, seed=i, temperature=1).result() for i, p in enumerate(PROMPTS)]
    calm.stop()

    # slots are far fewer than experts: at any time some are being filled
    node = Live(f.socket, f.model, *OPTIONS)
    ok(not node.failed, "a node with few slots starts", node.failed)
    wrong, killer, rounds = [], Killer(node, ["experts"], (0.005, 0.12)), 0
    while killer.kills < KILLS and not wrong:
        streams = [node.stream(p, 60, seed=i, temperature=1) for i, p in enumerate(PROMPTS)]
        got = [s.result(60) for s in streams]
        wrong = [f"{s.error} {g} {w}" for s, g, w in zip(streams, got, want) if not g or g.raw != w.raw]
        rounds += 1
    kills = killer.stop()
    ok(not wrong, "experts killed while slots are filled: the same bytes", "\n".join(wrong))
    print(f"# {kills} kills in {rounds} rounds")
    quiet(node, "few slots")

    # clients that go away, in prefill and in decode, while servers die
    killer = Killer(node, SERVERS, (0.02, 0.2))
    for i in range(KILLS):
        c = dial(node.path)
        body = json.dumps({"prompt": [rng.randrange(5, 200)] + PROMPTS[i % 3][1:], "max_tokens": 100, "stream": True}).encode()
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(rng.uniform(0, 0.15))
        c.close()
    kills = killer.stop()
    ok(wait_until(lambda: node.metrics()["running"] == 0 and node.metrics()["queued"] == 0, 10), "requests of clients that are gone end", node.metrics())
    print(f"# {kills} kills")
    ok(node.stream(PROMPTS[0], 60, seed=0, temperature=1).result() == want[0], "and the node answers as before")
    ok(node.stop() == 0, "it ends with status 0", node.output())

    # the fewest pages and slots: sequences are set back and computed again, and every server dies meanwhile
    few = ("--context", "1024", "--slots", "2", "--chunk", "256", "--parallel", "4")
    node = Live(f.socket, f.model, "--memory", f"{least_memory(f.model, *few)}M", *few)
    ok(not node.failed, "a node with the fewest pages and slots starts", node.failed)
    killer = Killer(node, SERVERS, (0.005, 0.1))
    streams = [node.stream(p[:200 + 50 * i], 200, seed=i, temperature=1) for i, p in enumerate(PROMPTS)]
    got = [s.result(90) for s in streams]
    kills = killer.stop()
    preempted = node.metrics()["preempted"]
    wrong = [f"{s.error} {g} {w}" for s, g, w in zip(streams, got, want_few) if not g or g.raw != w.raw]
    ok(not wrong, "set back for want of pages while servers are killed: the same bytes", "\n".join(wrong))
    print(f"# {kills} kills, {preempted} times set back")
    quiet(node, "few pages")
    ok(node.stop() == 0, "it ends with status 0", node.output())

    # deaths while the weights are still loaded: a node is there as soon as its socket is
    wrong = []
    for _ in range(6):
        node = Live.__new__(Live)
        Live.begin(node, f.socket, f.model, *OPTIONS)
        end = time.monotonic() + 20
        while "penstock: ready" not in node.output() and time.monotonic() < end and node.process.poll() is None:
            node.kill(rng.choice(SERVERS))
            time.sleep(0.002)
        wait_until(lambda: set(SERVERS) <= set(node.children()), 10)
        r = node.complete(PROMPTS[1], 60, seed=1, temperature=1) if node.process.poll() is None else None
        if r != want[1]:
            wrong.append(f"{r} {node.output()}")
        node.stop()
    ok(not wrong, "servers killed while weights are loaded: the node comes up and answers", "\n".join(wrong))

    # a damaged expert of the lowest number: rows that need it have failed in the first part of a step, whatever dies later
    damage_expert(f.model, 2, 0)
    node = Live(f.socket, f.model, *OPTIONS)
    ok(not node.failed, "a node starts on a model with a damaged expert", node.failed)
    s = node.stream(PROMPTS[0], 20, seed=0, temperature=1)
    s.result()
    ok(s.error and "xpert" in s.error, "a request that needs it ends with an error", f"{s.error} {s.reply}")
    wrong, killer, rounds, errors = [], Killer(node, ["experts"], (0.005, 0.06)), 0, set()
    while killer.kills < KILLS and not wrong:
        s = node.stream([rng.randrange(5, 200)] + PROMPTS[0][1:], 20, seed=0, temperature=1)
        s.result(60)
        rounds += 1
        if s.reply or not s.error or "xpert" not in s.error:
            wrong.append(f"{s.error} {s.reply}")
    kills = killer.stop()
    ok(not wrong, "and never goes on without it, however often experts is killed", "\n".join(wrong))
    print(f"# {kills} kills in {rounds} rounds")
    quiet(node, "damaged expert")
    ok(node.stop() == 0, "it ends with status 0", node.output())
done()
