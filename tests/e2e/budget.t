#!/usr/bin/env python3
"""--memory covers everything (machinery 22): a node's peak, as its memory cgroup counts it, stays below the budget whatever clients do to it: the largest
bodies of every kind that costs memory, as many at once as the node takes and more, full contexts, decode in every place, and hundreds of connections that stay
open. The memory comes back afterwards. A body beyond what the budget allows is 503 with Retry-After and the figure.

    tests/e2e/budget.t        a small model, in the smallest budget and in 1 GB
    tests/e2e/budget.t --big  also one of 1 GB, and more budgets
"""
# time limit: 300 s
import json
import os
import re
import select
import socket
import sys
import threading
import time

from live import Cgroup, Live, least_memory, talkative
from node import Folder, dial, done, ok, wait_until

BIG = "--big" in sys.argv
MIB = 1 << 20
FULL = 2 if BIG else 1  # prompts that fill the context
MODELS = {"tiny": ([], [None, "300M", "1G", "4G"] if BIG else [None, "1G"])}
if BIG:
    MODELS["1 GB"] = (["--layers", "10", "--hidden", "1024", "--moe-intermediate", "512", "--experts", "64"], [None, "300M", "1G", "4G"])
OPTIONS = {None: ["--chunk", "512", "--parallel", "8", "--context", "2048"]}  # the smallest budget of all


def head(path, length=None):
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{how}\r\n\r\n".encode()


def post(path, where, body, chunked=False):
    """(status, headers, length of the body, its first KiB); the connection closes."""
    s = dial(path)
    s.settimeout(120)
    data = head(where, None if chunked else len(body))
    if chunked:
        data += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[i:i + MIB] for i in range(0, len(body), MIB))) + b"0\r\n\r\n"
    else:
        data += body

    def send():
        try:
            s.sendall(data)
        except OSError:
            pass  # an early refusal

    t = threading.Thread(target=send, daemon=True)
    t.start()
    start, n = b"", 0
    try:
        while part := s.recv(1 << 18):
            if len(start) < 4096:
                start += part
            n += len(part)
    except OSError:
        pass
    t.join(5)
    s.close()
    headers, _, begin = start.partition(b"\r\n\r\n")
    return int(headers.split()[1]) if headers else 0, headers, n - len(headers) - 4, begin[:1024]


