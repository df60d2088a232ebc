#!/usr/bin/env python3
"""`penstock run` and what it says and refuses before a node is there."""
import json
import os
import shutil
import signal
import subprocess

from node import BIN, SANDBOX, Folder, Node, done, ok, wait_until


def refused(bin_, status, words, name, *arguments):
    """Runs to the end; checks status and message, and that the message is one line without control characters."""
    r = subprocess.run([os.path.join(bin_, "penstock"), "run", *arguments, *SANDBOX], capture_output=True, text=True, timeout=30)
    lines = [line for line in r.stderr.splitlines() if line]
    ok(r.returncode == status and all(w in r.stderr for w in words), name, f"{r.returncode}: {r.stderr}")
    ok(bool(lines) and lines[-1].startswith("penstock: ") and r.stdout == "", f"{name}: on stderr", r.stderr)
    return r.stderr


with Folder() as f:
    bin_ = f.make_dummies()
    f.make_model()
    refused(bin_, 2, ["argument is missing"], "no model is a usage error")
    refused(bin_, 2, ["--socket", "--memory", "--context"], "an unknown option is answered with all there are", f.model, "--sockets", "x")
    refused(bin_, 2, ["--memory"], "a size that is none is refused", f.model, "--memory", "1.5G")
    refused(bin_, 2, ["--isa"], "an instruction set that is none is refused", f.model, "--isa", "mmx")
    refused(bin_, 2, ["--context 200000"], "a context beyond the model's is refused", f.model, "--context", "200000", "--socket", f.socket)
    refused(bin_, 3, ["nowhere"], "a model that is missing has status 3", os.path.join(f.path, "nowhere"))
    text = refused(bin_, 4, ["not enough memory", "are missing", "--memory"], "too little memory has status 4",
                   f.model, "--memory", "2M", "--socket", f.socket)
    ok(not os.path.exists(f.socket), "and leaves no socket")
    info = subprocess.run([os.path.join(bin_, "penstock"), "info", f.model, "--json"], capture_output=True, text=True)
    figure = f"--memory to {json.loads(info.stdout)['memory_min'] >> 20}M"
    ok(figure in text, "info names the same memory as the refusal", f"{figure}: {text}")
    for option, value in (("--template", "v4"), ("--template", ""), ("--template", "v3|r1"), ("--memory", "5X"), ("--memory", "-1"), ("--context", "0"),
                          ("--threads", "0"), ("--slots", "1"), ("--parallel", "0"), ("--chunk", "x"), ("--name", ""), ("--name", b"\xff")):
        refused(bin_, 2, [option], f"{option} {value!r} is a usage error", f.model, option, value, "--socket", f.socket)
    few = subprocess.run(["bash", "-c", f"ulimit -n 100; exec {bin_}/penstock run {f.model} --socket {f.socket} {' '.join(SANDBOX)}"],
                         capture_output=True, text=True, timeout=30)
    ok(few.returncode == 4 and "ulimit -n" in few.stderr, "too few descriptors have status 4", few.stderr)
    damaged = os.path.join(f.path, "damaged")
    shutil.copytree(f.model, damaged)
    with open(os.path.join(damaged, "model.safetensors"), "r+b") as d:
        d.truncate(100000)
    refused(bin_, 3, ["model.safetensors"], "a truncated shard has status 3 and is named", damaged, "--socket", f.socket)
    ok(not os.path.exists(f.socket), "no socket is left by a model that is refused")
    silent = os.path.join(f.path, "silent")
    shutil.copytree(f.model, silent)
    os.unlink(os.path.join(silent, "tokenizer.json"))
    refused(bin_, 3, ["tokenizer"], "a model without a tokenizer has status 3", silent, "--socket", f.socket)
    r = subprocess.run([os.path.join(bin_, "penstock"), "run", "--help"], capture_output=True, text=True)
    ok(r.returncode == 0 and "--parallel" in r.stdout, "--help lists the options")

    node = Node(bin_, f.model, "--socket", f.socket, "--memory", "400M", "--name", "my/model", "--threads", "1")
    ok(node.wait_for("penstock: ready"), "a node starts", node.output())
    with open(f"/proc/{node.pid}/cmdline") as c:
        ok(c.read().split("\0")[0].endswith("/init"), "the pid that was started is init")
    first = node.output().splitlines()[0]
    ok(all(w in first for w in ("my/model", "parameters", "FP8", "context", "resident", "slots", f.socket)),
       "the first line says what runs and where", first)
    ok("memory" in node.output() and "expert slots" in node.output(), "the plan is printed", node.output())
    ok("loaded" in node.output(), "so is the end of loading")
    ok(node.stop(signal.SIGINT) == 130, "Ctrl-C ends it with status 130")
    os.unlink(os.path.join(bin_, "mla"))
    refused(bin_, 1, ["mla"], "a program that is missing is named", f.model, "--socket", f.socket)

    os.mkdir(os.path.join(f.path, "early"))
    shutil.copy(os.path.join(BIN, "penstock"), os.path.join(f.path, "early"))
    refused(os.path.join(f.path, "early"), 1, ["init"], "so is a missing init", f.model)
done()
