#!/usr/bin/env python3
"""Faults of the machine around a node: init killed, SIGTERM in a reply, no descriptors, no memory, full disks, clients that are slow or very
many.
What can go on goes on with the same bytes, the rest waits or ends with an error, and nothing is left behind."""
# time limit: 600 s
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from live import Connection, Live, Stream, talkative
from node import BIN, SANDBOX, SERVERS, Folder, done, ok, wait_until

SHORT = {"prompt": "hello world", "max_tokens": 150, "seed": 7, "temperature": 1}
OPTIONS = ("--memory", "300M", "--context", "1024", "--chunk", "32")
CLIENTS = 10000


def text(stream, seconds=60):
    r = stream.result(seconds)
    return (r.text, r.finish, r.tokens) if r else stream.error


def start(f, *options, **more):
    node = Live(f.socket, f.model, *OPTIONS, *options, **more)
    ok(not node.failed, "a node starts", node.failed)
    wait_until(lambda: len(node.processes()) == 9, 10)  # with spares
    return node


def killed(f):
    """init is killed: all that it started is dead within 100 ms, those that are stopped too."""
    node = start(f)
    stream = node.stream(**SHORT)
    stream.wait_for_events(10)
    pids = [pid for _, _, pid in node.processes()]
    os.kill(node.children()["router"], signal.SIGSTOP)
    begin = time.monotonic()
    os.kill(node.pid, signal.SIGKILL)

    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as s:
                return s.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False
    while any(alive(pid) for pid in pids) and time.monotonic() - begin < 5:
        time.sleep(0.001)
    took = (time.monotonic() - begin) * 1000
    ok(took < 100 + 400 * (os.getloadavg()[0] > 2), f"init killed: {len(pids)} servers and spares are dead", f"{took:.0f} ms")
    print(f"# {took:.1f} ms")
    node.process.wait()
    stream.result(5)
    ok(stream.error, "and the client knows", stream.reply)


def terminated(f, want):
    node = start(f)
    stream = node.stream(**SHORT)
    stream.wait_for_events(5)
    node.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    ok(text(stream) == want, "SIGTERM: a running reply is finished", stream.error)
    ok(node.process.wait(20) == 0, "and the node ends with status 0", node.output())


def limit(node, what, soft):
    resource.prlimit(node.pid, what, (soft, resource.prlimit(node.pid, what)[1]))


def without_descriptors(f, node, want):
    before = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)[0]
    stream = node.stream(**SHORT)
    stream.wait_for_events(5)
    limit(node, resource.RLIMIT_NOFILE, 3)  # what it has it keeps
    waiting = [Stream(f.socket, SHORT) for _ in range(3)]
    for program in ("mla", "router", "mla", "gateway"):
        node.kill(program)
        time.sleep(0.05)
    ticks = node.cpu_ticks()
    time.sleep(1)
    ticks = node.cpu_ticks() - ticks
    ok(not any(s.events for s in waiting), "no descriptor free: new clients wait")
    ok(ticks < 30, "and init does not spin", f"{ticks} of 100 ticks")
    limit(node, resource.RLIMIT_NOFILE, before)
    ok(text(stream) == want, "the reply that was running goes on, its servers killed twice meanwhile", stream.error)
    ok([text(s) for s in waiting] == [want] * 3, "and those who waited are answered", [s.error for s in waiting])


def without_memory(node, want):
    """Address space of new processes, which inherit init's limit."""
    long = dict(SHORT, max_tokens=900)  # not done before nobody is there to go on with it
    calm = text(node.stream(**long))
    stream = node.stream(**long)
    stream.wait_for_events(5)
    limit(node, resource.RLIMIT_AS, 1 << 20)
    try:
        for _ in range(3):  # the spare, then nobody can start
            node.kill("mla")
            time.sleep(0.2)
        came = len(stream.events)
        time.sleep(0.3)
        ok(stream.is_alive() and len(stream.events) == came, "no memory for a successor: the reply waits", f"{came} {len(stream.events)} {stream.error}")
        wait_until(lambda: node.get("/health")[0] == 503, 10)
        status, body = node.get("/health")
        ok(status == 503 and "mla" in body.decode(), "/health names the server that is not there", body)
    finally:
        limit(node, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    ok(text(stream) == calm, "and goes on with the same bytes when there is memory again", stream.error)
    ok(wait_until(lambda: node.get("/health")[0] == 200, 15), "the node is well again", node.get("/health"))


def full_disks(f, want):
    full = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen([os.path.join(BIN, "penstock"), "run", f.model, "--socket", f.socket, "--trace-routes", "/dev/full", *OPTIONS, *SANDBOX],
                               stderr=full, stdout=full)
    os.close(full)
    ok(wait_until(lambda: os.path.exists(f.socket), 20), "a node whose messages and trace go to a full disk starts")
    time.sleep(1)
    ok(text(Stream(f.socket, SHORT)) == want, "and answers")
    process.send_signal(signal.SIGTERM)
    ok(process.wait(20) == 0, "and ends with status 0", process.returncode)
    mount = os.path.join(f.path, "small")
    os.mkdir(mount)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount], capture_output=True).returncode:
        ok(True, "pack onto a full disk # SKIP needs to mount a small one")
        return
    try:
        store = os.path.join(mount, "a.pack")
        r = subprocess.run([os.path.join(BIN, "penstock"), "pack", f.model, store], capture_output=True, text=True)
        ok(r.returncode in (1, 4) and "a.pack" in r.stderr and "space" in r.stderr, "pack onto a full disk ends with an error that says so", r.stderr)
        r = subprocess.run([os.path.join(BIN, "penstock"), "info", store], capture_output=True, text=True)
        ok(r.returncode == 3, "and what it left is not taken for a store", r.stderr)
    finally:
        subprocess.run(["umount", mount])