def fill(size, first, item, last):
    """JSON text of nearly size bytes: the item as often as it fits."""
    return first + item * ((size - len(first) - len(last)) // len(item) - 1) + item.rstrip(b",") + last


def bodies(size):
    """{what: (path, body, statuses)}: each is dear in its own way."""
    call = b'{"function":{"name":"","arguments":""}},'
    return {
        "one word": ("/tokenize", fill(size, b'{"content":"', b"a", b'"}'), [200]),
        "escapes": ("/tokenize", fill(size, b'{"content":"', b"\x7f", b'"}'), [200]),
        "a prompt of one word": ("/v1/completions", fill(size, b'{"prompt":"', b"ab", b'"}'), [400]),
        "ids": ("/detokenize", fill(size, b'{"tokens":[', b"9,", b"]}"), [200, 413, 503]),
        "a prompt of ids": ("/v1/completions", fill(size, b'{"prompt":[', b"7,", b"]}"), [400]),
        "broken at its end": ("/v1/completions", fill(size, b'{"prompt":[', b"7,", b"},"), [400]),
        "many values": ("/tokenize", fill(size, b'{"content":"x","metadata":[', b"[],", b"]}"), [400]),
        "many messages": ("/apply-template", fill(size, b'{"messages":[', b'{"role":"user","content":""},', b"]}"), [200, 400, 413, 503]),
        "many parts": ("/apply-template", fill(size, b'{"messages":[{"role":"user","content":[', b'{"type":"text","text":"\x7f"},', b"]}]}"), [200, 400, 413, 503]),
        "many calls": ("/apply-template", fill(size, b'{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","tool_calls":[', call,
                                               b"]}]}"), [200, 400, 413, 503]),
    }


def hold(path, size, count):
    """Begins `count` chunked bodies of nearly size bytes and leaves them unfinished. The sockets, and how many were refused; a busy node has ten
    seconds to refuse the first."""
    sockets, refused = [], set()
    for _ in range(count):
        s = dial(path)
        s.settimeout(20)
        sockets.append(s)
        try:
            s.sendall(head("/tokenize") + b"%x\r\n" % size + b"x" * (size - 4096))
        except OSError:
            refused.add(s)
    end = time.monotonic() + 10
    while not refused and time.monotonic() < end:
        for s in select.select(sockets, [], [], 0.1)[0]:
            try:
                if s.recv(4096).startswith(b"HTTP/1.1 503"):
                    refused.add(s)
            except OSError:
                refused.add(s)
    return sockets, len(refused)


def exercise(node, name, size, pool, context, mark):
    """Every kind of load, one after the other; mark(what) notes the peak of each."""
    for what, (where, body, statuses) in bodies(size).items():
        if what == "escapes" and size > 4 * MIB and not BIG:
            continue  # 16 M tokens
        status, _, _, text = post(node.path, where, body, chunked=what == "escapes")
        ok(status in statuses, f"{name}: {what}, {len(body) / MIB:.1f} MiB, is answered", f"{status} {text[:300]}")
        mark(what)
    sockets, refused = hold(node.path, size, pool + 2)
    mark("bodies that wait")
    ok(refused >= 1, f"{name}: more than {pool} bodies at once are refused", refused)
    threads = [threading.Thread(target=post, args=(node.path, *bodies(size)["one word"][:2])) for _ in range(2)]
    for s in sockets[:-2]:  # some stay: the last are refused or wait
        s.close()
    for t in threads:
        t.start()
    prompts = [[5 + i] + [5 + j * 7 % 250 for j in range(context - 60 if i < FULL else 100)] for i in range(10)]
    streams = [node.stream(prompt, 40, seed=i, temperature=1, stop=[chr(0x2460 + i) * 5000]) for i, prompt in enumerate(prompts)]
    wrong = [s.error for s in streams if not s.result()]
    for t in threads:
        t.join()
    for s in sockets:
        s.close()
    ok(not wrong, f"{name}: ten prompts, {FULL} of them full contexts, beside large bodies are answered", wrong)
    mark("full contexts and bodies")


def crowd(node, name, mark):
    """Connections that have used their rings and stay."""
    sockets, bad = [], 0
    body = fill(50000, b'{"content":"', b"ab ", b'"}')
    request = head("/tokenize", len(body)).replace(b"Connection: close\r\n", b"") + body
    for _ in range(240):
        s = dial(node.path)
        s.settimeout(30)
        s.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += s.recv(65536)
        head_, _, rest = got.partition(b"\r\n\r\n")
        left = int(re.search(rb"Content-Length: (\d+)", head_)[1]) - len(rest)
        while left > 0 and (part := s.recv(min(left, 65536))):
            left -= len(part)
        bad += left > 0 or b" 200 " not in got[:20]
        sockets.append(s)
    ok(not bad, f"{name}: 240 connections are served and stay", bad)
    mark("240 idle connections")
    for s in sockets:
        s.close()


def check(f, model, name, budget):
    options = OPTIONS.get(budget, [])
    least = least_memory(model, *options)
    given = f"{least}M" if budget is None else budget
    limit = int(given[:-1]) * (MIB if given[-1] == "M" else 1 << 30)
    name = f"{name} in {given}"
    if least * MIB > limit:
        print(f"# {name}: does not fit, {least}M are needed")
        return
    cgroup = Cgroup()
    node = Live(f.socket, model, "--memory", given, "--template", "v31", *options, cgroup=cgroup)
    if not ok(not node.failed, f"{name}: the node starts", node.failed):
        return
    print("# " + re.sub(r"\n+", "\n# ", node.output().strip()))
    found = re.search(r"bodies of (\d+) MiB, (\d+) at once", node.output())
    size, pool = int(found[1]) * MIB, int(found[2])
    figures, last = [], time.monotonic()

    def mark(what):
        nonlocal last
        now = time.monotonic()
        if cgroup.path:
            figures.append(f"{what} {cgroup.peak() / MIB:.1f} ({now - last:.1f} s)")
            with open(cgroup.peak_file, "w") as p:
                peaks.append(cgroup.peak())
                p.write("0")
        last = now

    peaks = []
    try:
        mark("start")
        exercise(node, name, size, pool, 2048, mark)
        crowd(node, name, mark)
        if size < 16 * MIB:
            status, headers, _, text = post(node.path, "/tokenize", fill(size + 2 * MIB, b'{"content":"', b"a", b'"}'))
            ok(status == 503 and b"Retry-After: " in headers and str(size // 1024).encode() in text, f"{name}: a larger body is 503, with the figure",
               f"{status} {headers} {text}")
        status, _, _, text = post(node.path, "/tokenize", fill(17 * MIB, b'{"content":"', b"a", b'"}'))
        ok(status == 413, f"{name}: more than 16 MiB is 413", f"{status} {text}")
        if not cgroup.path:
            print(f"# {name}: no memory cgroup can be made here: the peak is not measured")
            return
        print(f"# {name}: peak {max(peaks) / MIB:.1f} MiB of {limit // MIB}; MiB: " + ", ".join(figures))
        ok(max(peaks) < limit, f"{name}: the peak stays below the budget", f"{max(peaks) / MIB:.1f} MiB")
    finally:
        node.stop()
        cgroup.close()


with Folder() as f:
    for what, (shape, budgets) in MODELS.items():
        f.model = os.path.join(f.path, what.replace(" ", "-"))
        talkative(f.make_model(*shape))
        for budget in budgets:
            check(f, f.model, what, budget)
done()
