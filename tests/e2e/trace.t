#!/usr/bin/env python3
"""--trace-routes: the file holds one record for each row of the main model, with the experts it was sent to; however often servers are killed meanwhile,
no row stands there twice, and only a router's death may leave out those of one pass."""
import os
import random
import struct
import time

from live import Live, talkative
from node import Folder, done, ok

TRACE_FILE, TRACE_ROW = "<QIIIIIIII32s", "<QIIII"
PROMPTS = [[9 + i] + [5 + j * 13 % 250 for j in range(100)] for i in range(3)]
TOKENS = 100


def records(path):
    """(header, [(row, expert ids, weights)]) of a trace."""
    with open(path, "rb") as f:
        data = f.read()
    magic, version, size, layers, k, experts, first, _, _, _ = struct.unpack_from(TRACE_FILE, data)
    begin, pairs = struct.calcsize(TRACE_FILE), layers * k
    ids, weights = struct.calcsize(TRACE_ROW), struct.calcsize(TRACE_ROW) + (pairs * 2 + 3 & ~3)
    rows = [(struct.unpack_from(TRACE_ROW, data, at), struct.unpack_from(f"<{pairs}H", data, at + ids), struct.unpack_from(f"<{pairs}f", data, at + weights))
            for at in range(begin, len(data), size)]
    return (magic, version, layers, k, experts, first, (len(data) - begin) % size), rows


def by_sequence(rows):
    """{(prompt, position): expert ids}: prompts begin with different tokens, and which connection has which is chance."""
    first = {row[:2]: row[3] for row, _, _ in rows if row[2] == 0}
    return {(first.get(row[:2]), row[2]): ids for row, ids, _ in rows}


def run(f, name, victims=()):
    """The header, {(connection, request, position): how often} and the kills of the router."""
    path, kills = os.path.join(f.path, name), 0
    node = Live(f.socket, f.model, "--memory", "300M", "--trace-routes", path)
    if node.failed:
        ok(False, "a node starts", node.failed)
        done()
    streams = [node.stream(p, TOKENS, seed=i, temperature=1) for i, p in enumerate(PROMPTS)]
    while victims and any(s.is_alive() for s in streams):
        time.sleep(rng.uniform(0.005, 0.05))
        program = rng.choice(victims)
        kills += len(node.kill(program)) and program == "router"
    ok(all(s.result() for s in streams), f"{name}: the replies come", [s.error for s in streams])
    ok(node.stop() == 0, f"{name}: the node ends", node.output())
    head, rows = records(path)
    seen = {}
    for (request, conn, position, _, _), _, _ in rows:
        seen[conn, request, position] = seen.get((conn, request, position), 0) + 1
    return head, rows, seen, kills


rng = random.Random(7)
with Folder() as f:
    talkative(f.make_model())
    want = len(PROMPTS) * (len(PROMPTS[0]) + TOKENS - 1)
    head, rows, seen, _ = run(f, "calm")
    ok(head[0] == 0x4543415254534E50 and head[1] == 2 and head[6] == 0, "the file has its head and whole records", head)
    ok(len(rows) == len(seen) == want, "every row that was computed is there once", f"{len(rows)} {len(seen)} {want}")
    k, experts = head[3], head[4]
    groups = [ids[i:i + k] for _, ids, _ in rows for i in range(0, len(ids), k)]
    ok(all(list(g) == sorted(set(g)) and g[-1] < experts for g in groups), "with its experts of each layer in ascending order")
    ok(all(w > 0 for _, _, weights in rows for w in weights), "and their weights")
    calm = by_sequence(rows)
    _, rows, seen, kills = run(f, "killed", ("router", "mla", "experts"))
    ok(max(seen.values()) == 1, "no row is there twice when servers are killed", {k: n for k, n in seen.items() if n > 1})
    ok(want - len(seen) <= 300 * kills, "what is missing belongs to passes in which the router died", f"{want - len(seen)} rows, {kills} kills")
    ok(all(calm[where] == ids for where, ids in by_sequence(rows).items() if where[0]), "what is there is the same")
    print(f"# {kills} kills of the router, {want - len(seen)} of {want} rows missing")
done()
