#!/usr/bin/env python3
"""The gateway is killed again and again while replies are written, streamed and not, and clients get the bytes they would have got anyhow."""
import json
import os
import random
import re
import signal
import threading
import time

from node import BIN, Folder, Node, dial, done, ok, wait_until

KILLS = 8  # at least
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
random.seed(SEED)
print("# SEED", SEED)


def post(path, body):
    text = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(text)}\r\n\r\n").encode() + text


def fetch(path, request, slow=False):
    """All bytes of a reply; what differs between two equal requests is blanked."""
    with dial(path) as s:
        s.settimeout(60)
        s.sendall(request)
        got = b""
        while part := s.recv(200 if slow else 65536):
            got += part
            if slow:
                time.sleep(0.002)
    got = re.sub(rb'"created":\d+', b'"created":0', got)
    got = re.sub(rb"\r\nDate: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT\r\n", b"\r\nDate: now\r\n", got)
    got = re.sub(rb'"cached_tokens":\d+', b'"cached_tokens":0', got)
    # lengths depend on the digits blanked above
    got = re.sub(rb"Content-Length: \d+", b"Content-Length: 0", got)
    got = re.sub(rb"\r\n[0-9a-f]+\r\n", b"\r\n", got)
    return re.sub(rb'cmpl-[0-9a-f]+', b'cmpl-0', got)


def requests():
    hello = [{"role": "user", "content": "Hello there, tell me something"}]
    yield post("/v1/chat/completions", {"messages": hello, "max_tokens": 150, "seed": 1, "stream": True,
                                        "stream_options": {"include_usage": True}})
    yield post("/v1/chat/completions", {"messages": hello, "max_tokens": 150, "seed": 2})
    yield post("/v1/chat/completions", {"messages": hello, "max_tokens": 100, "seed": 3, "thinking": True, "stream": True})
    yield post("/v1/completions", {"prompt": "Hello " * 100, "max_tokens": 120, "seed": 4, "stream": True})
    yield post("/tokenize", {"content": "Hello " * 30000})


class Killer(threading.Thread):
    def __init__(self, node, *programs):
        super().__init__()
        self.node, self.programs, self.kills, self.stopped = node, programs, 0, False

    def run(self):
        while not self.stopped:
            pid = self.node.children().get(random.choice(self.programs))
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass
            time.sleep(random.uniform(0.01, 0.08))


def fetch_all(path, slow):
    got = [None] * len(ALL)

    def one(i):
        try:
            got[i] = fetch(path, ALL[i], slow)
        except OSError as e:
            got[i] = repr(e).encode()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(ALL))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return got


ALL = list(requests())
with Folder() as f:
    node = Node(BIN, f.make_model(), "--socket", f.socket, "--memory", "400M", "--template", "v31", "--threads", "1")
    if not ok(node.wait_for("penstock: ready"), "a node starts", node.output()):
        done()
    want = [fetch(f.socket, r) for r in ALL]
    ok(all(w.startswith(b"HTTP/1.1 200") for w in want), "all requests are answered", [w[:200] for w in want])
    for programs, slow in ((("gateway",), False), (("gateway",), True), (("router", "mla", "experts", "gateway"), False)):
        killer = Killer(node, *programs)
        killer.start()
        got = fetch_all(f.socket, slow)
        while killer.kills < KILLS and got == want:  # a fast machine has answered before the first
            got = fetch_all(f.socket, slow)
        killer.stopped = True
        killer.join()
        what = f"{' '.join(programs)} killed {killer.kills} times{', slow clients' if slow else ''}"
        for i, (g, w) in enumerate(zip(got, want)):
            at = next((k for k in range(min(len(g), len(w))) if g[k] != w[k]), min(len(g), len(w)))
            ok(g == w, f"reply {i} is the same ({what})", f"at {at} of {len(g)}, {len(w)}: {g[at - 80:at + 80]} {w[at - 80:at + 80]}")
    wait_until(lambda: "gateway" in node.children(), 5)
    ok(fetch(f.socket, ALL[1]) == want[1], "the node goes on as before")
    ok(node.stop() == 0, "and ends with status 0", node.output())
done()
