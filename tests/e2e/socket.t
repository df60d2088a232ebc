#!/usr/bin/env python3
"""The node's socket: its mode, whose it may be, LISTEN_FDS, and its end."""
import os
import signal
import socket
import stat
import subprocess
import sys
import time

from node import SANDBOX, Folder, Node, dial, done, ok, receive, wait_until


def start(bin_, f, *options, **more):
    node = Node(bin_, f.model, *options, "--memory", "400M", **more)
    node.wait_for("penstock: ready")
    return node


with Folder() as f:
    bin_ = f.make_dummies()
    f.make_model()
    node = start(bin_, f, "--socket", f.socket)
    mode = os.stat(f.socket).st_mode
    ok(stat.S_ISSOCK(mode) and mode & 0o777 == 0o660, "the socket has mode 0660", oct(mode))
    used = []
    while 0 not in used and len(used) < 10:  # a busy machine may be late with what was to do at the start
        before = node.cpu_ticks()
        time.sleep(1)
        used.append(node.cpu_ticks() - before)
    ok(0 in used, "an idle node uses no CPU", used)
    second = Node(bin_, f.model, "--socket", f.socket)
    ok(second.process.wait(20) == 1, "a second node on a live socket is refused")
    ok(f"process {node.pid} already answers" in second.output(), "and told who has it", second.output())
    first = dial(f.socket)
    first.sendall(b"hi")
    ok(receive(first, 2) == b"hi", "the first goes on")

    node.process.kill()
    node.process.wait()
    ok(os.path.exists(f.socket), "killed, it leaves its socket")
    node = start(bin_, f, "--socket", f.socket)
    ok(node.process.poll() is None, "a stale socket is replaced", node.output())
    slow = dial(f.socket)
    slow.sendall(b"x")
    receive(slow, 1)
    ok(node.stop() == 0, "SIGTERM ends it with status 0")
    ok(not os.path.exists(f.socket), "and takes the socket away")
    node = start(bin_, f, "--socket", f.socket)
    os.unlink(f.socket)
    with open(f.socket, "w"):
        pass
    ok(node.stop(signal.SIGINT) == 130, "SIGINT ends it with status 130")
    ok(os.path.exists(f.socket), "what stands in its place is not taken away")
    node = Node(bin_, f.model, "--socket", f.socket)
    ok(node.process.wait(20) == 1 and "is not a socket" in node.output(), "a path that is no socket is refused",
       node.output())
    ok(os.path.getsize(f.socket) == 0, "and left as it was")
    os.unlink(f.socket)
    node = Node(bin_, f.model, "--socket", os.path.join(f.path, "no", "such"))
    ok(node.process.wait(20) == 1 and "Name another path" in node.output(), "a folder that is missing is refused",
       node.output())
    node = Node(bin_, f.model, "--socket", "/tmp/" + "x" * 200)
    ok(node.process.wait(20) == 2 and "107 bytes" in node.output(), "a path that is too long is refused", node.output())
    node = start(bin_, f, env={"XDG_RUNTIME_DIR": f.path})
    found = [p for p in ("/run/penstock/penstock.sock", f.path + "/penstock.sock") if p in node.output()]
    ok(len(found) == 1 and os.path.exists(found[0]), "without --socket it lies in /run/penstock or XDG_RUNTIME_DIR",
       node.output())
    node.stop()

    # LISTEN_FDS: the pid that was started is init, so LISTEN_PID fits
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(f.socket)
    passed.listen(5)
    script = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()));"
              "os.execv(sys.argv[2],sys.argv[2:])")
    log = open(os.path.join(f.path, "log"), "w+")
    process = subprocess.Popen([sys.executable, "-c", script, str(passed.fileno()), os.path.join(bin_, "penstock"), "run",
                                f.model, "--memory", "400M", *SANDBOX], pass_fds=[passed.fileno()], stderr=log)
    s = dial(f.socket)
    s.sendall(b"passed")
    ok(receive(s, 6) == b"passed", "a socket passed by LISTEN_FDS is served", open(log.name).read())
    process.terminate()
    ok(process.wait(20) == 0 and os.path.exists(f.socket), "and not taken away")

    os.unlink(f.socket)
    node = start(bin_, f, "--socket", f.socket)
    busy = dial(f.socket)
    busy.sendall(b"y" * 1000)
    # a thousand bytes of answer lie in the socket: sent, as far as init can know
    wait_until(lambda: len(busy.recv(1000, socket.MSG_PEEK)) == 1000)
    node.process.send_signal(signal.SIGTERM)
    ok(wait_until(lambda: not os.path.exists(f.socket)), "a draining node takes no newcomers")
    ok(len(receive(busy, 1000)) == 1000, "who was served gets the whole answer")
    ok(node.stop() == 0, "then it ends")
done()
