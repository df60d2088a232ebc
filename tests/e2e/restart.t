#!/usr/bin/env python3
"""Servers that die are replaced, whatever kills them; init loses no descriptor by it; a server that can never start ends the node."""
import os
import shutil
import signal
import time

from node import ROOT, SERVERS, Folder, Node, crash, dial, done, ok, receive, wait_until


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def maps(pid):
    with open(f"/proc/{pid}/maps") as f:
        return len(f.readlines())


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def kill_and_wait(node, program, end=kill):
    """Ends a server and waits for its successor; returns seconds, None if there was none."""
    old = node.children().get(program)
    if not old:
        return None
    begin = time.monotonic()
    end(old)
    good = wait_until(lambda: node.children().get(program) not in (None, old), 5)
    return time.monotonic() - begin if good else None


with Folder() as f:
    bin_ = f.make_dummies()
    node = Node(bin_, f.make_model(), "--socket", f.socket, "--memory", "400M")
    if not ok(node.wait_for("penstock: ready"), "a node starts", node.output()):
        done()
    wait_until(lambda: len(node.children()) == 5)
    client = dial(f.socket)
    client.sendall(b"before")
    ok(receive(client, 6) == b"before", "a client is served")
    time.sleep(0.3)
    before = fds(node.pid), maps(node.pid)
    for program in SERVERS + ["scribe"]:
        ok(kill_and_wait(node, program) is not None, f"{program}, killed, has a successor")
        if os.geteuid() == 0:
            ok(kill_and_wait(node, program, crash) is not None, f"{program}, crashed, has a successor")
    client.sendall(b"after")
    ok(receive(client, 5) == b"after", "the client's connection has survived them all")
    for program in SERVERS:
        ok(f"{program} (pid" in node.output(), f"scribe says that {program} ended")
    for _ in range(12):
        for program in SERVERS:
            kill_and_wait(node, program)
    wait_until(lambda: len(node.children()) == 5)
    for pid in list(node.children().values()):
        os.kill(pid, signal.SIGKILL)
    ok(wait_until(lambda: len(node.children()) == 5), "all killed at once come back", node.children())
    client.sendall(b"again")
    ok(receive(client, 5) == b"again", "and serve the same client")
    ok(wait_until(lambda: (fds(node.pid), maps(node.pid)) == before, 3),
       "no descriptor and no map of init is lost", f"{before} {fds(node.pid)} {maps(node.pid)}")
    os.kill(node.children()["router"], signal.SIGSTOP)
    os.kill(node.pid, signal.SIGKILL)
    node.process.wait()
    ok(wait_until(lambda: not node.children()), "when init is killed nothing is left behind", node.children())

    os.unlink(f.socket)
    os.unlink(os.path.join(bin_, "mla"))
    shutil.copy(os.path.join(ROOT, "build", "test", "dummy_fail"), os.path.join(bin_, "mla"))
    node = Node(bin_, f.model, "--socket", f.socket, "--memory", "400M")
    ok(node.process.wait(20) == 1, "a server that cannot start ends the node with status 1")
    ok("mla: told to fail" in node.output() and "mla cannot start: exit status 7" in node.output(),
       "with its own message, and init's", node.output())
    ok(not os.path.exists(f.socket), "and no socket is left")
done()
