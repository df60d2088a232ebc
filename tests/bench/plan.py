#!/usr/bin/env python3
"""Predicts beside a measurement: plan.py DIR [synth options]

Makes a random model in DIR (unless it is there), measures it with `penstock bench`, in memory and at a budget, with its routes traced, and asks
`penstock plan` about the same model on the same machine: the limits are those of the run, the trace is its own. Prints both and the error, with the
efficiencies that plan assumes and with those that the run in memory has shown (--calibrate)."""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PENSTOCK = os.path.join(ROOT, "build", "bin", "penstock")
SHAPE = ["v3", "--layers", "3", "--dense-layers", "1", "--experts", "64", "--mtp", "0", "--vocab", "16384"]
BUDGET, PROMPT, TOKENS = "3500M", 128, 48


def penstock(*args):
    r = subprocess.run([PENSTOCK, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(f"penstock {args[0]}: status {r.returncode}")
    return r.stdout


def main(folder, *shape):
    model, report, trace = (os.path.join(folder, name) for name in ("model", "bench.json", "routes"))
    if not os.path.exists(model):
        os.makedirs(folder, exist_ok=True)
        penstock("synth", *(shape or SHAPE)[:1], model, *(shape or SHAPE)[1:])
    if not os.path.exists(report):
        with open(report, "w") as f:
            f.write(penstock("bench", model, "--budget", BUDGET, "--prompt", PROMPT, "--tokens", TOKENS, "--repeat", 2, "--json",
                             "--trace-routes", trace))
    with open(report) as f:
        bench = json.load(f)
    limits = bench["limits"]
    machine = ["--ram", "19G", "--cores", bench["threads"], "--memory-rate", f"{limits['memory_gbs']}G", "--dot-rate", f"{limits['multiply_gflops']}G",
               "--drive", f"{limits['drive_gbs']}G", "--prompt", PROMPT, "--context", 1024, "--trace", trace, "--json"]
    print(f"{'':24}{'measured':>10}{'planned':>10}{'error':>9}{'calibrated':>12}{'error':>9}")
    for run, memory in zip(bench["runs"], ([], ["--memory", BUDGET])):
        plain, calibrated = (json.loads(penstock("plan", model, *machine, *memory, *more))[0] for more in ([], ["--calibrate", report]))
        for name, key, measured in (("decode, tokens/s", "tokens_per_s", run["decode"]["tokens_per_s"]), ("hit rate", "hit_rate", run["decode"]["hit_rate"]),
                                    (f"prompt of {PROMPT}, s", "first_token_s", PROMPT / run["prefill"]["tokens_per_s"])):
            print(f"{run['name'][:14]:15}{name:>18}{measured:>9.3f}{plain[key]:>10.3f}{100 * (plain[key] / measured - 1):>+8.1f}%"
                  f"{calibrated[key]:>12.3f}{100 * (calibrated[key] / measured - 1):>+8.1f}%")


if len(sys.argv) < 2:
    sys.exit(__doc__)
main(*sys.argv[1:])
