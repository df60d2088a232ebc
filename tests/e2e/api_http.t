#!/usr/bin/env python3
"""HTTP on a real node's socket: what is refused, limits, pipelining, idle connections, clients that go away, a full queue, the end."""
import calendar
import json
import os
import re
import select
import signal
import socket
import time

from node import BIN, Folder, Node, dial, done, ok, wait_until


def read_all(s, seconds=10):
    """Everything until the node closes, and whether it did."""
    s.settimeout(seconds)
    got = b""
    try:
        while part := s.recv(65536):
            got += part
    except TimeoutError:
        return got, False
    except ConnectionError:
        pass
    return got, True


def read_reply(s):
    """One reply with a Content-Length: (status, headers, body)."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = s.recv(1)
        if not part:
            return 0, got, b""
        got += part
    n = int(re.search(rb"Content-Length: (\d+)", got).group(1))
    body = b""
    while len(body) < n:
        part = s.recv(n - len(body))
        if not part:
            break
        body += part
    return int(got.split()[1]), got, body


def post(path, body, *headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(text)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + text


def metric(path, name, role="router"):
    with dial(path) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        return int(re.search(rf'{name}{{role="{role}"}} (\d+)'.encode(), read_reply(s)[2]).group(1))


REFUSED = [
    ("bare LF", b"GET /health HTTP/1.1\nHost: a\n\n", 400),
    ("a folded header", b"GET /health HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
    ("NUL", b"GET /health HTTP/1.1\r\nA: b\0c\r\n\r\n", 400),
    ("a space before the colon", b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("two lengths", b"POST /tokenize HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
    ("length and coding", b"POST /tokenize HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("a bad chunk size", b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ("another coding", b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("HTTP/2.0", b"GET /health HTTP/2.0\r\n\r\n", 505),
    ("101 header lines", b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    ("64 KiB of headers", b"GET /health HTTP/1.1\r\nA: " + b"x" * 66000 + b"\r\n\r\n", 431),
    ("a target of 64 KiB", b"GET /" + b"x" * 66000 + b" HTTP/1.1\r\n\r\n", 414),
    ("17 MiB", post("/tokenize", b" " * (17 << 20)), 413),
    ("17 MiB in chunks", b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
     b"100000\r\n" * 1 + (b" " * 0x100000 + b"\r\n100000\r\n") * 16 + b" " * 0x100000 + b"\r\n0\r\n\r\n", 413),
    ("an unknown expectation", post("/tokenize", b"{}", "Expect: miracles"), 417),
]


def test_refusals(path):
    for name, request, status in REFUSED:
        with dial(path) as s:
            try:
                s.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass
            got, closed = read_all(s)
            body = got.partition(b"\r\n\r\n")[2]
            ok(got.startswith(b"HTTP/1.1 %d " % status) and closed and "error" in json.loads(body or b"{}"),
               f"{name} is {status} in the envelope, and the connection closes", got[:300])


def test_places(path):
    ask = b"POST /tokenize HTTP/1.1\r\nA: b\r\n"
    for place, request in (("request line", b"GET /health\r\n\r\n"), ("first lines", b"GET /health HTTP/1.1\nA: b\n\n"), ("header line 2", ask + b"B : c\r\n\r\n"),
                           ("header line 3", ask + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
                           ("body, byte 3", ask + b"Transfer-Encoding: chunked\r\n\r\n3\r\n{  \r\nx\r\n")):
        with dial(path) as s:
            s.sendall(request)
            message = json.loads(read_all(s)[0].partition(b"\r\n\r\n")[2])["error"]["message"]
            ok(f"({place})" in message and message.startswith("The request is not valid HTTP: "), f"a refusal names the {place}", message)


def test_connections(path, node):
    many = [dial(path) for _ in range(200)]
    for s in many:
        s.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
    ok(all(read_reply(s)[0] == 200 for s in many), "200 connections are served")
    gateway = node.children()["gateway"]

    def ticks():
        with open(f"/proc/{gateway}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))

    used = []
    while (not used or used[-1] > 1) and len(used) < 10:  # a busy machine may be late with what was to do
        before = ticks()
        time.sleep(1)
        used.append(ticks() - before)
    ok(used[-1] <= 1, "and cost nothing while they are idle", used)
    s = many[0]
    s.sendall(b"HEAD /v1/models HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\nOPTIONS /tokenize HTTP/1.1\r\n\r\n" +
              post("/tokenize", {"content": "a"}))
    got = b""
    while b'"tokens"' not in got:
        got += s.recv(65536)
    dates = [calendar.timegm(time.strptime(d.decode(), "%a, %d %b %Y %H:%M:%S GMT")) for d in re.findall(rb"\r\nDate: ([^\r]+)\r\n", got)]
    ok(len(dates) == 4 and all(0 <= time.time() - d < 60 for d in dates), "each answer has its date", got)
    ok(re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200", b"404", b"200", b"200"], "pipelined requests are answered in order", got)
    s.sendall(post("/tokenize", {"content": "Hello " * 2700000}))
    status, _, body = read_reply(s)
    ok(status == 200 and len(json.loads(body)["tokens"]) == 2700000 * 6, "a text of nearly 16 MiB is tokenized")
    s.sendall(b"POST /tokenize HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n")
    ok(s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n", "100-continue is answered at once")
    s.sendall(b'{"content":"a"}')
    ok(read_reply(s)[0] == 200, "and the body is taken")
    for s in many:
        s.close()


def test_going_away(path):
    ask = {"prompt": "b", "max_tokens": 4000, "stream": True, "temperature": 0}
    with dial(path) as s:
        s.sendall(post("/v1/completions", ask))
        got = b""
        while b"data: " not in got and (part := s.recv(65536)):
            got += part
        ok(b"data: " in got, "a long stream begins", got)
    begin = time.monotonic()
    ok(wait_until(lambda: metric(path, "penstock_running") == 0, 3), "a client that goes away stops its generation")
    print(f"# after {time.monotonic() - begin:.3f} s")
    with dial(path) as s:
        s.sendall(post("/v1/completions", dict(ask, max_tokens=20)))
        s.shutdown(socket.SHUT_WR)
        got, closed = read_all(s)
        ok(b"[DONE]" in got and closed, "one that only shuts down writing gets its reply", got[-300:])


def test_queue(path):
    ask = post("/v1/completions", {"prompt": "b", "max_tokens": 8000, "temperature": 0})
    waiting = [dial(path) for _ in range(12)]
    for s in waiting:
        s.sendall(ask)
    # 12 at once, one place and four that wait: the rest hears so, however long that takes here
    heads, end = {}, time.monotonic() + 20
    while len(heads) < 7 and time.monotonic() < end:
        for s in select.select([s for s in waiting if s not in heads], [], [], 0.1)[0]:
            heads[s] = s.recv(1000)
    busy = [h for h in heads.values() if h.startswith(b"HTTP/1.1 429 ")]
    ok(busy and all(re.search(rb"Retry-After: \d+\r\n", h) for h in busy), "a full queue is 429 with Retry-After", heads)
    ok(len(busy) <= 8, "and not before it is full", len(busy))
    for s in waiting:
        s.close()
    ok(wait_until(lambda: metric(path, "penstock_running") + metric(path, "penstock_queued") == 0, 5), "who leaves makes room")


def test_end(path, node):
    with dial(path) as running, dial(path) as queued, dial(path) as idle:
        running.sendall(post("/v1/completions", {"prompt": "b", "max_tokens": 600, "stream": True, "temperature": 0}))
        first = running.recv(65536)
        # the running one stands still meanwhile, so that it has not ended before, on a fast machine
        mla = node.children()["mla"]
        os.kill(mla, signal.SIGSTOP)
        queued.sendall(post("/v1/completions", {"prompt": "Hello", "max_tokens": 300}))
        wait_until(lambda: metric(path, "penstock_queued") == 1, 5)
        node.process.send_signal(signal.SIGTERM)
        got, closed = read_all(queued)
        os.kill(mla, signal.SIGCONT)
        ok(got.startswith(b"HTTP/1.1 503 "), "a request that was not admitted gets 503 when the node ends", got[:200])
        got, closed = read_all(running, 40)
        ok(b"[DONE]" in first + got, "one that runs is finished", got[-200:])
        ok(read_all(idle) == (b"", True), "an idle connection is closed")
    ok(node.stop() == 0, "and the node ends with status 0", node.output())


with Folder() as f:
    node = Node(BIN, f.make_model(), "--socket", f.socket, "--memory", "1G", "--parallel", "1", "--threads", "1")
    if not ok(node.wait_for("penstock: ready"), "a node starts", node.output()):
        done()
    test_refusals(f.socket)
    test_places(f.socket)
    test_connections(f.socket, node)
    test_going_away(f.socket)
    test_queue(f.socket)
    with dial(f.socket) as c:
        c.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        ok(read_reply(c)[0] == 200, "the node is healthy after all that")
    test_end(f.socket, node)
done()
