#!/usr/bin/env python3
"""`penstock score` and its files: what is refused before anything is computed, and that neither a signal nor a failure leaves half an output or a node."""
import json
import os
import signal
import stat
import struct
import subprocess

from node import BIN, SANDBOX, Folder, done, ok, wait_until

PENSTOCK = os.path.join(BIN, "penstock")


def nodes(model):
    """Processes that were started with this model."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if model.encode() in f.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def outputs(f):
    return [n for n in os.listdir(f.path) if n.startswith("out")]


def begun(pid, folder):
    """Whether a process has an output open in which something stands; it need not have a name."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if os.readlink(path).startswith(folder + "/") and not os.readlink(path).endswith("prompts") and os.stat(path).st_size:
                return True
        except OSError:
            pass
    return False


def can_be_unnamed(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
        return True
    except OSError:
        return False


with Folder() as f:
    f.make_model()
    out = os.path.join(f.path, "out")
    prompts = os.path.join(f.path, "prompts")

    def score(text, *options):
        with open(prompts, "w") as p:
            p.write(text)
        return subprocess.run([PENSTOCK, "score", f.model, prompts, "--memory", "300M", "--threads", "1", *options, *SANDBOX],
                              capture_output=True, text=True, timeout=60)

    for text, word in (('{"prompts": [[1, 2]', "byte"), ('{"prompts": "x"}', "list"), ('{"prompts": [[]]}', "prompt 0"), ('{"prompts": [[1], 2]}', "prompt 1"),
                       ('{"prompts": [[1, 512]]}', "id 1"), ('{"prompts": [[-1]]}', "id 0"), ('\n { "prompts": [[1.5]]}', "id 0"),
                       ('{"prompts": [[1, 2]], "prompts": [[1]]}', "twice")):
        r = score(text, "--logits", out)
        ok(r.returncode == 2 and word in r.stderr and not outputs(f), f"prompts {text!r} are a usage error that leaves no output", r)
    with open(os.path.join(f.model, "config.json")) as c:
        positions = json.load(c)["max_position_embeddings"]
    r = score(json.dumps({"prompts": [[1] * 100, [1] * 101]}), "--context", "100", "--logits", out)
    ok(r.returncode == 2 and "Say --context 101" in r.stderr and not outputs(f), "a prompt longer than the context says which is long enough", r)
    r = score(json.dumps({"prompts": [[1] * (positions + 1)]}), "--context", "100", "--logits", out)
    ok(r.returncode == 2 and f"{positions} positions" in r.stderr and "Say" not in r.stderr and not outputs(f),
       "unless the model has no such positions", r)
    r = score("plain { text", "--json")
    line = json.loads(r.stdout) if r.returncode == 0 else {}
    ok(line.get("tokens") == 1 + len("plain { text"), "other text is scored as text, BOS and all", r)
    ok(line.get("prompt") == 0 and line["logprob"] < 0 and abs(line["mean_logprob"] * (line["tokens"] - 1) - line["logprob"]) < 1e-3,
       "--json prints a line of JSON for a prompt", line)
    r = subprocess.run([PENSTOCK, "score", f.model, f.path, "--memory", "300M", *SANDBOX], capture_output=True, text=True, timeout=60)
    ok(r.returncode == 2 and "regular" in r.stderr, "a folder in place of the prompts is a usage error", r)
    fifo = os.path.join(f.path, "fifo")
    os.mkfifo(fifo)
    os.symlink(fifo, fifo + ".link")
    for name in (fifo, fifo + ".link", f.path):
        r = score('{"prompts": [[1]]}', "--logits", name)
        ok(r.returncode == 2 and f"--logits: {name}" in r.stderr and stat.S_ISFIFO(os.stat(fifo).st_mode) and not r.stdout,
           "an output that is there and no regular file is a usage error, and stays what it is", r)
    os.unlink(fifo)
    os.unlink(fifo + ".link")
    for option in ("--socket", "--name", "--template=v3", "--client"):
        r = score('{"prompts": [[1]]}', option, "x")
        ok(r.returncode == 2 and option[:6] in r.stderr, f"{option} is no option of score", r)
    r = score('{"prompts": [[1]]}', "--memory", "1M", "--logits", out)
    ok(r.returncode == 4 and "Raise --memory" in r.stderr and not outputs(f), "too little memory has status 4", r)

    with open(prompts, "w") as p:
        json.dump({"prompts": [[i % 500 for i in range(3000)]] * 100}, p)  # a fast machine must not be done with it before the signal
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGKILL, -9)):
        s = subprocess.Popen([PENSTOCK, "score", f.model, prompts, "--memory", "300M", "--logits", out, *SANDBOX], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: begun(s.pid, f.path), 40)
        (os.killpg if number == signal.SIGINT else os.kill)(s.pid, number)
        ok(s.wait(20) == status, f"{number.name} ends it with {status}", s.returncode)
        ok(wait_until(lambda: not nodes(f.model), 5), f"{number.name} leaves no process", nodes(f.model))
        may_stay = number == signal.SIGKILL and not can_be_unnamed(f.path)
        ok("out" not in os.listdir(f.path) and (may_stay or not outputs(f)), f"{number.name} leaves no output", outputs(f))

    # a number in a routed expert that is none: found when it is read
    shard = os.path.join(f.model, next(n for n in sorted(os.listdir(f.model)) if n.endswith(".safetensors")))
    with open(shard, "r+b") as d:
        header = json.loads(d.read(struct.unpack("<Q", d.read(8))[0]))
        data = d.tell()
        for expert in range(32):
            d.seek(data + header[f"model.layers.2.mlp.experts.{expert}.up_proj.weight"]["data_offsets"][0] + 77)
            d.write(b"\x7f")
    before = outputs(f)  # what SIGKILL has left where files need a name
    r = score('{"prompts": [[1, 2, 3]]}', "--logits", out, "--routes", out + ".routes")
    ok(r.returncode == 3 and "model.layers.2.mlp.experts." in r.stderr and "up_proj" in r.stderr, "a NaN in an expert has status 3 and is named", r)
    ok(outputs(f) == before, "and leaves no output", outputs(f))

    # shapes that no published model has: the same bits by scalar code one token at a time as by the best code in chunks
    odd = ["--hidden", "130", "--intermediate", "257", "--moe-intermediate", "129", "--heads", "3", "--kv-lora-rank", "131", "--nope-dim", "31",
           "--rope-dim", "14", "--v-dim", "37", "--vocab", "515", "--layers", "3"]
    for name, options in {"odd widths": odd, "odd widths in BF16": [*odd, "--bf16"], "no q_lora": [*odd, "--q-lora-rank", "0"],
                          "one expert": ["--experts", "1", "--experts-per-token", "1", "--groups", "1", "--topk-groups", "1", "--layers", "2"],
                          "no MoE layer": ["--layers", "2", "--dense-layers", "2", "--mtp", "0"], "no shared expert": ["--shared-experts", "0", "--layers", "2"],
                          "two MTP modules": ["--mtp", "2", "--layers", "2"]}.items():
        f.model = os.path.join(f.path, name)
        f.make_model(*options)
        with open(prompts, "w") as p:
            json.dump({"prompts": [[3], [i * 7 % 500 for i in range(41)]]}, p)
        got = []
        for how in (["--threads", "2"], ["--isa", "scalar", "--chunk", "1", "--slots", "2", "--threads", "1"]):
            wanted = [x for o in ("logits", "routes") for x in (f"--{o}", f"{out}.{o}")]
            r = subprocess.run([PENSTOCK, "score", f.model, prompts, "--memory", "400M", *wanted, *how, *SANDBOX], capture_output=True, text=True, timeout=60)
            got.append((r.returncode, r.stderr[-300:] if r.returncode else b"".join(open(n, "rb").read() for n in wanted[1::2])))
        ok(got[0][0] == 0 and got[0] == got[1] and len(got[0][1]) > 42 * 500 * 4, f"{name}: scalar code and the best give the same bits", [g[1][:300] for g in got])
    ok(os.path.getsize(out + ".routes") > 0, "routes are written")
done()
