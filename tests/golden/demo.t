#!/usr/bin/env python3
# time limit: 60 s
"""The demo model through every process of a node: logits, routes and MTP logits of `penstock score images/demo` beside what
transformers answers for the dequantised weights (tests/golden/demo; images/demo/recipe/golden makes it and has the rule).
And the traces that lie beside the model are what ipc/trace.h says.
"""
import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "golden"), os.path.join(ROOT, "tests", "e2e")]
from golden import read  # noqa: E402
from node import BIN, SANDBOX, done, ok  # noqa: E402

MODEL = os.path.join(ROOT, "images", "demo")
EXPECTED = os.path.join(ROOT, "tests", "golden", "demo")
TRACES = os.path.join(MODEL, "traces")
TRACE_HEADER = struct.Struct("<QIIIIIIII32s")
TRACE_ROW = struct.Struct("<QIIII")


def columns(path, rows, vocab, stride):
    """Every stride-th logit of each row, and each row's best token."""
    values = read(path, "f", rows * vocab)
    kept, best = [], []
    for row in range(rows):
        logits = values[row * vocab:(row + 1) * vocab]
        kept += logits[::stride]
        best.append(logits.index(max(logits)))
    return kept, best


def beyond(got, want, limits, prefix):
    """What exceeds its limit; a NaN or an infinity exceeds every one."""
    error = [abs(g - w) for g, w in zip(got, want)]
    found = {"max_abs": max(error), "rms": math.sqrt(sum(e * e for e in error) / len(error))}
    return [f"{prefix}{key}: {value:.3e}, limit {limits[prefix + key]:.3e}"
            for key, value in found.items() if not value <= limits[prefix + key] or not all(map(math.isfinite, error))]


def check_score(config, expect):
    prompts = expect["prompts"]
    rows, vocab, stride = sum(map(len, prompts)), config["vocab_size"], expect["stride"]
    layers = config["num_hidden_layers"] - config["first_k_dense_replace"]
    routes = rows * layers * config["num_experts_per_tok"]
    with tempfile.TemporaryDirectory(prefix="penstock.") as folder:
        asked = os.path.join(folder, "prompts.json")
        with open(asked, "w") as f:
            json.dump({"prompts": prompts}, f)
        out = {name: os.path.join(folder, name) for name in ("logits", "routes", "mtp-logits")}
        run = subprocess.run([os.path.join(BIN, "penstock"), "score", MODEL, asked, "--memory=1G", *SANDBOX,
                              *(f"--{name}={path}" for name, path in out.items())], capture_output=True, text=True)
        if not ok(run.returncode == 0, "score runs on the demo model", run.stderr):
            return
        got, best = columns(out["logits"], rows, vocab, stride)
        want = read(os.path.join(EXPECTED, "logits.f32"), "f", len(got))
        wrong = beyond(got, want, expect["limits"], "")
        ok(not wrong, "the demo model's logits agree with transformers", wrong)
        wrong = [(row, got, near) for row, (got, near) in enumerate(zip(best, expect["best"])) if got not in near]
        ok(not wrong, "and so does the best token of every row, near ties aside", wrong)
        ties = sum(len(near) > 1 for near in expect["best"])
        ok(ties <= rows // 4, "which are few", f"{ties} of {rows}")
        got, _ = columns(out["mtp-logits"], rows - len(prompts), vocab, stride)
        want = read(os.path.join(EXPECTED, "mtp_logits.f32"), "f", len(got))
        wrong = beyond(got, want, expect["limits"], "mtp_")
        ok(not wrong, "its MTP logits agree with transformers", wrong)
        same = read(out["routes"], "H", routes) == read(os.path.join(EXPECTED, "routes.u16"), "H", routes)
        ok(same, "every route is the expected one")
    ok(beyond([1.0, float("nan")], [1.0, 1.0], expect["limits"], ""), "a NaN is beyond the limits")
    ok(beyond([99.0], [1.0], expect["limits"], ""), "one wrong logit is beyond the limits")


def check_trace(name, config):
    with open(os.path.join(TRACES, name), "rb") as f:
        data = f.read()
    magic, version, size, layers, top_k, experts, first, all_layers, chunk, _ = TRACE_HEADER.unpack_from(data)
    shape = (layers, top_k, experts, first) == (
        config["num_hidden_layers"] - config["first_k_dense_replace"], config["num_experts_per_tok"],
        config["n_routed_experts"], config["first_k_dense_replace"])
    ok(magic == 0x4543415254534E50 and version == 2 and shape and all_layers >= layers and chunk, f"{name}: a trace of this model's shape")
    body, wrong = memoryview(data)[TRACE_HEADER.size:], []
    ok(len(body) % size == 0 and len(body) > 100 * size, f"{name}: whole records, more than a hundred")
    for at in range(0, len(body) - size + 1, size):
        _, _, _, token, flags = TRACE_ROW.unpack_from(body, at)
        ids = struct.unpack_from(f"<{layers * top_k}H", body, at + TRACE_ROW.size)
        weights = struct.unpack_from(f"<{layers * top_k}f", body, at + TRACE_ROW.size + (2 * layers * top_k + 3 & ~3))
        for layer in range(layers):
            chosen, part = ids[layer * top_k:(layer + 1) * top_k], weights[layer * top_k:(layer + 1) * top_k]
            if not (sorted(set(chosen)) == list(chosen) and chosen[-1] < experts and flags in range(4)
                    and token < config["vocab_size"] and abs(sum(part) - config["routed_scaling_factor"]) < 1e-3):
                wrong.append((at // size, layer, chosen, part))
    ok(not wrong, f"{name}: experts ascend and weights add up in every row", wrong[:1])


with open(os.path.join(MODEL, "config.json")) as f:
    model_config = json.load(f)
with open(os.path.join(EXPECTED, "expect.json")) as f:
    expected = json.load(f)
with open(os.path.join(MODEL, "model.safetensors"), "rb") as f:
    current = hashlib.sha256(f.read()).hexdigest() == expected["model"]
if ok(current, "the expected answers are of this checkpoint", "make them anew: images/demo/recipe/golden"):
    check_score(model_config, expected)
for trace in sorted(os.listdir(TRACES)):
    if trace.endswith(".routes"):
        check_trace(trace, model_config)
done()
