#!/usr/bin/env python3
"""How fast a node is beside its machine: tokens/s of prefill and decode, the bytes a token needs, and what part of the memory's and the drive's
bandwidth (measured in the same run) that is. Models are made by `penstock synth` in DIR and removed afterwards.

    tests/bench/start.py DIR [resident|stream|v3|MODEL]...       default: resident and stream

resident  5 GB, all experts in slots          stream  6.6 GB of experts, --memory a third of that
v3        one dense and one MoE layer of V3's own widths (16 GB), --memory 6G          MODEL  any directory, default budget
"""
import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from live import Cgroup, Live, PssPeak, drive_bytes, talkative  # noqa: E402
from node import BIN  # noqa: E402

SMALL = "--hidden 2048 --moe-intermediate 1408 --experts 64 --intermediate 8192 --heads 16 --kv-lora-rank 512 --q-lora-rank 768 --nope-dim 128 " \
        "--rope-dim 64 --v-dim 128 --vocab 32000 --experts-per-token 6 --mtp 0"
MODELS = {  # name: (shape and options, budget, prompt tokens, tokens)
    "resident": (f"v3-tiny {SMALL} --layers 9", "7G", 512, 128),
    "stream": (f"v3-tiny {SMALL} --layers 13", "2112M", 512, 96),
    "v3": ("v3 --layers 2 --dense-layers 1 --mtp 0", "6G", 512, 64),
}


def memory_bandwidth():
    """GB/s of a read loop on all CPUs, as t_kernels -b measures it beside its first kernels; None if that program is not built."""
    program = os.path.join(ROOT, "build", "test", "t_kernels")
    if not os.path.exists(program):
        return None
    best = 0
    with subprocess.Popen([program, "-b", "-t", str(len(os.sched_getaffinity(0))), "-i", "avx2"], stdout=subprocess.PIPE, text=True) as p:
        for _ in range(3):
            words = p.stdout.readline().split()
            best = max([best] + [float(words[i + 1]) for i, w in enumerate(words[:-1]) if w == "of" and words[i - 3] == "GB/s"])
        p.kill()
    return best or None


def drive_bandwidth(folder, seconds=3, piece=512 << 10, depth=16):
    """GB/s of `depth` readers of 512 KiB pieces, O_DIRECT, from the model's files."""
    files = [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".safetensors")]
    pieces = [(path, off) for path in files for off in range(0, os.path.getsize(path) - piece, piece)]
    done, lock, end = [0], threading.Lock(), time.monotonic() + seconds
    step = max(1, len(pieces) // 8)
    order = [pieces[i] for first in range(step) for i in range(first, len(pieces), step)]

    def read(number):
        fds, buffer = {}, mmap.mmap(-1, piece)
        for path, off in order[number::depth]:
            if time.monotonic() > end:
                break
            if path not in fds:
                fds[path] = os.open(path, os.O_RDONLY | os.O_DIRECT)
            got = os.preadv(fds[path], [buffer], off)
            with lock:
                done[0] += got
        for fd in fds.values():
            os.close(fd)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(depth)]
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return done[0] / (time.monotonic() - begin) / 1e9


def needs(info):
    """Bytes of weights that one token's forward pass reads from memory."""
    b = info["bytes"]
    moe_layers = b["routed_experts"] // (info["routed_experts"] * b["expert"])
    per_layer = info["experts_per_token"] * b["expert"]
    return b["head"] + b["attention"] + b["dense"] + b["shared_experts"] + b["gates"] + moe_layers * per_layer


def part(a, b):
    return f"{a:.2f} GB/s" + (f" = {a / b:.2f} of {b:.1f}" if b else "")


