#!/usr/bin/env python3
"""Malformed requests by the thousand, at the rate that the node takes them: several connections at once, JSON and framing that are wrong in many ways and
mutations of requests that are right, pipelined where the connection survives it. Each gets an answer or its connection is closed; nothing dies, memory and
descriptors stay as they were, and the node answers as before.

    tests/e2e/malformed.t [REQUESTS [CONNECTIONS]]      default 5000, 3
"""
# time limit: 300 s
import collections
import json
import multiprocessing
import os
import random
import re
import socket
import sys
import time

from live import Live, talkative
from node import Folder, dial, done, ok

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
PARALLEL = int(sys.argv[2]) if len(sys.argv) > 2 else 3
WARM = max(2000, COUNT // 50)  # before memory is looked at for the first time
PIPELINE = 24
SIZES = re.compile(rb"HTTP/1\.1 (\d+)[^\r]*\r\n(?:[^\r]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r]+\r\n)*?\r\n")

TARGETS = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]
BODIES = {
    "/v1/completions": [b'{"prompt":"hello","temperature":0.5,"stop":["a","b"],"seed":7,"max_tokens":-1}',
                        b'{"prompt":[1,2,3],"logprobs":null,"top_p":0.9,"stream":true,"stream_options":{"include_usage":true},"max_tokens":0}'],
    "/v1/chat/completions": [b'{"messages":[{"role":"system","content":"x"},{"role":"user","content":[{"type":"text","text":"hi"}]}],"n":2}',
                             b'{"model":"m","messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00"}],"tools":[],"max_completion_tokens":1e9}'],
    "/tokenize": [b'{"content":"The quick brown fox","add_special":false}', b'{"content":7}'],
    "/detokenize": [b'{"tokens":[1,2,3,99999999]}', b'{"tokens":[[0]]}'],
}
PIECES = [b"", b"null", b"-1", b"1e999", b"18446744073709551616", b"\"", b"\\", b"\\ud800", b"{", b"}", b"[" * 200, b"]", b",", b":", b"\x00", b"\xff\xfe",
          b"\xc0\x80", b"\xed\xa0\x80", b"true", b"NaN", b"0.1.2", b"\"stop\":", b"\"role\":\"tool\"", b"<|endoftext|>", b"/**/", b" " * 300]


def mutate(r, data):
    data = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        at, kind = r.randrange(len(data) + 1), r.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << r.randrange(8)
        elif kind == 1:
            data[at:at] = r.choice(PIECES)
        elif kind == 2:
            del data[at:at + r.choice((1, 2, 8, 40))]
        elif kind == 3:
            data[at:at + 1] = bytes([r.randrange(256)])
        else:
            del data[at:]
    return bytes(data)


def whole(target, body, method=b"POST", extra=b""):
    return b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (method, target, extra, len(body), body)


