#!/usr/bin/env python3
"""Penstock beside ik_llama.cpp in one run: the same shape, the same threads, taking turns, the memory's read bandwidth measured before and after
every turn (it has states in a virtual machine), and ratios from turns in the same state.

    tests/bench/ik.py LLAMA_BENCH DIR [case]... [--repeat N]      LLAMA_BENCH: the built program; models are made in DIR and stay there

q8      prompt of 512 and reply of 128, our FP8 checkpoint in place beside Q8_0        (6.5 GB of weights)
q4      the same, our packed store with 4-bit experts beside 4-bit experts in Q8_0
bf16    prompt of 512, our FP8 beside BF16 (2.4 GB of parameters)
stream  reply of 64, theirs by mmap in a memory cgroup of 2.6 GB, ours with --memory of as much: a third of the experts

Their flags are those that gave them most on an EPYC with AVX-512 (Zen 5): -fa 1 -mla 3 -rtr 1 in memory (without run-time repacking a sixth
less, huge pages and no mmap change nothing); Q4_0 was the fastest of Q4_0, Q4_K, IQ4_NL, IQ4_XS, IQ4_K and IQ4_KS, prompt and reply alike.
Streaming: --defer-experts, and a read-ahead of 256 KiB (tried: 32 KiB 2.0 tokens/s, 64 2.6, 128 3.3, 256 3.4, 512 2.3, 2 MiB 1.1, the system's 8 MiB
0.5), which is set for the drive meanwhile. --flags '...' replaces the flags."""
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "e2e")]
import gguf  # noqa: E402
from live import Cgroup, Live, drive_bytes, talkative  # noqa: E402
from node import BIN  # noqa: E402

PENSTOCK = os.path.join(BIN, "penstock")
SHAPE = "v3-tiny --hidden 2048 --moe-intermediate 1536 --experts 64 --intermediate 8192 --heads 16 --kv-lora-rank 512 --q-lora-rank 768 " \
        "--nope-dim 128 --rope-dim 64 --v-dim 128 --vocab 32000 --experts-per-token 6 --mtp 0"
IN_MEMORY = "-fa 1 -mla 3 -rtr 1"
STREAMED = "-fa 1 -mla 3 --defer-experts"
BUDGET = 2600 << 20
READ_AHEAD = "256"  # KiB
THREADS = str(len(os.sched_getaffinity(0)))


def run(*command, **more):
    r = subprocess.run(command, capture_output=True, text=True, **more)
    if r.returncode:
        sys.exit(f"{' '.join(command)}: status {r.returncode}: {r.stderr[-400:]}")
    return r.stdout


def model(folder, name, layers):
    """A checkpoint of random numbers whose replies do not end early."""
    path = os.path.join(folder, name)
    if not os.path.exists(os.path.join(path, "config.json")):
        words = SHAPE.split()
        run(PENSTOCK, "synth", words[0], path, *words[1:], "--layers", str(layers))
        talkative(path)
    return path


def memory():
    """GB/s that all threads read now."""
    return json.loads(run(PENSTOCK, "bench", "--json"))["limits"]["memory_gbs"]


def theirs(program, path, prompt, tokens, flags, cgroup=None):
    """{"pp": tokens/s, "tg": tokens/s}"""
    out = run(program, "-m", path, "-p", str(prompt), "-n", str(tokens), "-r", "1", "-t", THREADS, "-o", "json", *flags.split(),
              preexec_fn=cgroup.enter if cgroup else None)
    return {"tg" if x["n_gen"] else "pp": x["avg_ts"] for x in json.loads(out)}


def ours(node, path, prompt, tokens):
    r = json.loads(run(PENSTOCK, "bench", path, "--socket", node.path, "--json", "--repeat", "1", "--prompt", str(prompt), "--tokens",
                       str(tokens or 1)))
    first = r["runs"][0]
    return {"pp": first["prefill"]["tokens_per_s"], "tg": first["decode"]["tokens_per_s"],
            "misses": sum(x["misses"] for case in ("prefill", "decode") for x in first[case]["repetitions"])}


def in_one_state(a, b):
    return min(a, b) > 0.8 * max(a, b)


def compare(name, program, path, theirs_path, tokens, repeat, flags):
    """Turns of ours and theirs; a ratio for each pair in which the memory stayed in one state."""
    ratios, rows = {"pp": [], "tg": []}, {"pp": [], "tg": []}
    node = Live(os.path.join(os.path.dirname(path), "s"), path, "--context", "2048", "--parallel", "2", "--memory", "9G", seconds=120)
    if node.failed:
        sys.exit(node.failed)
    try:
        for _ in range(20):  # slots are still being made when a node is ready, and filled when they are needed
            if not ours(node, path, 512, 16)["misses"]:
                break
        for _ in range(repeat):
            before = memory()
            we = ours(node, path, 512, tokens)
            between = memory()
            they = theirs(program, theirs_path, 512, tokens, flags)
            after = memory()
            same = in_one_state(before, between) and in_one_state(between, after)
            for key in ratios:
                if key in we and key in they and (tokens or key == "pp"):
                    rows[key].append((we[key], they[key], before, between, after))
                    if same:
                        ratios[key].append(we[key] / they[key])
    finally:
        node.stop()
    for key, what in (("pp", "prompt of 512"), ("tg", f"reply of {tokens}")):
        for we, they, *read in rows[key]:
            print(f"  {name} {what}: {we:8.2f} and {they:8.2f} tokens/s = {we / they:.3f}   memory {' '.join(f'{x:.0f}' for x in read)} GB/s")
        if ratios[key]:
            print(f"{name} {what}: {statistics.median(ratios[key]):.3f} of theirs, the median of {len(ratios[key])} in one state"
                  f" (lowest {min(ratios[key]):.3f}, highest {max(ratios[key]):.3f})")
    sys.stdout.flush()


