#!/usr/bin/env python3
"""Messages from a hostile server (machinery 5): the entries of every ring are overwritten with random bytes while their reader stands still, until
it has met one. It refuses the message, the sender is started again, the pass runs again, and the replies keep their bytes."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import BIN, ROOT, Folder, Node, dial, done, ok, wait_until  # noqa: E402

REPLIES = 3
SECONDS = 100  # per ring: some need a second; a busy machine may need more


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


class Scribbler(threading.Thread):
    """Overwrites one ring, again and again, until its reader has refused a message. The reader is stopped meanwhile: what waits for it then, or is
    sent before it goes on, is bad for certain, however fast the machine is. Between two tries the node has time to get somewhere."""

    def __init__(self, node, producer, consumer, name, offset, size):
        super().__init__()
        self.node, self.producer, self.consumer, self.name_, self.offset, self.size = node, producer, consumer, name, offset, size
        self.rng, self.before, self.hit, self.tries = random.Random(5), self.refusals(), False, 0
        self.start()

    def refusals(self):
        return len(re.findall(f"{self.consumer}: a message of {self.producer} was refused", self.node.output()))

    def scribble(self):
        children = self.node.children()
        os.kill(children[self.consumer], signal.SIGSTOP)
        try:
            time.sleep(self.rng.uniform(0.001, 0.01))
            fd = os.open(object_path(children[self.producer], self.name_), os.O_RDWR)
            os.pwrite(fd, self.rng.randbytes(self.size), self.offset)
            os.close(fd)
        finally:
            os.kill(children[self.consumer], signal.SIGCONT)

    def run(self):
        end = time.monotonic() + SECONDS
        while not self.hit and time.monotonic() < end:
            try:
                self.scribble()
                self.tries += 1
            except (OSError, KeyError):
                pass  # one of the two is just being started again
            self.hit = wait_until(lambda: self.refusals() > self.before, 0.03)


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP only root may write into a server's objects")
        return
    with Folder() as f:
        f.make_model()
        node = Node(BIN, f.model, "--socket", f.socket, "--memory", "1G")
        ok(node.wait_for("ready"), "a node starts", node.output())
        want = [complete(f.socket, seed) for seed in range(REPLIES)]
        tool = os.path.join(ROOT, "build", "test", "ring_offsets")
        for line in subprocess.run([tool, object_path(node.children()["router"], "NODE")], capture_output=True, text=True,
                                   check=True).stdout.splitlines()[:-1]:
            ring, producer, consumer, name, offset, size = line.split()
            writer = Scribbler(node, producer, consumer, name, int(offset), int(size))
            wrong = []
            while writer.is_alive() and not wrong:
                wrong = [(got, w) for seed, w in enumerate(want) if (got := complete(f.socket, seed)) != w]
            writer.join()
            ok(writer.hit, f"{ring}: {consumer} refuses a message of {producer} that was overwritten", node.output())
            ok(not wrong, f"{ring}: the replies keep their bytes", wrong)
            print(f"# {writer.tries} tries")
        killed = node.output().count("ended by signal 9")
        ok(killed >= 6, "the senders were started again", node.output())
        ok([complete(f.socket, seed) for seed in range(REPLIES)] == want, "and then the node answers as before")
        ok(node.stop() == 0, "the node ends well")
    done()


main()
