#!/usr/bin/env python3
"""A server that inherits a record which cannot be (its predecessor's bug, or its malice) repairs it. Of gateway's, the clients whose record it was are let go
and everybody else's replies keep their bytes; of mla's and experts', every reply does. Nobody is killed for it again and again."""
import os
import random
import signal
import struct
import subprocess
import time

from live import Live, talkative
from node import ROOT, Folder, dial, done, ok, receive, wait_until

HEAD = struct.Struct("<QQQI")  # life, rx_head, tx_tail, state
WORD = 64  # a record's version, before its two copies
CONNS = 256
ASK = {"prompt": "some words", "max_tokens": 900, "seed": 3, "temperature": 1}


def object_path(pid, name):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        if os.readlink(path).startswith(f"/memfd:penstock:{name} "):
            return path
    raise FileNotFoundError(name)


class Records:
    """The client role's records, as root may write them while the gateway stands still."""

    def __init__(self, node):
        self.node = node
        tool = os.path.join(ROOT, "build", "test", "ring_offsets")
        text = subprocess.run([tool, object_path(node.children()["router"], "NODE")], capture_output=True, text=True, check=True).stdout
        numbers = list(map(int, text.splitlines()[-1].split()[1:]))
        self.rings, self.rings_bytes, self.conns, self.stride = numbers[:4]
        self.others = {"mla": numbers[4:6], "experts": numbers[6:]}

    def damage(self, change, program="gateway", name="CLIENT"):
        """Stops a server, lets change(file descriptor) write into its object, and kills it. Until its successor lives."""
        pid = self.node.children()[program]
        os.kill(pid, signal.SIGSTOP)
        fd = os.open(object_path(pid, name), os.O_RDWR)
        change(fd)
        os.close(fd)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.node.children().get(program) not in (None, pid))

    def copies(self, i):
        size = (self.stride - WORD) // 2
        return [self.conns + i * self.stride + WORD, self.conns + i * self.stride + WORD + size], size

    def head(self, fd, i, **fields):
        """Changes fields of a connection's head, in both copies."""
        for at in self.copies(i)[0]:
            now = dict(zip(("life", "rx_head", "tx_tail", "state"), HEAD.unpack(os.pread(fd, HEAD.size, at))))
            now.update((k, v(now[k]) % (1 << 64) if callable(v) else v) for k, v in fields.items())
            os.pwrite(fd, HEAD.pack(*now.values()), at)

    def junk(self, fd, i, rng, begin=0, end=None):
        copies, size = self.copies(i)
        for at in copies:
            os.pwrite(fd, rng.randbytes((end or size) - begin), at + begin)

    def open_conns(self, fd):
        return [i for i in range(CONNS) if HEAD.unpack(os.pread(fd, HEAD.size, self.copies(i)[0][0]))[3] == 1]


def closed(s):
    s.settimeout(10)
    try:
        while s.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def idle(node):
    """A client that has had an answer and stays."""
    s = dial(node.path)
    s.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += receive(s, 1)
    receive(s, int(head.lower().split(b"content-length: ")[1].split()[0]))
    return s


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP only root may write into a server's objects")
        return
    rng = random.Random(11)
    with Folder() as f:
        node = Live(f.socket, talkative(f.make_model()), "--memory", "300M", "--context", "1024")
        if not ok(not node.failed, "a node starts", node.failed):
            done()
        want, records = node.stream(**ASK).result(), Records(node)
        # each hits the idle client's record alone; the stream beside it goes on
        cases = {
            "more sent than there was": lambda fd, i: records.head(fd, i, tx_tail=lambda v: v + (1 << 40)),
            "less sent than there was": lambda fd, i: records.head(fd, i, tx_tail=lambda v: v - 1),
            "more read than came": lambda fd, i: records.head(fd, i, rx_head=lambda v: v + 1),
            "a ring's length too little read": lambda fd, i: records.head(fd, i, rx_head=lambda v: v - 65537),
            "a state that is none": lambda fd, i: records.head(fd, i, state=77),
            "a client to come": lambda fd, i: records.head(fd, i, life=lambda v: v + 5),
            "a request that nobody sent": lambda fd, i: records.junk(fd, i, rng, 32, 112),
            "a gateway's part that is random": lambda fd, i: records.junk(fd, i, rng, 112),
            "everything random": lambda fd, i: records.junk(fd, i, rng),
        }
        for name, change in cases.items():
            client = idle(node)
            with open(object_path(node.children()["gateway"], "CLIENT"), "rb") as o:
                mine = records.open_conns(o.fileno())[-1:]
            stream = node.stream(**ASK)
            stream.wait_for_events(3)
            records.damage(lambda fd: [change(fd, i) for i in mine])
            ok(closed(client), f"{name}: the client is let go")
            client.close()
            ok(stream.result() == want, f"{name}: the reply beside it keeps its bytes", stream.error or stream.reply)
        for i in range(5):
            records.damage(lambda fd: [records.junk(fd, c, rng) for c in range(CONNS + 1)])
            ok(node.complete(**ASK) == want and node.get("/health")[0] == 200, f"every record random, {i}: the node answers as before", node.output()[-2000:])
        records.damage(lambda fd: os.pwrite(fd, rng.randbytes(records.rings_bytes), records.rings))
        ok(node.complete(**ASK) == want, "announcements without number: the node answers as before", node.output()[-2000:])
        for program, (at, size) in records.others.items():
            for i in range(4):
                stream = node.stream(**ASK)
                stream.wait_for_events(3)
                records.damage(lambda fd: os.pwrite(fd, rng.randbytes(size - WORD), at + WORD), program, program.upper())
                ok(stream.result() == want, f"{program}'s record random, {i}: the reply keeps its bytes", f"{stream.error or stream.reply} {node.output()[-2000:]}")
        before = node.children()
        time.sleep(1)
        ok(node.children() == before, "all live on", node.output()[-2000:])
        m = node.metrics()
        ok(wait_until(lambda: node.metrics()["running"] + node.metrics()["queued"] == 0), "no request is left", m)
        ok(node.stop() == 0, "the node ends with status 0", node.output()[-2000:])
    done()


main()
