#!/usr/bin/env python3
"""The same request gives the same text, whatever else runs and however the node was started: alone or beside others, with a reused prefix or without,
set back for want of pages, with any number of places, slots, workers, any chunk and instruction set."""
import re

from live import Live, least_memory, talkative
from node import Folder, done, ok

IDS = [5 + j * 13 % 250 for j in range(700)]
REQUESTS = [
    {"prompt": "a short prompt", "max_tokens": 60, "seed": 1, "temperature": 1},
    {"prompt": IDS[:300], "max_tokens": 30, "seed": 2, "temperature": 1, "top_p": 0.8},
    {"prompt": IDS[:300] + [9] + IDS[300:600], "max_tokens": 30, "seed": 3, "temperature": 0.7, "top_k": 20},
    {"prompt": IDS[:256], "max_tokens": 30, "seed": 4, "temperature": 0},
    {"prompt": IDS[50:], "max_tokens": 20, "seed": 5, "temperature": 1.5, "min_p": 0.05},
    {"prompt": [7], "max_tokens": 50, "seed": -6, "temperature": 1},
]


def together(node, requests):
    streams = [node.stream(**r) for r in requests]
    return [s.result() or s.error for s in streams]


def compare(got, want, name):
    wrong = [f"request {i}: {g} instead of {w}" for i, (g, w) in enumerate(zip(got, want)) if isinstance(g, str) or g != w]
    return ok(not wrong and len(got) == len(want), name, "\n".join(wrong))


def start(f, *options):
    node = Live(f.socket, f.model, *options)
    if node.failed:
        ok(False, f"a node starts with {' '.join(options)}", node.failed)
        node.stop()
        return None
    return node


with Folder() as f:
    talkative(f.make_model())
    node = start(f, "--memory", "200M", "--threads", "1", "--parallel", "1", "--context", "2048")
    if not node:
        done()
    want = [node.stream(**r).result() for r in REQUESTS]
    if not ok(all(want), "one after the other on a node with one place", want):
        done()
    ok(len({w.text for w in want}) == len(want), "the replies differ from one another")
    compare(together(node, REQUESTS[1:]), want[1:], "all at once on a node with one place, where four may wait")
    node.stop()

    # a node that drafts may read a prompt's last tokens again
    node = start(f, "--memory", "200M", "--parallel", "8", "--context", "2048", "--mtp", "off")
    compare(together(node, REQUESTS), want, "all at once on a node with eight places")
    # two prompts share 300 tokens, two others 256: each keeps its own pages all the same
    turn = [node.stream(**dict(r, max_tokens=10)).result() for r in REQUESTS]
    ok(all(t.cached == t.prompt_tokens - 1 for t in turn), "a prompt that was read is not read again", turn)
    ok(all(w.text.startswith(t.text.rstrip("�")) for t, w in zip(turn, want)), "and gives the same tokens", turn)
    compare(together(node, REQUESTS * 3), want * 3, "three times at once, with shared and copied pages")
    compare([node.stream(**r).result() for r in reversed(REQUESTS)], want[::-1], "again, one after the other, from kept pages")
    hits = node.metrics()
    ok(hits["cached_tokens"] > 2 * sum(w.prompt_tokens for w in want), "most prompt tokens came from kept pages", hits)
    node.stop()

    for options in (["--slots", "2", "--chunk", "7"], ["--slots", "5", "--chunk", "512", "--threads", "1"], ["--chunk", "1"],
                    ["--threads", "3", "--chunk", "64"], ["--mtp", "on", "--chunk", "40"], ["--mtp", "auto"], ["--isa", "scalar"], ["--isa", "avx2"], ["--isa", "avx512"]):
        node = start(f, "--memory", "200M", "--context", "2048", *options)
        if node:
            some = [0, 5] if "scalar" in options else range(len(REQUESTS))  # scalar code takes a minute for them all
            compare(together(node, [REQUESTS[i] for i in some]), [want[i] for i in some], f"all at once with {' '.join(options)}")
            node.stop()

    # one sequence's context and one page: any two that overlap need more than there is, so unless each runs alone one is set back
    few = [{"prompt": IDS[i:i + 200], "max_tokens": 800, "seed": i, "temperature": 1} for i in range(4)]
    node = start(f, "--memory", "200M", "--context", "1024")
    want = [node.stream(**r).result() for r in few]
    node.stop()
    options = ["--context", "1024", "--chunk", "16"]
    node = start(f, "--memory", f"{least_memory(f.model, *options)}M", *options)
    if node:
        ok(re.search(r"\b5 of 33 KV pages", node.output()), "a node with the fewest pages", node.output())
        for _ in range(20):
            got = together(node, few)
            m = node.metrics()
            if got != want or m["preempted"]:
                break
        compare(got, want, "set back for want of pages and computed again")
        ok(m["preempted"] > 0, "sequences were set back", m)
        ok(m["second_rows"] > 0, "decode rows ran in two batches of opposite phase too", m)
        ok(m["running"] == 0 and m["queued"] == 0, "nobody is left waiting", m)
        ok(node.stop() == 0, "the node ends", node.output())
done()
