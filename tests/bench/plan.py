#!/usr/bin/env python3
"""Predicts beside a measurement: plan.py DIR [synth options]

Makes a random model in DIR (unless it is there), measures it with `penstock bench`, in memory and at a budget, with its routes traced, and asks
`penstock plan` about the same model on the same machine: the limits are those of the run, the trace is its own, the drive's rate is what it gave while it was busy. Prints both and the error, with the
efficiencies that plan assumes and with those that the run in memory has shown (--calibrate)."""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PENSTOCK = os.path.join(ROOT, "build", "bin", "penstock")
SHAPE = ["v3", "--layers", "3", "--dense-layers", "1", "--experts", "64", "--mtp", "0", "--vocab", "16384"]
LARGE, BUDGET, PROMPT, TOKENS = "10G", "3500M", 128, 48


def penstock(*args):
    r = subprocess.run([PENSTOCK, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(f"penstock {args[0]}: status {r.returncode}")
    return r.stdout


def busy_rate(case):
    """Bytes per second of the drive while it was busy: a virtual one's changes from minute to minute, so no other run's will do."""
    return case["drive_gbs"] / case["drive_busy_share"] * 1e9 if case["drive_busy_share"] > 0.02 else 1e9


def main(folder, *shape):
    model, report, trace = (os.path.join(folder, name) for name in ("model", "bench.json", "routes"))
    if not os.path.exists(model):
        os.makedirs(folder, exist_ok=True)
        penstock("synth", *(shape or SHAPE)[:1], model, *(shape or SHAPE)[1:])
    if not os.path.exists(report):
        with open(report, "w") as f:
            f.write(penstock("bench", model, "--memory", LARGE, "--budget", BUDGET, "--prompt", PROMPT, "--tokens", TOKENS, "--repeat", 4, "--json",
                             "--trace-routes", trace))
    with open(report) as f:
        bench = json.load(f)
    limits = bench["limits"]
    print("memory {memory_gbs:.1f} GB/s, dot {multiply_gflops:.0f} GFLOP/s".format(**limits))
    print(f"{'':33}{'measured':>9}{'planned':>10}{'error':>9}{'calibrated':>12}{'error':>9}")
    for run, memory in zip(bench["runs"], (LARGE, BUDGET)):
        decode, prefill = run["decode"], run["prefill"]
        for name, case, key, measured in (("decode, tokens/s", decode, "tokens_per_s", decode["tokens_per_s"]),
                                          ("hit rate", decode, "hit_rate", decode["hit_rate"]),
                                          (f"prompt of {PROMPT}, s", prefill, "first_token_s", PROMPT / prefill["tokens_per_s"])):
            ask = ["plan", model, "--ram", "19G", "--cores", bench["threads"], "--memory-rate", f"{limits['memory_gbs']}G", "--memory", memory, "--dot-rate",
                   f"{limits['multiply_gflops']}G", "--drive", busy_rate(case), "--prompt", PROMPT, "--context", 1024, "--trace", trace, "--json"]
            plain, calibrated = (json.loads(penstock(*ask, *more))[0][key] for more in ([], ["--calibrate", report]))
            print(f"{run['name'][:14]:15}{name:>18}{measured:>9.3f}{plain:>10.3f}{100 * (plain / measured - 1):>+8.1f}%"
                  f"{calibrated:>12.3f}{100 * (calibrated / measured - 1):>+8.1f}%")
        if memory == LARGE and decode["hit_rate"] < 0.98:
            print(f"  (that node had not all experts in slots yet: it missed {100 - 100 * decode['hit_rate']:.0f} %; not a measurement in memory)")


if len(sys.argv) < 2:
    sys.exit(__doc__)
main(*sys.argv[1:])
