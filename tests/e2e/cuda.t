#!/usr/bin/env python3
# time limit: 900 s
"""The server of a GPU, on a stand-in for libcuda that runs the kernels' own source on the CPU (tests/cuda/fake.c): the golden checkpoints and replies give
the bits of the circle; every call of the driver fails in turn, at its first use and later, and the tokens are the same; so they are when the device is
lost, has little memory, is not there, is of an unknown kind or will not register memory; and `cuda` sees of the machine only what it needs.

    tests/e2e/cuda.t [KILLS]      random kills of cuda (default 15)
"""
import os
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cuda"))
from gpu_fake import CALLS, ILLEGAL_ADDRESS, LIBRARY, OUT_OF_MEMORY, call, library  # noqa: E402
from live import Live, talkative  # noqa: E402
from node import BIN, Folder, done, ok, wait_until  # noqa: E402

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")
rng = random.Random(SEED)
SMALL = {"vocab": 600, "layers": 3, "hidden": 128, "intermediate": 256, "moe-intermediate": 128, "heads": 2, "q-lora-rank": 64, "kv-lora-rank": 64,
         "nope-dim": 32, "rope-dim": 16, "v-dim": 32, "experts": 32, "groups": 4, "topk-groups": 2, "experts-per-token": 4}

with open(os.path.join(ROOT, "build", "cuda", "cubins.S")) as table:
    built = "incbin" in table.read()
if not built:
    ok(True, "the server of a GPU # SKIP no kernels are compiled here: ./build.sh cuda")
    done()
folder = tempfile.TemporaryDirectory(prefix="penstock.")
os.chmod(folder.name, 0o755)


def fake(**settings):
    return library(folder.name, **settings)


TROUBLE = re.compile("GPU|ended by|cuda:")
FEW = os.path.join(folder.name, "prompts.json")
with open(FEW, "w") as file:
    file.write('{"prompts": [[5, 9, 13, 4, 77, 31, 8, 6, 15], [42, 7, 11]]}')


def score(model, *options, prompts=FEW):
    """Logits and routes of a score run, or its exit status; and what it said."""
    with tempfile.TemporaryDirectory(prefix="penstock.") as out:
        files = [os.path.join(out, name) for name in ("logits", "routes")]
        r = subprocess.run([os.path.join(BIN, "penstock"), "score", model, prompts, "--memory=1G",
                            *[f"--{os.path.basename(f)}={f}" for f in files], *options], capture_output=True, text=True, timeout=300)
        return [open(f, "rb").read() for f in files] if r.returncode == 0 else r.returncode, r.stderr


GOLDEN = os.path.join(ROOT, "tests", "golden", "models")
for name in sorted(os.listdir(GOLDEN)):
    model = os.path.join(GOLDEN, name)
    every = os.path.join(model, "expect", "prompts.json")
    got, said = score(model, "--gpu=0", f"--libcuda={LIBRARY}", prompts=every)
    ok(got == score(model, prompts=every)[0] and not TROUBLE.search(said), f"{name}: every golden prompt through the GPU: the bits of the CPU", said)
    want, _ = score(model)
    for options in (("--gpu-slots=0",), ("--gpu-slots=1", "--chunk=5"), ("--gpu-slots=5", "--slots=4")):
        got, said = score(model, "--gpu=0", f"--libcuda={fake(blocks=2)}", *options)
        ok(got == want and not TROUBLE.search(said), f"{name}: {' '.join(options)}: the bits of the CPU", said)

# one fault at a time, at the first use of a call and later
model = os.path.join(GOLDEN, "v31-resaved")
want, _ = score(model)
for field, symbol in CALLS:
    if field == "error_name":
        continue
    for after in (0, 40):
        got, said = score(model, "--gpu=0", f"--libcuda={fake(fail_call=call(field), fail_after=after, fail_result=ILLEGAL_ADDRESS)}", "--chunk=5",
                          "--gpu-slots=5")
        ok(got == want and "ended by signal" not in said, f"{symbol} fails after {after} uses: the bits of the CPU", said)
        if after == 0 and field not in ("version", "context_flags", "host_register", "device_attribute", "device_name", "event_sync"):
            ok("CUDA_ERROR_ILLEGAL_ADDRESS" in said, f"{symbol}: the node says so", said)
