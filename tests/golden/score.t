#!/usr/bin/env python3
# time limit: 240 s
"""`penstock score` on the golden checkpoints, through every process of a node: logits, routes and MTP logits within the
limits that came with them (golden.py has the rule), and the same bits whatever the instruction set, the number of
threads, the prompt's chunks, the company and the number of slots.

Cases: tests/golden/models, and any others in /work/shared/golden/models where that is there.

    tests/golden/score.t [WORD]      only the cases whose name contains WORD
"""
import glob
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "golden"), os.path.join(ROOT, "tests", "e2e")]
from golden import Case  # noqa: E402
from node import BIN, SANDBOX, done, ok  # noqa: E402

OUTPUTS = ("logits", "routes", "mtp-logits")
SETS = {"scalar": (), "avx2": ("avx2", "fma", "f16c"), "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq"),
        "avx512bf16": ("avx512f", "avx512_bf16", "avx512vbmi")}
# The first run is the one the others must equal. A chunk of 1 makes as many passes as there are tokens.
FIRST = ("--isa=scalar", "--threads=1")
OTHERS = [("--isa=avx2", "--threads=2"), ("--isa=avx512", "--threads=1"), ("--isa=avx512bf16", "--threads=2"),
          ("--threads=2", "--chunk=1"), ("--threads=1", "--chunk=7"), ("--threads=2", "--chunk=512"),
          ("--threads=2", "--parallel=1"), ("--threads=1", "--parallel=4", "--chunk=7"),
          ("--threads=2", "--slots=2", "--chunk=7"), ("--isa=scalar", "--threads=2", "--slots=2", "--chunk=1")]


def score(case, folder, options):
    """Runs it; {output: file}, and what it printed on stderr if it failed."""
    files = {o: os.path.join(folder, o) for o in OUTPUTS if o != "mtp-logits" or case.has_mtp}
    arguments = ["--%s=%s" % pair for pair in files.items()]
    run = subprocess.run([os.path.join(BIN, "penstock"), "score", case.path, case.expected("prompts.json"), *SANDBOX,
                          "--memory=1G", *arguments, *options], capture_output=True, text=True, timeout=120)
    return files, run.stderr if run.returncode else ""


def bits(files):
    data = {}
    for output, path in files.items():
        if os.path.exists(path):
            with open(path, "rb") as f:
                data[output] = f.read()
            os.unlink(path)
    return data


def missing(options, flags):
    """The instruction set that the options ask for and this CPU lacks, or None."""
    isa = next((o[6:] for o in options if o.startswith("--isa=")), "scalar")
    return None if flags.issuperset(SETS[isa]) else isa


def check(case, flags):
    with tempfile.TemporaryDirectory(prefix="penstock.") as folder:
        files, failure = score(case, folder, FIRST)
        if not ok(not failure, f"{case.name}: score runs with {' '.join(FIRST)}", failure):
            return
        wrong = case.compare_logits(files["logits"])
        ok(not wrong, f"{case.name}: logits are within the limits", wrong)
        wrong = case.compare_routes(files["routes"])
        ok(not wrong, f"{case.name}: every route is the expected one", wrong)
        if case.has_mtp:
            wrong = case.compare_logits(files["mtp-logits"], mtp=True)
            ok(not wrong, f"{case.name}: MTP logits are within the limits", wrong)
        first = bits(files)
        ok(sorted(first) == sorted(files) and not os.listdir(folder), f"{case.name}: the outputs and nothing else")
        for options in OTHERS:
            name = f"{case.name}: {' '.join(options)} gives the same bits"
            if missing(options, flags):
                ok(True, f"{name} # SKIP this CPU has no {missing(options, flags)}")
                continue
            files, failure = score(case, folder, options)
            other = bits(files)
            ok(not failure and other == first, name,
               failure or f"different: {[o for o in first if other.get(o) != first[o]]}")


def check_rule(case):
    """The comparison itself notices what it must."""
    with tempfile.TemporaryDirectory(prefix="penstock.") as folder:
        path = os.path.join(folder, "changed")

        def wrong(name, change, compare):
            with open(case.expected(name), "rb") as f:
                data = bytearray(f.read())
            change(data)
            with open(path, "wb") as f:
                f.write(data)
            return bool(compare(path))

        def put(value):
            return lambda data: data.__setitem__(slice(4000, 4000 + len(value)), value)

        ok(not wrong("logits.f32", put(b""), case.compare_logits), "the expected logits are within their limits")
        for value, text in ((struct.pack("<f", float("nan")), "a NaN"), (struct.pack("<f", float("-inf")), "an infinity"),
                            (struct.pack("<f", 30.0), "one wrong logit")):
            ok(wrong("logits.f32", put(value), case.compare_logits), f"{text} is not")
        ok(wrong("routes.u16", put(b"\xff\xff"), case.compare_routes), "one wrong route is noticed")
        try:
            wrong("routes.u16", lambda data: data.pop(), case.compare_routes)
            ok(False, "a file of the wrong size is unusable")
        except ValueError:
            ok(True, "a file of the wrong size is unusable")


with open("/proc/cpuinfo") as f:
    flags = set(next(line for line in f if line.startswith("flags")).split())
cases = {}
for path in glob.glob("/work/shared/golden/models/*/") + glob.glob(os.path.join(ROOT, "tests/golden/models/*/")):
    cases[os.path.basename(path.rstrip("/"))] = path.rstrip("/")
check_rule(Case(os.path.join(ROOT, "tests/golden/models/moonlight")))
for name in sorted(cases):
    if not sys.argv[1:] or sys.argv[1] in name:
        check(Case(cases[name]), flags)
done()