def well_framed(r):
    """A request behind which the connection goes on: what is wrong is its JSON, its fields, its target or its method."""
    kind, target = r.randrange(10), r.choice(TARGETS)
    body = r.choice(BODIES[target])
    if kind == 0:
        return whole(mutate(r, b"/nowhere/at/all").replace(b" ", b"").replace(b"\r", b"").replace(b"\n", b"") or b"/", body)
    if kind == 1:
        return whole(target.encode(), body, r.choice((b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS")))
    if kind == 2:
        return whole(target.encode(), r.choice((b"[" * 3000, b"{\"a\":" * 500, b"", b"7", b"\"x\"", b"{\"prompt\":" + b"9" * 5000 + b"}")))
    return whole(target.encode(), mutate(r, body) if kind < 8 else body)


FRAMES = [b"GET / HTTP/3.7\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
          b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"POST /tokenize HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
          b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
          b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
          b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n", b"GET /health HTTP/1.1\r\nA: \x00\r\n\r\n", b"GET /health\r\n\r\n", b"GET " + b"/a" * 9000 + b" HTTP/1.1\r\n\r\n",
          b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n", b"GET /health HTTP/1.1\nHost: x\n\n", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: miracle\r\nContent-Length: 2\r\n\r\n{}",
          b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n\r\n\r\nGET", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{\"content\":\"cut o"]


def broken(r):
    """A request that ends its connection: framing, or random bytes, or one that is cut off."""
    kind = r.randrange(4)
    if kind == 0:
        return bytes(r.randrange(256) for _ in range(r.randrange(1, 200)))
    if kind == 1:
        return mutate(r, well_framed(r)[:r.randrange(1, 400)])
    return r.choice(FRAMES) if kind == 2 else mutate(r, r.choice(FRAMES)[:2000])


def exchange(path, data, shut, want):
    """Statuses of the replies; sends all, reads until `want` replies are there or the node closes."""
    got, found = bytearray(), []
    with dial(path) as s:
        s.settimeout(400)  # the machine may do something else for a while
        try:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # answered before it was whole
        while len(found) < want:
            try:
                part = s.recv(1 << 16)
            except ConnectionResetError:
                break
            if not part:
                break
            got += part
            while m := SIZES.match(got):
                end = m.end() + int(m[2])
                if len(got) < end:
                    break
                found.append(int(m[1]))
                del got[:end]
    return found


def work(path, seed, count, out):
    r, statuses, closed = random.Random(seed), collections.Counter(), 0
    try:
        while count > 0:
            if r.randrange(3) == 0:
                found = exchange(path, broken(r), True, 1)
            else:
                batch = [well_framed(r) for _ in range(min(PIPELINE, count))]
                found = exchange(path, b"".join(batch), False, len(batch))  # fewer, where one of them ends the connection
            closed += not found
            statuses.update(found)
            count -= max(len(found), 1)
        out.put((statuses, closed, None))
    except Exception as e:  # noqa: BLE001 whatever it was, it is reported
        out.put((statuses, closed, f"{type(e).__name__}: {e}"))


def flood(path, count, seed):
    """(statuses, requests whose connection was closed without a reply, what went wrong, seconds)"""
    out, begin = multiprocessing.Queue(), time.monotonic()
    workers = [multiprocessing.Process(target=work, args=(path, seed * 1000 + i, count // PARALLEL, out), daemon=True) for i in range(PARALLEL)]
    for w in workers:
        w.start()
    got = [out.get() for _ in workers]
    for w in workers:
        w.join()
    return sum((g[0] for g in got), collections.Counter()), sum(g[1] for g in got), [g[2] for g in got if g[2]], time.monotonic() - begin


def resident(node):
    """{program: (private, shared) KiB}. What is shared are objects, as far as they are touched: by requests that were right after all."""
    memory = {}
    for name, pid in {"init": node.pid, **node.children()}.items():
        with open(f"/proc/{pid}/smaps_rollup") as f:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in f if ":" in line and line.rstrip().endswith("kB")}
        memory[name] = kib["Pss_Anon"], kib["Pss_Shmem"]
    return memory


with Folder() as f:
    node = Live(f.socket, talkative(f.make_model()), "--memory", "400M", "--context", "1024", "--template", "v31")
    if not ok(not node.failed, "a node starts", node.failed):
        done()
    ask = {"prompt": "hello", "max_tokens": 24, "seed": 5, "temperature": 1}
    want = node.complete(**ask)
    flood(f.socket, WARM, 1)
    lived, memory, descriptors, errors = node.children(), resident(node), node.descriptors(), node.metrics()["http_errors"]
    statuses, closed, wrong, seconds = flood(f.socket, COUNT, 2)
    after = resident(node)
    said = node.metrics()
    print(f"# {sum(statuses.values()) + closed} requests in {seconds:.0f} s: {dict(sorted(statuses.items()))}, closed without a reply {closed}")
    print(f"# private and shared memory before and after, KiB: {[(k, memory[k], after.get(k)) for k in memory]}")
    ok(not wrong, f"{COUNT} malformed requests: every connection is answered or closed", wrong)
    ok(sum(statuses.values()) > COUNT // 2 and sum(n for s, n in statuses.items() if s >= 400) > COUNT // 2, "most are told what is wrong", statuses)
    ok(not [s for s in statuses if s >= 500 and s not in (501, 503, 505)], "and none is the node's fault", statuses)
    ok(said["http_errors"] - errors >= sum(n for s, n in statuses.items() if s >= 400), "the node has counted them", (said["http_errors"], statuses))
    ok(node.children() == lived and said["deaths"] == 0, "no server has died", node.output()[-500:])
    ok(all(after[k][0] <= memory[k][0] + 256 for k in memory) and after["gateway"][1] <= memory["gateway"][1] + 512,
       "memory is flat", (memory, after))
    ok(node.descriptors() <= descriptors + 1 and said["running"] == said["queued"] == 0, "nothing is left behind", (node.descriptors(), descriptors))
    ok(node.complete(**ask) == want, "the node answers as before")
    ok(node.get("/health")[0] == 200 and node.stop() == 0, "it is well, and ends", node.output())
done()
