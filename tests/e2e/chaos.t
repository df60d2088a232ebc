#!/usr/bin/env python3
"""`penstock chaos` kills servers of a node that streams from the drive, finds no difference in the replies and nothing lost; and it does find a
difference where there is one.

    tests/e2e/chaos.t [KILLS]      random kills (default 60); a third as many at publishes
"""
# time limit: 900 s
import json
import os
import subprocess
import sys

from live import Live, talkative
from node import BIN, SANDBOX, Folder, done, ok, processes_of, wait_until

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
OPTIONS = ["--memory", "160M", "--chunk", "16", "--context", "2048", "--slots", "40"]


def chaos(*options, **popen):
    return subprocess.Popen([os.path.join(BIN, "penstock"), "chaos", *options, *([] if "--socket" in options else SANDBOX)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)


def has_router(pid):
    """Whether the node that is the only child of `pid` has started its servers."""
    return any(program == "router" for _, _, init in processes_of(pid) for program, _, _ in processes_of(init))


def report(process):
    """(exit status, report, stderr)"""
    out, errors = process.communicate(timeout=800)
    return process.returncode, json.loads(out) if out.strip().startswith("{") else {}, errors


def well(name, process, kills):
    status, r, errors = report(process)
    ok(status == 0 and r.get("kills", 0) >= kills, f"{name}: it is done", f"{status} {r} {errors}")
    ok(r.get("differences") == 0 and r.get("errors") == 0 and r.get("stuck") == 0 and r.get("tokens", 0) > 0,
       f"{name}: every reply is that of the undisturbed node", f"{r} {errors}")
    ok("slots" in r.get("lost", {}) and not any(r["lost"].values()), f"{name}: nothing is lost", r)
    print(f"# {r}")


with Folder() as f:
    talkative(f.make_model())
    well("at random instants", chaos(f.model, *OPTIONS, "--json", "--kills", str(KILLS)), KILLS)
    well("at publishes", chaos(f.model, *OPTIONS, "--json", "--publish", "--kills", str(KILLS // 3)), KILLS // 3)

    well("beside what stands in for a GPU", chaos(f.model, *OPTIONS, "--gpu", "cpu", "--json", "--kills", str(KILLS)), KILLS)

    node = Live(f.socket, f.model, *OPTIONS)
    ok(not node.failed, "a node starts", node.failed)
    well("a node that runs already", chaos(f.model, "--socket", f.socket, "--json", "--streams", "2", "--tokens", "16", "--prompt", "40",
                                           "--kills", "12"), 12)
    ok(node.stop() == 0, "and goes on running until it is told to stop", node.output())

    # the undisturbed node is given another model
    other, link = f.model + ".other", f.model + ".link"
    subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", other, "--seed", "77"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    os.symlink(f.model, link)
    process = chaos(link, *OPTIONS, "--json", "--kills", "40", "--streams", "4")
    wait_until(lambda: has_router(process.pid), 30)  # the first node has its model open
    os.unlink(link)
    os.symlink(talkative(other), link)
    status, r, errors = report(process)
    ok(status == 5 and r.get("differences", 0) > 0 and "differs from byte" in errors, "replies of another model are told from these, with status 5",
       f"{status} {r} {errors}")

    r = subprocess.run([os.path.join(BIN, "penstock"), "chaos", "--help"], capture_output=True, text=True)
    ok(r.returncode == 0 and "--kills" in r.stdout and "--seed" in r.stdout and "--publish" in r.stdout, "its options are explained", r.stdout)
done()
