#!/usr/bin/env python3
"""Late DMA (machinery 10): experts is killed again and again while the drive has its reads under way and answers none. What lands afterwards lands in slots that
nobody has been given since: the io_uring of each dead generation is kept until its last read is there, the replies are the same bytes, no slot is lost. And a
drive of two that answers nothing: the copy on the other is read. The drive is a loop device over a file system whose reads can wait, so that a read outlives its
process as it does on a real drive.

    tests/e2e/late.t [SECONDS]      how long the drive of two is silent (default 3)
"""
# time limit: 300 s
import os
import re
import subprocess
import sys
import time

from faulty import Faulty, possible
from live import Live, talkative
from node import BIN, Folder, done, ok, wait_until

HANG = int(sys.argv[1]) if len(sys.argv) > 1 else 3
KILLS = 3  # with the living one as many io_urings as there may be
PROMPTS = [{"prompt": [5 + i] + [5 + j * (7 + i) % 250 for j in range(30 * i)], "max_tokens": 30, "seed": i, "temperature": 1} for i in range(4)]


def replies(streams):
    return [s.reply.raw if s.result(100) else s.error for s in streams]


def loop_over(path):
    """A read-only loop device over a file; None where there is none to be had."""
    try:
        r = subprocess.run(["losetup", "--find", "--show", "--read-only", "--direct-io=on", path], capture_output=True, text=True)
    except OSError:
        return None
    return r.stdout.strip() if r.returncode == 0 else None


def generation(node):
    return next((g for program, g, pid in node.processes() if pid == node.children().get("experts")), 0)


def drained(node):
    """Generations up to which all are known to be."""
    return [int(g) for g in re.findall(r"io_uring of generation (\d+) is empty", node.output())]


def trial(f, drive, device):
    node = Live(f.socket, device, "--memory", "200M", "--slots", "8", "--chunk", "16", "--context", "1024", "--verbose")
    if not ok(not node.failed, "a node starts on the device", node.failed):
        return
    want = replies([node.stream(**p) for p in PROMPTS])
    ok(all(isinstance(w, bytes) for w in want), "undisturbed replies", want)
    descriptors = node.descriptors()
    streams = [node.stream(**p) for p in PROMPTS]
    ok(streams[0].wait_for_events(3), "again, while")
    drive.waiting = 0
    drive.hold.clear()
    ok(wait_until(lambda: drive.waiting > 0, 20), "the drive has a read of it, and answers none")
    killed = []
    for _ in range(KILLS):
        time.sleep(0.3)  # the successor asks for experts of its own, in other slots; the device takes one read at a time
        killed.append(generation(node))
        node.kill("experts")
        wait_until(lambda: generation(node) > killed[-1], 10)
    ok(generation(node) > killed[-1], f"experts dies {KILLS} times with reads under way, and each time has a successor", killed)
    time.sleep(0.5)
    ok(max(drained(node), default=0) < killed[0], "the io_uring of the first is not empty as long as the drive holds its reads", (killed, drained(node)))
    status, models = node.get("/v1/models")
    ok(status == 200 and any(s.is_alive() for s in streams), "the gateway answers meanwhile, replies wait", status)
    drive.hold.set()
    got = replies(streams)
    ok(got == want, "the reads land, and the replies are the same bytes", [g for g in got if isinstance(g, str)])
    ok(wait_until(lambda: max(drained(node), default=0) >= killed[-1], 10), "every dead generation's io_uring is empty then", (killed, drained(node)))
    ok(replies([node.stream(**p) for p in PROMPTS]) == want, "and what lies in the slots is what it says")
    said = node.metrics()
    ok(said["slots_pinned"] == 0 and said["read_errors"] == 0, "no slot is held, no read has failed", said)
    ok(wait_until(lambda: node.descriptors() <= descriptors, 10), "and no io_uring is kept", (node.descriptors(), descriptors))
    ok(node.get("/health")[0] == 200 and node.stop() == 0, "it is well, and ends", node.output()[-2000:])


def mirrored(f, drive, device, second):
    node = Live(f.socket, f"{device},{second}", "--memory", "200M", "--slots", "16", "--chunk", "16", "--context", "1024")
    if not ok(not node.failed, "a node starts on the device and a file with the same", node.failed):
        return
    want = replies([node.stream(**p) for p in PROMPTS])
    lived = node.children()
    drive.waiting = 0
    drive.hold.clear()
    begin = time.monotonic()
    got = replies([node.stream(**p) for p in PROMPTS])
    took = time.monotonic() - begin
    ok(got == want and drive.waiting > 0, f"a drive that answers nothing: the other one's copy gives the same bytes, in {took:.1f} s", [g for g in got if isinstance(g, str)])
    time.sleep(max(0, HANG - (time.monotonic() - begin)))
    begin = time.monotonic()
    got = replies([node.stream(**p) for p in PROMPTS])
    ok(got == want, f"{HANG} s later too: {time.monotonic() - begin:.1f} s", [g for g in got if isinstance(g, str)])
    said = node.metrics()
    ok(said["read_errors"] == 0 and node.children() == lived, "nothing has failed, nobody has died", node.output()[-1000:])
    drive.hold.set()
    ok(replies([node.stream(**p) for p in PROMPTS]) == want and node.metrics()["slots_pinned"] == 0, "nor when it answers again")
    ok(node.get("/health")[0] == 200 and node.stop() == 0, "it is well, and ends", node.output()[-2000:])


if not possible():
    print("1..0 # SKIP a drive that can wait needs root and /dev/fuse")
    sys.exit(0)
with Folder() as f:
    talkative(f.make_model("--layers", "3"))
    folder = os.path.join(f.path, "packed")
    os.mkdir(folder)
    subprocess.run([os.path.join(BIN, "penstock"), "pack", f.model, os.path.join(folder, "a.pack")], check=True, capture_output=True)
    drive = Faulty(folder, os.path.join(f.path, "drive"))
    device = loop_over(os.path.join(drive.mountpoint, "a.pack"))
    if device:
        try:
            trial(f, drive, device)
            mirrored(f, drive, device, os.path.join(folder, "a.pack"))
        finally:
            drive.hold.set()
            subprocess.run(["losetup", "--detach", device], check=False)
            drive.close()
    else:
        drive.close()
        print("1..0 # SKIP there is no loop device to be had")
        sys.exit(0)
done()
