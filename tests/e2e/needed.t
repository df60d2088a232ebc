#!/usr/bin/env python3
"""Every line of the tables of system calls (ipc/sandbox.c) is needed: each is taken out of a copy of each program in turn, in the file itself, and
some part of a node's life then ends that program by SIGSYS. The copies look for no vDSO, so that a clock is a call, as it is on some machines."""
import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from live import talkative  # noqa: E402
from node import BIN, ROOT, SANDBOX, Folder, Node, dial, done, ok, wait_until  # noqa: E402

RULE = 24      # bytes of struct rule; `call` stands behind the name's pointer
NO_CALL = 0xfffff
ROLES = {  # role: its number, program, table
    "SURVEY": (1, "loader", "survey_rules"),
    "LOADER": (2, "loader", "loader_rules"),
    "SCORE": (9, "score", "score_rules"),
    "CLIENT": (3, "gateway", "client_rules"),
    "ROUTER": (4, "router", "router_rules"),
    "MLA": (5, "mla", "mla_rules"),
    "EXPERTS": (6, "experts", "experts_rules"),
    "SCRIBE": (7, "scribe", "scribe_rules"),
}
BY_SIGSYS = r"{0} \(pid \d+\) ended by signal 31|{0} was ended by signal 31|{0} cannot start: signal 31"


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


def request(path, length, tokens, text="", close=True):
    body = json.dumps({"prompt": [3 + i % 50 for i in range(length)], "max_tokens": tokens, "user": text, "stop": ["never"]}).encode()
    s = dial(path)
    s.settimeout(20)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % (b"close" if close else b"keep-alive", len(body)) + body)
    return s


def finish(s):
    """Reads a reply to its end; the connection stays."""
    got = b""
    while part := s.recv(65536):
        got += part
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            return


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


def remove_sockets(f):
    for path in (f.socket, f.socket + ".counters"):
        if os.path.exists(path):
            os.unlink(path)


def ended(program, text):
    return bool(re.search(BY_SIGSYS.format(program), text))


def work(node, f, program):
    """What a node does in its life, for a server that may end in it at any point."""
    half = dial(f.socket)
    half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")  # waited for with a time limit
    pauser = Pauser(node, program)
    streams = [request(f.socket, 20, 500, close=False), request(f.socket, 300, 200), request(f.socket, 2000, 60, "x" * 200000)]
    for s in streams:
        wait_until(lambda at=s: ended(program, node.output()) or select.select([at], [], [], 0)[0], 20)
        if not ended(program, node.output()):
            finish(s)
    if program == "scribe":
        os.kill(node.children()["mla"], signal.SIGKILL)  # scribe has something to say
    wait_until(lambda: ended(program, node.output()), 0.3)
    pauser.on = False
    pauser.join()


def live(f, bin_, program):
    """A node's life; whether the program was ended by SIGSYS in it, and what the node said."""
    remove_sockets(f)
    node = Node(bin_, f.model, "--socket", f.socket, "--memory", "1G", "--slots", "8", "--trace-routes", os.path.join(f.path, "trace"),
                "--recorder", os.path.join(f.path, "record"))
    try:
        if node.wait_for("ready", 5):
            work(node, f, program)
    except (OSError, KeyError):
        pass
    if node.process.poll() is None and not ended(program, node.output()):
        node.stop()
    wait_until(lambda: ended(program, node.output()) or node.process.poll() is not None, 2)
    node.process.kill()
    node.process.wait()
    return ended(program, node.output()), node.output()


def load(f, bin_, models):
    """Models are loaded, some of them damaged."""
    said = ""
    for model in models:
        remove_sockets(f)
        node = Node(bin_, model, "--socket", f.socket, "--memory", "1G", "--slots", "8")
        node.wait_for("ready", 20)
        node.process.kill()
        node.process.wait()
        said += node.output()
        if ended("loader", said):
            break
    return ended("loader", said), said


def score(f, bin_):
    prompts = os.path.join(f.path, "prompts")
    with open(prompts, "w") as out:
        json.dump({"prompts": [[3 + i % 50 for i in range(100)] for _ in range(4)]}, out)
    files = [x for kind in ("logits", "routes", "mtp-logits") for x in (f"--{kind}", os.path.join(f.path, kind))]
    p = subprocess.Popen([os.path.join(bin_, "penstock"), "score", f.model, prompts, "--memory", "1G", "--slots", "8", *files, *SANDBOX],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = p.communicate(timeout=60)[1]
    return ended("score", said), said


def copy_model(f, name, change):
    path = os.path.join(f.path, name)
    shutil.copytree(f.model, path)
    change(path)
    return path


def break_config(path):
    with open(os.path.join(path, "config.json"), "w") as f:
        f.write("{")


def break_weight(path):
    """A number that is not one, in the embedding's first row."""
    for name in os.listdir(path):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(path, name), "r+b") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            tensor = json.loads(f.read(size)).get("model.embed_tokens.weight")
            if tensor:
                f.seek(8 + size + tensor["data_offsets"][0])
                f.write(b"\xff\x7f" * 64)


def make_many(f):
    """A model of many tensors in many files."""
    path = os.path.join(f.path, "many")
    subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", path, "--layers", "24", "--experts", "64", "--shards-bytes", "4M"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def run(f, role, bin_, program, models):
    if role == "SCORE":
        return score(f, bin_)
    return load(f, bin_, models) if program == "loader" else live(f, bin_, program)


def main(only):
    with Folder() as f:
        talkative(f.make_model())  # a reply that ends early takes too little memory to be given back
        models = [f.model, copy_model(f, "no-config", break_config), copy_model(f, "no-number", break_weight), make_many(f)]
        for role, (number, name, table) in ROLES.items():
            if only and role not in only:
                continue
            program = Program(name)
            bin_ = os.path.join(f.path, role)
            shutil.copytree(BIN, bin_)
            calls = subprocess.run([os.path.join(ROOT, "build", "test", "confined"), "list", str(number)], capture_output=True, text=True,
                                   check=True).stdout.strip().split(", ")
            n = program.rules(table)
            ok(len(calls) == n, f"{role}: its {n} calls are {', '.join(calls)}", calls)
            for i, said in enumerate(calls):
                os.unlink(os.path.join(bin_, name))  # it may still be running
                with open(os.path.join(bin_, name), "wb", opener=lambda path, flags: os.open(path, flags, 0o755)) as out:
                    out.write(program.without(table, i))
                broken, why = run(f, role, bin_, name, models)
                ok(broken, f"{role} needs {said}", why[-600:])
    done()


if not shutil.which("nm"):
    print("1..0 # SKIP no nm here, which finds the tables in the programs")
    sys.exit(0)
main(sys.argv[1:])