for text, settings in (("there is no GPU 0", {"devices": 0, "fail_call": 0}), ("for which there is no kernel", {"major": 7}), ("no room for", {"memory": 1 << 20})):
    got, said = score(model, "--gpu=0", f"--libcuda={fake(**settings)}")
    ok(got == want and (text in said or "CUDA_ERROR_NO_DEVICE" in said) and said.count("cuda:") == 1, f"{settings}: the CPU, and one line says why", said)
got, said = score(model, "--gpu=3", f"--libcuda={LIBRARY}")
ok(got == want and "there is no GPU 3" in said, "a GPU that is not there: the CPU, and a line says so", said)
got, said = score(model, "--gpu=0", "--libcuda=/nowhere/libcuda.so.1")
ok(got == want and "/nowhere/libcuda.so.1 is not there. The node runs on the CPU" in said, "no driver: the CPU, and a line says so", said)
got, said = score(model, "--gpu=0", f"--libcuda={fake(no_register=1)}")
ok(got == want and not TROUBLE.search(said), "memory that cannot be registered: the same bits", said)
got, said = score(model, "--gpu=0", f"--libcuda={fake(fail_call=call('memory_alloc'), fail_after=2, fail_result=OUT_OF_MEMORY)}")
ok(got == want and "no room for the resident weights" in said, "no memory for the weights: the CPU, and a line says what", said)

SHORT = {"prompt": "hello world", "max_tokens": 60, "seed": 7, "temperature": 1}
LONG = {"prompt": [5 + j * 7 % 250 for j in range(300)], "max_tokens": 10, "seed": 3, "temperature": 1}
with Folder() as f:
    talkative(f.make_model(*[x for k, v in SMALL.items() for x in (f"--{k}", str(v))]))
    options = ["--memory", "200M", "--context", "1024", "--slots", "40", "--chunk", "32"]
    node = Live(f.socket, f.model, *options)
    want, want_long = node.stream(**SHORT).result(), node.stream(**LONG).result()
    ok(want and want_long and node.stop() == 0, "a node without a GPU replies", node.output())

    node = Live(f.socket, f.model, *options, "--gpu", "0", "--gpu-slots", "12", "--libcuda", fake())
    ok(wait_until(lambda: node.complete("x", 2) and node.metrics()["gpu_passes"] > 0, 30), "passes go to the GPU", node.metrics())
    got = node.stream(**SHORT).result()
    ok(got == want, "the same reply", got)
    got = node.stream(**LONG).result()
    ok(got == want_long, "the same for a long prompt", got)

    pid = node.children().get("cuda")
    with open(f"/proc/{pid}/mountinfo") as mounts:
        seen = [line.split()[4] for line in mounts if line.split()[4] not in ("/", "/proc")]
    allowed = {"ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
    ok(pid and seen and {os.path.basename(s) for s in seen} <= allowed | {os.path.basename(p) for p in os.listdir(folder.name)},
       "cuda has the C library, libcuda and no other file", seen)

    kills, wrong = 0, []
    begin = time.monotonic()
    while kills < KILLS and time.monotonic() - begin < 150 and not wrong:
        streams = [node.stream(**SHORT), node.stream(**LONG)]
        while kills < KILLS and any(s.is_alive() for s in streams):
            time.sleep(rng.uniform(0.05, 0.5))
            kills += len(node.kill("cuda"))
        for s, w in zip(streams, (want, want_long)):
            got = s.result(120)
            wrong += [] if got == w else [got or s.error]
    ok(kills == KILLS and not wrong, f"{kills} kills of cuda: 0 differing bytes", wrong)
    before = node.metrics()["gpu_passes"]
    ok(wait_until(lambda: node.complete("y", 2) and node.metrics()["gpu_passes"] > before, 30), "and passes go to the GPU again", node.metrics())
    ok(node.stop() == 0, "the node ends", node.output())

    # the device is lost while a reply is written, again and again
    node = Live(f.socket, f.model, *options, "--gpu", "0", "--gpu-slots", "12", "--libcuda", fake(fail_call=call("launch"), fail_after=30, fail_result=ILLEGAL_ADDRESS))
    ok(wait_until(lambda: node.complete("x", 2) and node.metrics()["gpu_passes"] > 0, 30), "a GPU that will be lost works at first", node.metrics())
    got = node.stream(**SHORT).result()
    ok(got == want, "a GPU that is lost: the same reply", got)
    m = node.metrics()
    ok(m["gpu_lost_passes"] > 0, "its passes were run again", m)
    ok(node.stop() == 0, "the node ends", node.output())
done()
