#!/usr/bin/env python3
"""The flight recorder: what a server was doing when it died is written with the cause, and `penstock replay` runs that very step again, in a process
of its own, with the bits that lay in the dead node's memory."""
import json
import os
import random
import signal
import struct
import subprocess
import threading
import time

from node import BIN, Folder, Node, dial, done, ok, wait_until

MTP = 1  # enum pass_kind
SHAPE = ["--vocab", "32000"]  # with scalar code, long enough a step of the router to die in
WANTED = {"router", "mla", "experts"}


def ask(path, prompt, tokens):
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0}).encode()
    s = dial(path)
    s.settimeout(60)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    got = b""
    while part := s.recv(65536):
        got += part
    return got


def entries(path):
    """[(program, whether its step can be run again)] of a recorder's file (ipc/recorder.h)."""
    programs = {3: "gateway", 4: "router", 5: "mla", 6: "experts", 7: "scribe"}
    found = []
    with open(path, "rb") as f:
        magic, _, size = struct.unpack("<QII", f.read(16))
        while len(entry := f.read(size)) == size:
            role, kind, partial = (struct.unpack_from("<I", entry, at)[0] for at in (16, 52, 72))
            found.append((programs[role], not partial and kind != MTP))
    return found


def replay(f, entry, *options, model=None):
    command = [os.path.join(BIN, "penstock"), "replay", os.path.join(f.path, "record"), model or f.model, "--entry", str(entry), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def fly(f):
    """A node whose servers are killed while it works, until each has died within a step; returns how many kills it took."""
    record = os.path.join(f.path, "record")
    node = Node(BIN, f.model, "--socket", f.socket, "--memory", "1G", "--slots", "8", "--isa", "scalar", "--recorder", record)
    ok(node.wait_for("ready"), "a node starts", node.output())
    stop = threading.Event()

    def work(n):
        while not stop.is_set():
            ask(f.socket, [3 + (i * n) % 90 for i in range(40 + 200 * n)], 60)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    kills, seen, rng = 0, set(), random.Random(8)
    while kills < 240 and not (kills >= 12 and WANTED <= seen):
        program = ("mla", "experts", "router", "gateway")[kills % 4]
        if program in seen and kills >= 12:
            program = min(WANTED - seen)
        time.sleep(rng.uniform(0.01, 0.06))  # it is to get somewhere
        pid = node.children().get(program)
        if pid:
            os.kill(pid, signal.SIGKILL)
            kills += 1
            wait_until(lambda old=pid, p=program: node.children().get(p) not in (None, old), 5)
            wait_until(lambda want=kills: len(entries(record)) == want, 5)
            seen |= {role for role, whole in entries(record)[-1:] if whole}
    stop.set()
    for t in threads:
        t.join()
    ok(node.stop() == 0, "the node ends well", node.output())
    return kills


def main():
    with Folder() as f:
        f.make_model(*SHAPE)
        deaths = fly(f)
        seen, wrong, n, why = {}, [], 0, {}
        for entry in range(1, deaths + 1):
            r = replay(f, entry)
            if "--entry" in r.stderr:
                break
            n += 1
            if r.returncode == 0:
                role = r.stdout.split(",")[0]
                seen.setdefault(role, entry)
                wrong += [] if "its input: the same bits" in r.stdout and "ended by signal 9: Killed" in r.stdout else [r.stdout]
            elif r.returncode == 1:
                why[r.stderr.strip()] = why.get(r.stderr.strip(), 0) + 1
            else:
                wrong.append(r.stdout + r.stderr)
        ok(deaths >= 12 and n == deaths, f"every death is in the file: {n} of {deaths}")
        ok(not wrong, "every step that can be run again has the bits of the node", wrong[:2])
        ok(WANTED <= set(seen), "there were steps of router, mla and experts among them", f"{seen} {why}")
        for role, entry in sorted(seen.items()):
            first = replay(f, entry)
            print("# " + first.stdout.replace("\n", "\n# "))
            again = replay(f, entry, "--isa", "scalar", "--threads", "2")
            ok(again.returncode == 0 and first.stdout == again.stdout, f"{role}: two threads and scalar code give the same bits", again.stdout)
        print(f"# not run again: {why}")
        entry = min(seen.values(), default=1)
        other = os.path.join(f.path, "other")
        subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", other, *SHAPE, "--seed", "7"], check=True, capture_output=True)
        r = replay(f, entry, model=other)
        ok(r.returncode == 5 and "other bits" in r.stdout, "with other weights the bits are others, and that is said", r.stdout + r.stderr)
        other = os.path.join(f.path, "smaller")
        subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", other, *SHAPE, "--layers", "2"], check=True, capture_output=True)
        r = replay(f, entry, model=other)
        ok(r.returncode == 3 and "not the model of that node" in r.stderr, "another model is refused", r.stderr)
        with open(os.path.join(f.path, "record"), "r+b") as at:
            at.seek(os.path.getsize(at.name) // 2)
            at.truncate()
        r = replay(f, n)
        ok(r.returncode == 2, "a file that has been cut is refused", r.stderr)
    done()


main()
