#!/usr/bin/env python3
"""A row that ends its server whenever it is computed costs its own request an error, and nobody else anything: the step is found, done row by row
by the scalar reference, and the row left out. Servers with such a fault (poison_*.c) take the place of mla, experts and router."""
# time limit: 600 s
import os
import re
import shutil

from live import Live, talkative
import live
from node import BIN, ROOT, Folder, done, ok, wait_until

OPTIONS = ("--memory", "200M", "--chunk", "32", "--context", "1024")


def prompt(i, n):
    return {"prompt": [5 + i] + [5 + j * (7 + i) % 250 for j in range(n - 1)], "max_tokens": 12, "seed": i, "temperature": 1}


BAD = prompt(1, 310)      # reaches position 300; of router's, prompt(1, 301) draws position 301
GOOD = [prompt(2, 250), prompt(3, 240), dict(prompt(4, 20), max_tokens=150)]


def restarts(node, server, cause):
    found = re.search(rf'penstock_restarts_total{{server="{server}",cause="{cause}"}} (\d+)', node.get("/metrics")[1].decode())
    return int(found[1]) if found else None


with Folder() as f:
    talkative(f.make_model())
    # of mla: two deaths for each request that reaches position 200, then as the others
    node = Live(f.socket, f.model, *OPTIONS)
    ok(not node.failed, "a node without a fault starts", node.failed)
    calm = [node.stream(**g).result() for g in GOOD]
    ok(all(calm) and node.stream(**BAD).result(), "and answers everything", calm)
    ok(node.stop() == 0, "it ends", node.output())

    for program, deaths in (("mla", 9), ("experts", 3), ("router", 3)):
        bin_ = os.path.join(f.path, "bin." + program)
        shutil.copytree(BIN, bin_)
        shutil.copy(os.path.join(ROOT, "build", "test", "poison_" + program), os.path.join(bin_, program))
        live.BIN = bin_
        node = Live(f.socket, f.model, *OPTIONS)
        ok(not node.failed, f"a node with a fault in {program} starts", node.failed)
        good = [node.stream(**g) for g in GOOD]
        good[2].wait_for_events(3)
        bad = node.stream(**(prompt(1, 301) if program == "router" else BAD))
        bad.result(60)
        ok(bad.error and "poison" in bad.error and program in bad.error and "three times" in bad.error,
           f"{program}: the request that ends it gets an error that says so", bad.error or bad.reply)
        got = [g.result(60) for g in good]
        ok(all(a and a.raw == b.raw for a, b in zip(got, calm)), f"{program}: the others' bytes are the same",
           [g.error or g.reply for g in good])
        n = restarts(node, program, "crashed")
        ok(n is not None and deaths <= n <= deaths + 6, f"{program}: it took few deaths", n)
        ok(wait_until(lambda: node.get("/health")[0] == 200, 8), f"{program}: the node is well afterwards", node.get("/health"))
        m = node.metrics()
        ok(m["running"] == 0 and m["queued"] == 0, f"{program}: nothing is left over", m)
        ok(node.stop() == 0, f"{program}: the node ends", node.output())
done()
