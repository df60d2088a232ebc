#!/usr/bin/env python3
"""`penstock bench` and `penstock top`: what they report is there and makes sense, they leave nothing behind, and a node that hangs is still seen."""
import array
import fcntl
import json
import math
import mmap
import os
import signal
import socket
import subprocess
import time

from live import Live, least_memory, talkative
from node import BIN, SERVERS, Folder, done, ok, wait_until

PENSTOCK = os.path.join(BIN, "penstock")


def penstock(*arguments, seconds=120, **more):
    return subprocess.run([PENSTOCK, *arguments], capture_output=True, text=True, timeout=seconds, **more)


def numbers(value):
    """Every number in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, (int, float)) else []


def counters(path):
    """The descriptors that the second socket gives."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path + ".counters")
        message, ancillary, _, _ = s.recvmsg(64, socket.CMSG_SPACE(4 * 16))
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data)
        return message, list(fds)


with Folder() as f:
    f.make_model()
    talkative(f.model)
    scratch = os.path.join(f.path, "tmp")
    os.mkdir(scratch)
    env = dict(os.environ, TMPDIR=scratch)

    # ---- bench
    least = least_memory(f.model, "--context", "256", "--parallel", "1", "--slots", "4")
    r = penstock("bench", f.model, "--json", "--prompt", "32", "--tokens", "16", "--repeat", "2", "--memory", "400M", "--context", "256",
                 "--parallel", "1", "--budget", f"{least}M", "--timeline", os.path.join(f.path, "line"), env=env)
    report = json.loads(r.stdout) if r.returncode == 0 else {"runs": [], "limits": {}}
    ok(r.returncode == 0 and len(report["runs"]) == 2, "bench measures a node in memory and one at the budget", r.stderr + r.stdout[:300])
    limits = report["limits"]
    ok(limits.get("memory_gbs", 0) > 0.1 and limits.get("multiply_gflops", 0) > 0.1, "the machine's limits are there", limits)
    ok(all(math.isfinite(n) for n in numbers(report)), "every number is finite")
    for run in report["runs"]:
        name = run["name"]
        ok(run["start"]["first_token_s"] > 0 and run["start"]["ready_s"] > 0 and run["start"]["bytes"] > 0, f"{name}: the start is timed", run["start"])
        for case, least_tokens in (("prefill", 32), ("decode", 16)):
            c = run[case]
            reps = c["repetitions"]
            ok(len(reps) == 2 and all(x["tokens"] >= least_tokens for x in reps), f"{name}, {case}: every repetition is whole", reps)
            ok(c["tokens_per_s"] > 0 and 0 < c["memory_share"] and 0 < c["multiply_share"] < 1, f"{name}, {case}: shares of the limits are given", c)
            for x in reps:
                stages = x["stages_ns"]
                total = sum(stages.values())
                ok(abs(total - x["seconds"] * 1e9) < 2, f"{name}, {case}: the stages and hand-over add up to the time it took", (stages, x["seconds"]))
    memory, budget = report["runs"] if len(report["runs"]) == 2 else ({}, {})
    ok(all(x["misses"] * 10 < x["hits"] for x in memory["decode"]["repetitions"]), "in memory nothing is read but what the first prompt left out",
       [(x["misses"], x["hits"]) for x in memory["decode"]["repetitions"]])
    ok(all(x["misses"] > 0 and x["read_bytes"] > 0 for x in budget["decode"]["repetitions"]), "at the budget experts are", budget["decode"])
    ok(os.listdir(scratch) == [], "nothing is left in the temporary folder", os.listdir(scratch))

    with open(os.path.join(f.path, "line")) as file:
        events = json.load(file)["traceEvents"]
    line = [x for x in events if x["ph"] == "X"]
    lanes = {}
    for x in line:
        lanes.setdefault((x["pid"], x["tid"]), []).append((x["ts"], x["ts"] + x["dur"]))
    ok(set(lanes) == {(pid, tid) for pid in (1, 2, 3) for tid in (1, 2)}, "the time line has both batches of every computing server", lanes.keys())
    crossing = [(key, a, b) for key, spans in lanes.items() for a, b in zip(sorted(spans), sorted(spans)[1:]) if a[1] > b[0] + 0.002]
    ok(not crossing, "no two stages of a server's batch overlap", crossing[:3])
    reads = {ph: {x["id"]: x["ts"] for x in events if x["ph"] == ph and x["cat"] == "drive"} for ph in "be"}
    ok(reads["b"] and reads["b"].keys() == reads["e"].keys() and all(t < reads["e"][i] for i, t in reads["b"].items()),
       "it has every expert's way from the drive", (len(reads["b"]), len(reads["e"])))
    ok({"attention", "gate", "routed experts", "wait for the drive", "head"} <= {x["name"] for x in line}, "every stage is there")

    r = penstock("bench", f.model, "--prompt", "16", "--tokens", "8", "--repeat", "1", "--memory", "400M", "--context", "256", env=env)
    ok(r.returncode == 0 and "hand-over" in r.stdout and "tg8" in r.stdout and "pp16" in r.stdout, "without --json it is a table", r.stdout + r.stderr)
    r = penstock("bench", os.path.join(f.path, "none"), env=env)
    ok(r.returncode == 3 and "none" in r.stderr, "a missing model has status 3", r)
    r = penstock("bench", f.model, "--memory", "1M", env=env)
    ok(r.returncode == 4 and "Raise --memory" in r.stderr, "a node that does not fit has status 4, and says itself why", r)
    ok(penstock("bench", f.model, "--unknown", env=env).returncode == 2, "an unknown option has status 2")
    ok(penstock("bench", "--budget", "1G", env=env).returncode == 2, "so has a budget without a model")
    r = penstock("bench", "--help")
    ok(r.returncode == 0 and "--budget" in r.stdout, "it has --help")
    p = subprocess.Popen([PENSTOCK, "bench", f.model, "--repeat", "32", "--tokens", "1000", "--memory", "400M"], env=env,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(os.path.exists(os.path.join(scratch, d, "s")) for d in os.listdir(scratch)), 20)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    ok(p.wait(60) == 130, "Ctrl-C ends it with status 130", p.returncode)
    ok(os.listdir(scratch) == [], "and takes its node and folder away", os.listdir(scratch))

    # ---- a node that runs
    node = Live(f.socket, f.model, "--memory", "400M", "--context", "2048")
    ok(not node.failed, "a node runs", node.failed)
    r = penstock("bench", f.model, "--socket", f.socket, "--json", "--prompt", "16", "--tokens", "8", "--repeat", "1", env=env)
    ok(r.returncode == 0 and json.loads(r.stdout)["runs"][0]["decode"]["tokens_per_s"] > 0, "bench measures it by its socket", r.stderr)

    message, fds = counters(f.socket)
    ok(len(fds) == 5 and len(message) == 16, "the second socket gives the counters of five roles", (message, fds))
    ok(all(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY for fd in fds), "read-only ones")
    refused = 0
    for fd in fds:
        try:
            mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except PermissionError:
            refused += 1
    ok(refused == 5, "that nobody can map for writing", refused)
    for fd in fds:
        os.close(fd)

    # ---- top
    stream = node.stream([9], 1500, seed=1, temperature=1)
    stream.wait_for_events(20)
    r = penstock("top", "--socket", f.socket, "--once", "--json", "--interval", "200")
    seen = json.loads(r.stdout) if r.returncode == 0 else {}
    ok(seen.get("tokens_per_s", 0) > 0 and seen["counters"]["running"] == 1, "top shows tokens per second and sequences", r)
    # a stage's time goes to behind its commit and the waking of the next, which is much beside the 20 us of this tiny model's stages
    ok(0 < sum(v for k, v in seen["share"].items() if k != "left") <= 1.5 and all(math.isfinite(n) for n in numbers(seen)),
       "and where the time goes", seen)
    r = penstock("top", "--socket", f.socket, "--once", "--interval", "50")
    ok(r.returncode == 0 and "tokens/s" in r.stdout and "attention" in r.stdout and "\033[2J" not in r.stdout, "as text, without colours, in a script", r)
    pids = [node.children()[s] for s in SERVERS]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    r = penstock("top", "--socket", f.socket, "--once", "--json", "--interval", "700", seconds=10)
    hung = json.loads(r.stdout) if r.returncode == 0 else {}
    ok(hung.get("tokens_per_s") == 0 and hung["counters"]["running"] == 1, "top works on a node whose servers are all stopped", r)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    ok(stream.result(60) is not None, "the node goes on", stream.error)
    p = subprocess.Popen([PENSTOCK, "top", "--socket", f.socket, "--interval", "50"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    node.stop()
    ok(p.wait(10) == 1 and "has ended" in p.stderr.read(), "top ends with the node")
    ok(not os.path.exists(f.socket + ".counters"), "and the second socket is gone with it")
    r = penstock("top", "--socket", f.socket)
    ok(r.returncode == 1 and "no node gives its counters" in r.stderr, "without a node it says so", r)
    ok(penstock("top", "--help").returncode == 0 and penstock("top", "--interval", "0").returncode == 2, "it has --help, and refuses nonsense with status 2")
done()
