#!/usr/bin/env python3
# time limit: 600 s
"""tests/gpu/all, which is for a machine with a GPU, runs here to its end on the stand-in for libcuda: it will not fail there for want of being tried."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from node import done, ok  # noqa: E402

with open(os.path.join(ROOT, "build", "cuda", "cubins.S")) as table:
    built = "incbin" in table.read()
if not built:
    ok(True, "tests/gpu/all --mini # SKIP no kernels are compiled here: ./build.sh cuda")
    done()
r = subprocess.run([os.path.join(ROOT, "tests", "gpu", "all"), "--mini"], capture_output=True, text=True, timeout=550)
lines = [line for line in r.stdout.splitlines() if not line.startswith("ok ")]
ok(r.returncode == 0 and not any(line.startswith("not ok") for line in lines) and r.stdout.count("\nok ") > 20, "every step of it is done", lines + [r.stderr[-1000:]])
done()
