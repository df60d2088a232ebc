#!/usr/bin/env python3
"""`penstock plan`: its figures of a model are those of the model when it exists, its table has every machine, and what it cannot read it refuses."""
import json
import os
import subprocess

from node import BIN, Folder, done, ok


def penstock(*args):
    r = subprocess.run([os.path.join(BIN, "penstock"), *args], capture_output=True, text=True)
    return r.returncode, r.stdout, r.stderr


with Folder() as f:
    model = f.make_model("--layers", "6", "--experts", "32")
    status, out, err = penstock("plan", model, "--machine", "mini-pc", "--json")
    plan = json.loads(out)[0] if status == 0 else {}
    info = json.loads(penstock("info", model, "--json")[1])["bytes"]
    ok(status == 0 and plan["hit_rate"] == 1, "a small model fits in a small machine", err)
    ok(abs(plan["resident_bytes"] / info["resident"] - 1) < 0.01, "its resident bytes are those of the checkpoint", (plan["resident_bytes"], info))
    ok(plan["experts"] * plan["expert_bytes"] == info["routed_experts"], "so are those of its experts", (plan, info))
    status, out, err = penstock("plan", "v2-lite", "--machine", "all", "--prompt", "32")
    ok(status == 0 and out.count("\n| `") == 10, "a table has ten machines", out + err)
    status, out, err = penstock("plan", "v3-tiny", "--ram", "8G", "--memory-rate", "20G", "--dot-rate", "100G", "--drive", "1G,1.5G")
    ok(status == 0 and "tokens/s" in out, "a machine can be described", err)
    for args in (["--machine", "abacus"], ["--ram", "8G"], ["--machine", "mini-pc", "--drive", "fast"], ["--machine", "mini-pc", "--gpu", "8G"],
                 ["--machine", "mini-pc", "--bits", "5"], ["--machine", "mini-pc", "--trace", "/dev/null"],
                 ["--machine", "mini-pc", "--calibrate", "/dev/null"]):
        status, out, err = penstock("plan", "v3-tiny", *args)
        ok(status == 2 and err, f"{' '.join(args)} is refused", (status, err))
    status, out, err = penstock("plan", "v3", "--machine", "mini-pc", "--ram", "8G")
    ok(status == 4 and "not enough memory" in err, "a model that cannot run there is status 4", (status, err))
done()
