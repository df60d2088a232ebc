#!/usr/bin/env python3
"""Messages from a hostile server (machinery 5): ring entries of router, mla and experts are overwritten at random while replies are
written. Whoever reads one refuses it, its sender is started again, the pass runs again, and the replies keep their bytes."""
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import BIN, ROOT, Folder, Node, dial, done, ok  # noqa: E402

REPLIES = 3


def complete(path, seed):
    body = json.dumps({"prompt": list(range(3, 60)), "max_tokens": 250, "temperature": 1, "seed": seed}).encode()
    s = dial(path)
    s.settimeout(60)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    got = b""
    while part := s.recv(65536):
        got += part
    return json.loads(got[got.index(b"\r\n\r\n") + 4:])["choices"][0]["text"]


def object_path(pid, name):
    """The descriptor of an object in a server, as a path that root may open for writing."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        if os.readlink(path).startswith(f"/memfd:penstock:{name} "):
            return path
    raise FileNotFoundError(name)


def scribble(node, program, offset, entries, stop, rng):
    """Writes random messages into the ring of one server until told to stop."""
    while not stop.is_set():
        try:
            fd = os.open(object_path(node.children()[program], program.upper()), os.O_RDWR)
        except (OSError, KeyError):
            continue
        for _ in range(100):
            os.pwrite(fd, rng.randbytes(64), offset + 64 * rng.randrange(entries))
            time.sleep(0.0005)
        os.close(fd)


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP only root may write into a server's objects")
        return
    rng = random.Random(5)
    with Folder() as f:
        f.make_model()
        node = Node(BIN, f.model, "--socket", f.socket, "--memory", "1G")
        ok(node.wait_for("ready"), "a node starts", node.output())
        want = [complete(f.socket, seed) for seed in range(REPLIES)]
        tool = os.path.join(ROOT, "build", "test", "ring_offsets")
        rings = [line.split() for line in subprocess.run(
            [tool, object_path(node.children()["router"], "NODE")], capture_output=True, text=True, check=True).stdout.splitlines()]
        for name, offset, entries in rings:
            stop = threading.Event()
            writer = threading.Thread(target=scribble, args=(node, name.lower(), int(offset), int(entries), stop, rng))
            writer.start()
            got = [complete(f.socket, seed) for seed in range(REPLIES)]
            stop.set()
            writer.join()
            ok(got == want, f"{name.lower()}: replies keep their bytes while its messages are overwritten (seed 5)")
        ok("was refused" in node.output(), "bad messages were refused", node.output())
        ok("ended by signal 9" in node.output(), "and their senders started again", node.output())
        ok(node.stop() == 0, "the node ends well")
    done()


main()
