#!/usr/bin/env python3
"""An evil build of each server, which writes what it likes over everything that it may write (babble.c), brings down nobody else: no other server
crashes, init goes on and ends well. The replies of such a node are nobody's concern."""
import json
import os
import re
import shutil
import time

from node import BIN, ROOT, SERVERS, Folder, Node, dial, done, ok

SECONDS = 2.5
FAULTS = "4|5|6|7|8|11|31"  # signals that a program brings on itself


def ask(path):
    body = json.dumps({"prompt": list(range(3, 60)), "max_tokens": 50}).encode()
    try:
        s = dial(path)
        s.settimeout(0.2)
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while s.recv(65536):
            pass
    except OSError:
        pass


with Folder() as f:
    f.make_model()
    for evil in SERVERS:
        bin_ = os.path.join(f.path, "evil-" + evil)
        shutil.copytree(BIN, bin_)
        os.unlink(os.path.join(bin_, evil))
        shutil.copy(os.path.join(ROOT, "build", "test", "babble"), os.path.join(bin_, evil))
        for path in (f.socket, f.socket + ".counters"):
            if os.path.exists(path):
                os.unlink(path)
        node = Node(bin_, f.model, "--socket", f.socket, "--memory", "1G", "--slots", "8")
        node.wait_for("ready")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and node.process.poll() is None:
            ask(f.socket)
        ok(node.process.poll() is None, f"{evil} writes what it likes, and the node goes on", node.output()[-1500:])
        # of init's records only: what stands in its own log an evil server makes up, deaths of others among it
        crashed = [c for c in re.findall(rf"^penstock: init: (\w+) \(pid \d+\) ended by signal (?:{FAULTS});", node.output(), re.M) if c != evil]
        made_up = len(re.findall(rf"^penstock: {evil}: \w+ \(pid \d+\) ended by signal", node.output(), re.M))
        ok(not crashed, f"{evil}: no other server crashes", f"{crashed}\n{node.output()[-1500:]}")
        killed = len(re.findall(rf"init: {evil} \(pid \d+\) ended by signal 9", node.output()))
        ended = node.stop(seconds=45)
        ok(ended == 0, f"{evil}: and the node ends well", f"{ended} {node.output()[-800:]}")
        print(f"# {evil} was killed {killed} times, and made up {made_up} deaths")
done()
