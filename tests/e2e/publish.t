#!/usr/bin/env python3
"""A server killed between any two instructions of a publish, from the first of record_commit to its neighbour's bell, and at any system call of
gateway and experts: the replies are the same bytes.

    tests/e2e/publish.t [all]      every instruction boundary, and 100 system calls each (default: 12 places of each server, 12 system calls)
"""
# time limit: 3000 s
import os
import re
import subprocess
import sys
import time

from live import Live, talkative
from node import ROOT, SERVERS, Folder, done, ok, wait_until

ALL = sys.argv[1:] == ["all"]
PLACES, CALLS, STOPS = (10000, 100, 8) if ALL else (12, 12, 2)
# what they call while they serve, of their tables (ipc/sandbox.c): name, number, in which threads. A clock is no call here, others come at starts and ends.
NAMED = {"gateway": [("futex", 202, 1), ("write", 1, 1), ("madvise", 28, 1)], "experts": [("futex", 202, 8), ("io_uring_enter", 426, 8)]}
TAIL = 120  # instructions behind record_commit: the ring's bell is among them
TOOL = os.path.join(ROOT, "build", "test", "step_kill")
STREAMS = [{"prompt": [5 + i] + [5 + j * 11 % 250 for j in range(60 * i)], "max_tokens": 100, "seed": 100 + i, "temperature": 1} for i in range(4)]

if os.geteuid():
    print("1..0 # SKIP only root may step through the servers")
    sys.exit(0)


class Work:
    """Streams that follow one another; each is compared with its undisturbed twin."""

    def __init__(self, node, want):
        self.node, self.want, self.wrong, self.done = node, want, [], 0
        self.streams = [None] * len(STREAMS)

    def look(self, go_on=True):
        for i, s in enumerate(self.streams):
            if s and not s.is_alive():
                self.done += 1
                if not s.reply or s.reply.raw != self.want[i].raw:
                    self.wrong.append(f"stream {i}: {s.error or 'other bytes'}")
                self.streams[i] = s = None
            if not s and go_on:
                self.streams[i] = self.node.stream(**STREAMS[i])

    def finish(self):
        ok(wait_until(lambda: self.look(False) or not any(self.streams), 100), "no stream is stuck", self.node.output()[-500:])


def publish_at(program):
    """Address of record_commit in the program's file."""
    names = subprocess.run(["nm", os.path.join(ROOT, "build", "debug", program)], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"^(\w+) [tT] record_commit$", names, re.M)[1], 16)


def base_of(pid, program):
    """Where the program begins: its file's first bytes; memfds and the like have other names."""
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            words = line.split()
            if len(words) > 5 and words[2] == "00000000" and os.path.basename(words[5]) == program:
                return int(words[0].split("-")[0], 16)
    return None


def thread_of(pid, nth):
    """A process's thread by its age, the first being the process."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))[nth] if nth else pid


def kill(work, program, *where, thread=0, tries=100):
    """Kills the server that serves now; what the tool said, None if the place was not reached."""
    for _ in range(tries):
        work.look()
        pid = work.node.children().get(program)
        try:
            base = base_of(pid, program) if pid else None
        except OSError:
            base = None
        if base is None:
            time.sleep(0.002)
            continue
        words = [hex(base + int(w[1:], 16)) if w.startswith("+") else w for w in where]
        try:
            at = thread_of(pid, thread)
        except (OSError, IndexError):
            time.sleep(0.002)
            continue
        r = subprocess.run([TOOL, str(at), *words], capture_output=True, text=True)
        if r.returncode == 0:
            return [int(x) for x in r.stdout.split()]
        time.sleep(0.01)
    return None


with Folder() as f:
    talkative(f.make_model())
    node = Live(f.socket, f.model, "--memory", "200M", "--chunk", "16", "--context", "1024", "--slots", "40")
    if not ok(not node.failed, "a node starts", node.failed):
        done()
    want = [node.stream(**s).result() for s in STREAMS]
    ok(all(want), "replies without a kill", want)
    work = Work(node, want)
    for program in SERVERS:
        at = "+" + hex(publish_at(program))
        seen = kill(work, program, "at", at, "5000")
        ok(seen and seen[1], f"{program}: a publish is stepped through", seen)
        length = (seen[1] if seen else 0) + TAIL
        places = range(length) if length <= PLACES else [i * length // PLACES for i in range(PLACES)]
        missed = [p for p in places if kill(work, program, "at", at, str(p)) is None]
        ok(not missed, f"{program}: killed at {len(places)} of {length} instruction boundaries", missed)
    for program in ("gateway", "experts"):
        numbers = {}
        missed = 0
        for n in range(1, CALLS + 1):
            seen = kill(work, program, "calls", str(n))
            missed += not seen
            if seen:
                numbers[seen[0]] = numbers.get(seen[0], 0) + 1
        ok(missed == 0, f"{program}: killed at {CALLS} stops at system calls, the first, the second, ...", missed)
        print(f"# {program}: call: times {numbers}")
        wait_until(lambda: program in node.children(), 20)
        threads = len(os.listdir(f"/proc/{node.children()[program]}/task"))
        for name, number, most in NAMED[program]:
            killed = [(t, n) for t in range(min(threads, most)) for n in range(1, STOPS + 1)
                      if kill(work, program, "call", str(number), str(n), thread=t, tries=1 if t else 5)]
            ok({n for _, n in killed} == set(range(1, STOPS + 1)), f"{program}: killed where {name} is entered and left", killed)
            print(f"# {name}: in {len({t for t, _ in killed})} of {threads} threads, {len(killed)} times")
    work.finish()
    ok(not work.wrong and work.done >= 4, f"{work.done} replies: the same bytes", "\n".join(work.wrong[:5]))
    ok(node.complete(STREAMS[1]["prompt"], 5, seed=1).finish == "length", "the node answers as before")
    ok(node.stop() == 0, "and ends", node.output())
done()
