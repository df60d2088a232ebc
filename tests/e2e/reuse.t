#!/usr/bin/env python3
"""Kept pages are found by what they hold: a page into which the beginning of another was copied is not taken for what was in its place before."""
from live import Live, least_memory, talkative
from node import Folder, done, ok

IDS = [5 + j * 13 % 250 for j in range(400)]


def request(*prompt, seed, max_tokens=20):
    return {"prompt": list(prompt), "max_tokens": max_tokens, "seed": seed, "temperature": 1}


with Folder() as f:
    talkative(f.make_model())
    four = [request(20 + i, 30 + i, *IDS[i:i + 100], seed=i) for i in range(4)]
    last = [request(20 + i, 30 + i, *IDS[200:300], seed=10 + i) for i in range(4)]
    node = Live(f.socket, f.model, "--memory", "200M", "--context", "1024")
    want = [node.stream(**r).result() for r in last]
    ok(all(want), "replies of a node with many pages", node.output())
    node.stop()

    options = ["--context", "1024", "--chunk", "16"]
    node = Live(f.socket, f.model, "--memory", f"{least_memory(f.model, *options)}M", *options)
    for r in four:  # four pages are all there are
        node.stream(**r).result()
    running = node.stream(**request(40, 50, 60, seed=20, max_tokens=200))
    ok(running.wait_for_events(3), "one runs on a page of its own", running.error)
    # begins with two rows of that page, copied into the place of one of the four
    node.stream(**request(40, 50, 61, seed=21, max_tokens=3)).result()
    ok(running.is_alive(), "and still runs when its beginning has been copied")
    got = [node.stream(**r).result() for r in last]
    ok(got == want, "prompts that begin like the four give the same tokens", f"{got} instead of {want}")
    running.result()
    ok(node.stop() == 0, "the node ends", node.output())
done()
