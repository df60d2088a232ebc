#!/usr/bin/env python3
"""Faults of the drive below a node that streams: read errors, flipped bits with and without a second drive's copy, and a drive that
stalls. Always the same: the same bytes, or an error that names file and tensor; and the node lives. The drive is a file system of the test's own.

(Reads that come short: tests/unit/t_stream.c. FUSE takes them for the end of the file.)

    tests/e2e/drive.t [SECONDS]      how long the drive stalls (default 6)
"""
# time limit: 600 s
import errno
import json
import os
import re
import subprocess
import sys
import time

from faulty import Faulty, possible
from live import Live, talkative
from node import BIN, ROOT, SERVERS, Folder, done, ok, wait_until

sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import checkpoint as ck  # noqa: E402

STALL = float(sys.argv[1]) if len(sys.argv) > 1 else 6
PROMPTS = [{"prompt": [5 + i] + [5 + j * (7 + i) % 250 for j in range(30 * i)], "max_tokens": 40, "seed": i, "temperature": 1} for i in range(4)]
EXPERT = "model.layers.2.mlp.experts.5.up_proj.weight"

if not possible():
    print("1..0 # SKIP a drive with faults needs root and /dev/fuse")
    sys.exit(0)


def reply(stream, seconds):
    """What must be the same, or why there is none."""
    r = stream.result(seconds)
    return (r.text, r.finish, r.tokens) if r else stream.error


def ask(node):
    streams = [node.stream(**p) for p in PROMPTS]
    return [reply(s, 100) for s in streams]


def start(f, model):
    node = Live(f.socket, model, "--memory", "200M", "--slots", "4", "--chunk", "16", "--context", "1024", seconds=60)
    ok(not node.failed, "a node starts on it", node.failed)
    return node


def pids(node):
    return {p: node.children().get(p) for p in SERVERS}


def counter(node, name):
    return node.metrics().get(name)


with Folder() as f:
    talkative(f.make_model("--layers", "3"))
    node = start(f, f.model)
    want = ask(node)
    ok(all(isinstance(w, tuple) for w in want), "a drive without faults: replies", want)
    node.stop()

    drive = Faulty(f.model, os.path.join(f.path, "drive"))
    node = start(f, drive.mountpoint)
    lived = pids(node)
    failed = {}

    def now_and_then(name, offset, data):
        failed[offset] = failed.get(offset, 0) + 1
        return errno.EIO if failed[offset] % 4 else None  # three times in a row

    drive.fault, drive.reads = now_and_then, 0
    got = ask(node)
    ok(got == want and drive.reads > 20, f"errors that pass when a read is tried again ({drive.reads}): the same bytes", got)
    ok(counter(node, "drive_errors") > 20, "they are counted", counter(node, "drive_errors"))
    ok(counter(node, "read_errors") == 0 and node.get("/health")[0] == 200, "and nobody hears of them")

    drive.fault = None
    begin = time.monotonic()
    streams = [node.stream(**p) for p in PROMPTS]
    streams[0].wait_for_events(5)
    drive.hold.clear()
    asked = []
    while time.monotonic() - begin < STALL:
        asked.append(node.get("/v1/models")[0])
        time.sleep(0.2)
    ok(any(s.is_alive() for s in streams) and set(asked) == {200}, f"a drive that stalls for {STALL:.0f} s: replies wait, the gateway answers", asked)
    drive.hold.set()
    got = [reply(s, 60) for s in streams]
    ok(got == want, "and go on with the same bytes when it is back", got)
    ok(pids(node) == lived, "nobody has died of all that", node.output())

    with open(os.path.join(f.model, "model.safetensors"), "rb") as s:
        h, base = ck.header(s.read())
    first, last = (base + x for x in h[EXPERT]["data_offsets"])

    def bad_place(name, offset, data):
        return errno.EIO if name == "model.safetensors" and offset < last and offset + len(data) > first else None

    drive.fault = bad_place
    got = ask(node)
    wrong = [g for g in got if not isinstance(g, tuple)]
    ok(all(g == w for g, w in zip(got, want) if isinstance(g, tuple)), "a place that cannot be read: who does not need it has the same bytes")
    near = re.compile(r"model\.safetensors: tensor model\.layers\.2\.mlp\.experts\.[456]\.\w+_proj\.weight: cannot be read: I/O error")  # a block is read whole
    ok(wrong and all(near.search(g) for g in wrong), "who needs it gets an error that names file and tensor", got)
    status, body = node.get("/health")
    ok(status == 503 and near.search(body.decode()) and counter(node, "read_errors") > 0, "/health names it, and it is counted", body)
    ok(pids(node) == lived, "and the servers live", node.output())
    ok(node.stop() == 0, "the node ends", node.output())
    drive.close()

    folder = os.path.join(f.path, "packed")
    os.mkdir(folder)
    subprocess.run([os.path.join(BIN, "penstock"), "pack", f.model, os.path.join(folder, "a.pack")], check=True, capture_output=True)
    drive = Faulty(folder, os.path.join(f.path, "drive2"))
    second = os.path.join(folder, "a.pack")

    def flipped(name, offset, data):
        at = (offset // 4096 * 2654435761) % len(data) if data else 0
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1:] if data else None

    node = start(f, f"{drive.mountpoint}/a.pack,{second}")
    packed = ask(node)
    ok(packed == want, "a packed store gives the same bytes", packed)
    drive.fault, drive.reads = flipped, 0
    got = ask(node)
    ok(got == want and drive.reads > 0, f"flipped bits in every read ({drive.reads}): the second drive's copy gives the same bytes", got)
    drive.fault, drive.reads = lambda name, offset, data: errno.EIO, 0
    got = ask(node)
    ok(got == want and drive.reads > 0, f"a drive that can no longer be read ({drive.reads}): the same", got)
    ok(node.get("/health")[0] == 200, "and the node is well", node.get("/health"))
    ok(node.stop() == 0, "it ends", node.output())
    drive.fault = None
    node = start(f, f"{drive.mountpoint}/a.pack")
    drive.fault = flipped
    got = ask(node)
    ok(any("hash" in str(g) or "damaged" in str(g) for g in got) and all(g in want or not isinstance(g, tuple) for g in got),
       "without a copy: an error, never another byte", got)
    ok(node.stop() == 0, "it ends", node.output())
    drive.close()
done()