class Run:
    def __init__(self, node, model, info):
        self.node, self.model, self.info = node, model, info

    def measure(self, what, tokens, call, passes):
        before, drive, begin = self.node.metrics(), drive_bytes(self.model), time.monotonic()
        call()
        seconds = time.monotonic() - begin
        after = self.node.metrics()
        d = {key: after[key] - before[key] for key in after}
        read = d["read_bytes"] / seconds / 1e9
        counted = f", the drive counted {(drive_bytes(self.model) - drive) / 1e9:.2f}" if drive is not None else ""
        print(f"  {what:18} {tokens / seconds:8.2f} tokens/s" + (f"  memory {part(passes * needs(self.info) / seconds / 1e9, self.memory)}" if passes else "") +
              f"  drive {part(read, self.drive)}  {d['read_bytes'] / tokens / 1e6:.1f} MB per token, hit rate "
              f"{d['expert_hits'] / max(1, d['expert_hits'] + d['expert_misses']):.3f}, read {d['read_bytes'] / 1e9:.2f} GB{counted}")
        total = max(1, sum(d[k] for k in STAGES))
        print("  " + " " * 18 + "  " + ", ".join(f"{k[:-3]} {100 * d[k] / (seconds * 1e9):.0f} %" for k in STAGES) + f" of the time (sum {total / seconds / 1e7:.0f} %)")


STAGES = ("attention_ns", "gate_ns", "shared_ns", "expert_ns", "drive_wait_ns", "head_ns", "sample_ns")


def run(name, folder):
    shape, budget, n_prompt, n_tokens = MODELS.get(name, (None, None, 512, 64))
    model = os.path.join(folder, f"penstock-bench-{name}") if shape else name
    path = os.path.join(folder, "penstock-bench.sock")
    if shape:
        shape = shape.split()
        made = subprocess.run([os.path.join(BIN, "penstock"), "synth", shape[0], model, *shape[1:]], capture_output=True, text=True, check=True)
        print(f"{name}: {made.stdout.splitlines()[0]}")
        talkative(model)
    node = None
    try:
        info = json.loads(subprocess.run([os.path.join(BIN, "penstock"), "info", model, "--json"], capture_output=True, text=True, check=True).stdout)
        memory, drive = memory_bandwidth(), drive_bandwidth(model)
        print(f"  limits: memory {memory or 0:.1f} GB/s (read loop, all CPUs), drive {drive:.2f} GB/s (16 x 512 KiB, O_DIRECT); load {os.getloadavg()[0]:.1f}")
        print(f"  a token needs {needs(info) / 1e6:.0f} MB of weights")
        cgroup, begin = Cgroup(), time.monotonic()
        node = Live(path, model, "--context", "4096", "--parallel", "4", *(["--memory", budget] if budget else []), cgroup=cgroup, seconds=600)
        started = time.monotonic() - begin
        print("  " + node.output().strip().replace("\n", "\n  "))
        if node.failed:
            print("  " + node.failed)
            return
        print(f"  ready after {started:.1f} s")
        r, pss = Run(node, model, info), PssPeak(node, 0.5)
        r.memory, r.drive = memory, drive
        prompt = [5 + j * 13 % 250 for j in range(n_prompt)]
        r.measure("prefill", n_prompt, lambda: node.complete(prompt, 1, seed=1, temperature=1), 0)
        r.measure("prefill, warm", n_prompt, lambda: node.complete([4] + prompt[1:], 1, seed=1, temperature=1), 0)
        r.measure("decode", n_tokens, lambda: node.complete([9], n_tokens, seed=2, temperature=1), n_tokens)
        r.measure("decode, again", n_tokens, lambda: node.complete([9], n_tokens, seed=2, temperature=1), n_tokens)
        r.measure("decode, 4 at once", n_tokens * 4, lambda: [s.result(600) for s in [node.stream([9 + i], n_tokens, seed=i) for i in range(4)]], 0)
        print(f"  peak: Pss {pss.stop() / 2**20:.0f} MiB" + (f", memory cgroup {cgroup.peak() / 2**20:.0f} MiB" if cgroup.path else "") +
              (f", budget {budget}" if budget else ""))
        node.stop()
        cgroup.close()
        node = None
    finally:
        if node:
            node.stop()
        if shape:
            shutil.rmtree(model, ignore_errors=True)


if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    print(__doc__)
    sys.exit(2)
for which in sys.argv[2:] or ["resident", "stream"]:
    run(which, sys.argv[1])