class Limited(Cgroup):
    """A memory cgroup that ends at `limit`."""

    def __init__(self, limit):
        super().__init__()
        if not self.path:
            sys.exit("stream needs a memory cgroup, and none can be made here")
        for file in ("memory.max", "memory.limit_in_bytes"):
            if os.path.exists(os.path.join(self.path, file)):
                with open(os.path.join(self.path, file), "w") as f:
                    f.write(str(limit))


def counted(path, call):
    """(result, GB that the drive below `path` read meanwhile, seconds)"""
    before, begin = drive_bytes(path), time.monotonic()
    result = call()
    return result, (drive_bytes(path) - before) / 1e9, time.monotonic() - begin


class ReadAhead:
    """The kernel's read-ahead for the drive below a path, for the time of a `with`. It needs root, and our reads (O_DIRECT) know none."""

    def __init__(self, path, kib):
        dev = os.stat(path).st_dev
        folder = os.path.realpath(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}")
        self.file = next(f for f in (f"{folder}/queue/read_ahead_kb", f"{os.path.dirname(folder)}/queue/read_ahead_kb") if os.path.exists(f))
        self.kib = kib

    def set(self, kib):
        with open(self.file, "w") as f:
            f.write(kib)

    def __enter__(self):
        with open(self.file) as f:
            self.before = f.read()
        self.set(self.kib)

    def __exit__(self, *_):
        self.set(self.before)


def stream(program, path, theirs_path, repeat, flags):
    """Both cold under the same limit. Their rate is taken over the whole run: it includes loading what is not an expert."""
    tokens = 64
    for _ in range(repeat):
        r = json.loads(run(PENSTOCK, "bench", path, "--memory", "1900M", "--context", "2048", "--parallel", "2", "--json", "--repeat", "1", "--prompt",
                           "16", "--tokens", "64", "--budget", str(BUDGET)))
        d, limit = r["runs"][1]["decode"], r["limits"]["drive_gbs"]
        rep = d["repetitions"][0]
        drive = (rep["drive_before_gbs"] + rep["drive_after_gbs"]) / 2
        run("sync")
        group = Limited(BUDGET)
        # pages that another cgroup pays for would be theirs for nothing
        with open(theirs_path, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with ReadAhead(theirs_path, READ_AHEAD):
            they, read, seconds = counted(theirs_path, lambda: theirs(program, theirs_path, 0, tokens, flags, group))
        group.close()
        print(f"stream: {d['tokens_per_s']:.2f} and {they['tg']:.3f} tokens/s = {d['tokens_per_s'] / they['tg']:.1f} times; our drive at "
              f"{d['drive_gbs']:.2f} of {drive:.2f} GB/s (most seen {limit:.2f}), hit rate {d['hit_rate']:.3f}, "
              f"{rep['read_bytes'] / rep['tokens'] / 1e6:.0f} MB per token; theirs read {read:.1f} GB in {seconds:.0f} s = {read / seconds:.2f} GB/s, "
              f"so the drive allows {drive * seconds / read:.2f} times, and {read * 1e3 / (tokens + 1):.0f} MB per token")
        sys.stdout.flush()


def main():
    words, options = [], {"--repeat": "3", "--flags": None}
    rest = iter(sys.argv[1:])
    for word in rest:
        if word in options:
            options[word] = next(rest, None)
        else:
            words.append(word)
    if len(words) < 2 or words[0].startswith("-") or not (options["--repeat"] or "").isdigit():
        print(__doc__)
        sys.exit(2)
    program, folder, cases, repeat = words[0], words[1], words[2:] or ["q8"], int(options["--repeat"])
    os.makedirs(folder, exist_ok=True)
    print(f"load {os.getloadavg()[0]:.1f}, {THREADS} threads")
    for case in cases:
        flags = options["--flags"] or (STREAMED if case == "stream" else IN_MEMORY)
        path = model(folder, "small" if case == "bf16" else "large", 4 if case == "bf16" else 11)
        kind = {"q8": "q8_0", "q4": "q4_0", "bf16": "bf16", "stream": "q8_0"}.get(case)
        if not kind:
            sys.exit(f"there is no case {case}")
        theirs_path = os.path.join(folder, f"{os.path.basename(path)}-{kind}.gguf")
        gguf.write(theirs_path, path, kind, "q8_0" if case == "q4" else kind)
        if case == "q4":
            packed = os.path.join(folder, "large.q4")
            if not os.path.exists(packed):
                run(PENSTOCK, "pack", path, packed, "--bits", "4")
            path = packed
        if case == "stream":
            stream(program, path, theirs_path, repeat, flags)
        else:
            compare(case, program, path, theirs_path, 0 if case == "bf16" else 128, repeat, flags)


main()