def slow_clients(f, node, want):
    """They send and read a byte at a time."""
    ended = []

    def crawl():
        s = socket.socket(socket.AF_UNIX)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.connect(f.socket)
        body = json.dumps(dict(SHORT, stream=True)).encode()
        request = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for i in range(0, len(request)):
            s.sendall(request[i:i + 1])
            time.sleep(0.005)
        got = b""
        while not crawled.is_set() or len(got) < 15:
            got += s.recv(1)
            time.sleep(0.02)
        ended.append(got.startswith(b"HTTP/1.1 200 OK"))
        s.close()

    crawled = threading.Event()
    threads = [threading.Thread(target=crawl) for _ in range(8)]
    for t in threads:
        t.start()
    wait_until(lambda: node.metrics()["running"] >= 1, 20)
    got = [text(Stream(f.socket, SHORT)) for _ in range(3)]
    ok(got == [want] * 3, "eight clients that send and read a byte at a time keep nobody from his reply", got)
    crawled.set()
    for t in threads:
        t.join()
    ok(ended == [True] * 8, "and have theirs, as far as they read", ended)
    ok(wait_until(lambda: node.metrics()["running"] == 0, 10), "nothing of them is left when they are gone", node.metrics())


def many_clients(f, node, want):
    """As many as may connect without waiting; 256 have rings, the rest the kernel holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CLIENTS + 200), hard))
    memory, clients, refused = resident(node), [], 0
    for _ in range(CLIENTS):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(f.socket)
            s.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            clients.append(s)
        except BlockingIOError:
            refused += 1
            s.close()
        if refused > 200 and len(clients) > 300:  # the others find the same
            break
    ok(len(clients) >= 256, f"{len(clients)} clients connect at once, of {len(clients) + refused}")
    answered = 0
    poll = select.poll()
    for s in clients:
        poll.register(s, select.POLLIN)
    by_fd, end = {s.fileno(): s for s in clients}, time.monotonic() + 60
    while by_fd and time.monotonic() < end:
        for fd, _ in poll.poll(1000):
            s = by_fd.pop(fd)
            answered += s.recv(65536).startswith(b"HTTP/1.1 200 OK")
            poll.unregister(fd)
            s.close()
    ok(answered == len(clients), "every one of them is answered", f"{answered} of {len(clients)}")
    waves, wrong = 0, []

    def wave(n):
        for _ in range(n):
            c = Connection(f.socket, 60)
            c.request("GET", "/v1/models")
            if c.getresponse().status != 200:
                wrong.append(1)
            c.close()
    threads = [threading.Thread(target=wave, args=(CLIENTS // 40 - len(clients) // 40,)) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ok(not wrong, "ten thousand in all, forty at a time: all are answered", len(wrong))
    grown = resident(node) - memory
    ok(grown < 40 << 20, "and memory is flat", f"{grown >> 20} MiB more")
    ok(text(Stream(f.socket, SHORT)) == want, "and the node answers as before")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(node):
    total = 0
    for pid in [node.pid] + [pid for _, _, pid in node.processes()]:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as s:
                total += sum(int(line.split()[1]) * 1024 for line in s if line.startswith("Pss:"))
        except OSError:
            pass
    return total


with Folder() as f:
    talkative(f.make_model())
    killed(f)
    node = start(f)
    want = text(node.stream(**SHORT))
    ok(isinstance(want, tuple) and want[2] == 150, "a reply without a fault", want)
    without_descriptors(f, node, want)
    without_memory(node, want)
    slow_clients(f, node, want)
    many_clients(f, node, want)
    ok(wait_until(lambda: not node.zombies(), 5), "no zombie is left", node.zombies())
    ok(node.stop() == 0, "the node ends", node.output())
    terminated(f, want)
    full_disks(f, want)
done()
