#!/usr/bin/env python3
# time limit: 600 s
"""Passes as command lists, on the executor that stands in for a GPU (`--gpu cpu`): the golden checkpoints give the bits of the circle, whatever fits into
the GPU's memory; a reply goes on, byte for byte, when `cuda` dies in prefill and in decode, when it never comes back, when everybody dies at once, and
`cuda` gets passes again when it is back; with drafts, with shared pages, with sequences set back.

    tests/e2e/gpu.t [KILLS]      random kills of cuda (default 40)
"""
import os
import random
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from live import Live, talkative  # noqa: E402
from node import BIN, SANDBOX, SERVERS, Folder, done, ok, wait_until  # noqa: E402

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")
rng = random.Random(SEED)
CUDA = "cuda"


def score(model, *options):
    """The outputs of a score run, or what it printed."""
    with tempfile.TemporaryDirectory(prefix="penstock.") as folder:
        files = [os.path.join(folder, name) for name in ("logits", "routes", "mtp-logits")]
        mtp = os.path.exists(os.path.join(model, "expect", "mtp_logits.f32"))
        given = [f"--{os.path.basename(f)}={f}" for f in files if mtp or "mtp" not in f]
        r = subprocess.run([os.path.join(BIN, "penstock"), "score", model, os.path.join(model, "expect", "prompts.json"), *SANDBOX, "--memory=1G", *given, *options],
                           capture_output=True, text=True, timeout=200)
        return [open(f, "rb").read() if os.path.exists(f) else None for f in files] if r.returncode == 0 else r.stderr


for name in sorted(os.listdir(os.path.join(ROOT, "tests/golden/models"))):
    model = os.path.join(ROOT, "tests/golden/models", name)
    want = score(model)
    ok(isinstance(want, list) and want[0], f"{name}: score through the circle", want if isinstance(want, str) else "")
    for options in (["--gpu=cpu"], ["--gpu=cpu", "--gpu-slots=0"], ["--gpu=cpu", "--gpu-slots=1", "--chunk=7"], ["--gpu=cpu", "--gpu-slots=3", "--slots=2", "--threads=1"]):
        ok(score(model, *options) == want, f"{name}: {' '.join(options)}: the same bits")

SHORT = {"prompt": "hello world", "max_tokens": 150, "seed": 7, "temperature": 1}
LONG = {"prompt": [5 + j * 7 % 250 for j in range(700)], "max_tokens": 20, "seed": 3, "temperature": 1}
MIXED = [{"prompt": [5 + i] + [5 + j * 11 % 250 for j in range(90 * i)], "max_tokens": 90, "seed": 100 + i, "temperature": [1, 0.6, 0][i % 3]}
         for i in range(5)]


def together(node, requests):
    return [s.result(120) or s.error for s in [node.stream(**r) for r in requests]]


with Folder() as f:
    talkative(f.make_model())
    options = ["--memory", "200M", "--context", "2048", "--slots", "40", "--chunk", "32"]
    node = Live(f.socket, f.model, *options)
    if not ok(not node.failed, "a node without a GPU starts", node.failed):
        done()
    want, want_long, want_mixed = node.stream(**SHORT).result(), node.stream(**LONG).result(), [node.stream(**m).result() for m in MIXED]
    ok(node.metrics()["gpu_passes"] == 0, "it has no GPU")
    ok(node.stop() == 0, "and ends", node.output())

    node = Live(f.socket, f.model, *options, "--gpu", "cpu", "--gpu-slots", "10")
    ok(not node.failed, "a node with one starts", node.failed)
    ok(wait_until(lambda: node.complete("x", 2) and node.metrics()["gpu_passes"] > 0, 20), "its passes go to the GPU", node.metrics())
    ok(node.stream(**SHORT).result() == want, "the same reply")
    ok(node.stream(**LONG).result() == want_long, "the same for a long prompt")
    got = together(node, MIXED)
    ok(got == want_mixed, "the same for several at once", got)
    m = node.metrics()
    ok(m["gpu_loads"] > 0 and m["gpu_lost_passes"] == 0, "experts were brought to the GPU, and no pass was lost", m)

    for i, victims in enumerate(([CUDA], [CUDA], [*SERVERS, CUDA], ["experts"], ["router"], ["mla", CUDA])):
        s = node.stream(**SHORT)
        ok(s.wait_for_events(rng.randrange(10, 60)), "a reply begins", s.error)
        killed = node.kill(*victims)
        got = s.result(60)
        ok(got == want and len(killed) == len(victims), f"{' and '.join(victims)} killed in decode: the same bytes", got or s.error)
        s = node.stream(**dict(LONG, prompt=[9 + i] + LONG["prompt"]))
        time.sleep(rng.uniform(0.01, 0.2))
        killed = node.kill(*victims)
        first = s.result(60)
        again = node.stream(**dict(LONG, prompt=[9 + i] + LONG["prompt"])).result(60)
        ok(first and first == again and len(killed) == len(victims), f"{' and '.join(victims)} killed in prefill: the same bytes", [first or s.error, again])
        before = node.metrics()["gpu_passes"]
        ok(wait_until(lambda: node.complete("y", 2) and node.metrics()["gpu_passes"] > before, 20), "and passes go to the GPU again", node.metrics())

    wrong, kills, begin = [], 0, time.monotonic()
    while kills < KILLS and time.monotonic() - begin < 200 and not wrong:
        streams = [node.stream(**m) for m in MIXED]
        while kills < KILLS and any(s.is_alive() for s in streams):
            time.sleep(rng.uniform(0.005, 0.1))
            kills += len(node.kill(CUDA))
        got = [s.result(120) or s.error for s in streams]
        wrong += [f"{g} instead of {w}" for g, w in zip(got, want_mixed) if g != w]
    ok(not wrong and kills == KILLS, f"{kills} kills of cuda under five streams: 0 differing bytes", wrong[:3])
    m = node.metrics()
    print(f"# {kills} kills in {time.monotonic() - begin:.1f} s, {m['gpu_lost_passes']:.0f} passes run again, {m['gpu_passes']:.0f} on the GPU")
    ok(m["running"] == 0 and m["queued"] == 0, "nobody waits", m)
    ok(wait_until(lambda: not node.zombies(), 3), "no zombie is left", node.zombies())
    ok(node.stop() == 0, "the node ends", node.output())
done()
