#!/usr/bin/env python3
"""Every line of the tables of system calls (ipc/sandbox.c) is needed: each is taken out of a copy of each program in turn, in the file itself, and some
part of a node's life then ends that program by SIGSYS. The copies look for no vDSO, so that a clock is a call, as it is on some machines."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import BIN, ROOT, Folder, Node, child_of, dial, done, ok, wait_until  # noqa: E402

RULE = 24      # bytes of struct rule; `call` stands behind the name's pointer
NO_CALL = 0xfffff
ROLES = {  # role: its number, program, table
    "SURVEY": (1, "loader", "survey_rules"),
    "LOADER": (2, "loader", "loader_rules"),
    "SCORE": (8, "score", "score_rules"),
    "CLIENT": (3, "gateway", "client_rules"),
    "ROUTER": (4, "router", "router_rules"),
    "MLA": (5, "mla", "mla_rules"),
    "EXPERTS": (6, "experts", "experts_rules"),
    "SCRIBE": (7, "scribe", "scribe_rules"),
}


class Program:
    """A program's file, and where the tables lie in it."""

    def __init__(self, name):
        self.name = name
        with open(os.path.join(BIN, name), "rb") as f:
            self.bytes = f.read().replace(b"__vdso_clock_gettime", b"__vdsX_clock_gettime")
        symbols = subprocess.run(["nm", "-S", os.path.join(ROOT, "build", "debug", name)], capture_output=True, text=True, check=True).stdout
        self.tables = {n: (int(at, 16), int(size, 16)) for at, size, n in re.findall(r"^(\w+) (\w+) \w (\w+_rules)$", symbols, re.M)}
        offset, size, count = struct.unpack_from("<Q14xHH", self.bytes, 32)
        self.loads = [struct.unpack_from("<2I6Q", self.bytes, offset + i * size) for i in range(count)]

    def place(self, table, i):
        """Where the number of rule i's call stands in the file."""
        address = self.tables[table][0] + i * RULE + 8
        return next(off + address - at for kind, _, off, at, _, size, *_ in self.loads if kind == 1 and at <= address < at + size)

    def rules(self, table):
        return self.tables[table][1] // RULE if table in self.tables else 0

    def call(self, table, i):
        return struct.unpack_from("<I", self.bytes, self.place(table, i))[0]

    def without(self, table, i):
        at = self.place(table, i)
        return self.bytes[:at] + struct.pack("<I", NO_CALL) + self.bytes[at + 4:]


def request(path, length, tokens, text=""):
    body = json.dumps({"prompt": [3 + i % 50 for i in range(length)], "max_tokens": tokens, "user": text}).encode()
    s = dial(path)
    s.settimeout(5)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return s


def finish(s):
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass
    s.close()


def pause(pid):
    """Interrupts what a process waits for: a wait with a time limit goes on by a call of its own."""
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


class Pauser(threading.Thread):
    def __init__(self, node, program):
        super().__init__(daemon=True)
        self.node, self.program, self.on = node, program, True
        self.start()

    def run(self):
        while self.on:
            try:
                pid = self.node.children()[self.program]
                for _ in range(20):
                    pause(pid)
                    time.sleep(0.002)
            except (KeyError, OSError):
                time.sleep(0.002)


def live(f, bin_, program):
    """A node's life; whether the program was ended by SIGSYS in it."""
    for path in (f.socket, f.socket + ".counters"):
        if os.path.exists(path):
            os.unlink(path)
    node = Node(bin_, f.model, "--socket", f.socket, "--memory", "1G", "--slots", "8", "--trace-routes", os.path.join(f.path, "trace"))

    def ended():
        return re.search(rf"{program} \(pid \d+\) ended by signal 31|{program} was ended by signal 31|{program} cannot start: signal 31", node.output())

    # weights that are not there yet are waited for with a time limit
    loader = child_of(node.pid, "loader", "loader", 2)
    if loader:
        try:
            os.kill(loader, signal.SIGSTOP)
        except OSError:
            loader = None
    wait_until(lambda: os.path.exists(f.socket) or node.process.poll() is not None)
    streams = []
    try:
        if loader and node.process.poll() is None:
            streams.append(request(f.socket, 20, 5))
            for _ in range(20):
                time.sleep(0.01)
                pid = node.children().get(program)
                if pid and program != "loader":
                    pause(pid)
            os.kill(loader, signal.SIGCONT)
        if node.wait_for("ready", 5):
            pauser = Pauser(node, program)
            streams += [request(f.socket, 300, 200), request(f.socket, 2000, 60, "x" * 200000)]
            for s in streams:
                finish(s)
                if ended():
                    break
            pauser.on = False
            pauser.join()
    except OSError:
        pass
    if node.process.poll() is None and not ended():
        node.stop()
    wait_until(lambda: ended() or node.process.poll() is not None, 2)
    node.process.kill()
    node.process.wait()
    return bool(ended()), node.output()


def score(f, bin_):
    prompts = os.path.join(f.path, "prompts")
    with open(prompts, "w") as out:
        json.dump({"prompts": [[3 + i % 50 for i in range(100)] for _ in range(4)]}, out)
    files = [x for kind in ("logits", "routes", "mtp-logits") for x in (f"--{kind}", os.path.join(f.path, kind))]
    p = subprocess.Popen([os.path.join(bin_, "penstock"), "score", f.model, prompts, "--memory", "1G", "--slots", "8", *files],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = p.communicate(timeout=60)[1]
    return "ended by signal 31" in said, said


def main(only):
    with Folder() as f:
        f.make_model()
        for role, (number, name, own) in ROLES.items():
            if only and role not in only:
                continue
            program = Program(name)
            bin_ = os.path.join(f.path, role)
            shutil.copytree(BIN, bin_)
            calls = subprocess.run([os.path.join(ROOT, "build", "test", "confined"), "list", str(number)], capture_output=True, text=True,
                                   check=True).stdout.strip().split(", ")
            rules = [(t, i) for t in ("all_rules", own) for i in range(program.rules(t))]
            ok(len(calls) == len(rules), f"{role}: its {len(rules)} calls are {', '.join(calls)}", f"{calls} {rules}")
            for said, (table, i) in zip(calls, rules):
                with open(os.path.join(bin_, name), "wb") as out:
                    out.write(program.without(table, i))
                broken, why = score(f, bin_) if role == "SCORE" else live(f, bin_, name)
                ok(broken, f"{role} needs {said}", why[-600:])
    done()


if not shutil.which("nm"):
    print("1..0 # SKIP no nm here, which finds the tables in the programs")
    sys.exit(0)
main(sys.argv[1:])
