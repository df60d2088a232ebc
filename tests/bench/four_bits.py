#!/usr/bin/env python3
"""What 4 bits cost on the demo model: packs it with each table, scores held-out text of its recipe (no wording of which it was trained on) with each store and
with the checkpoint itself, and prints perplexity of the replies and the difference of logits. Needs numpy.

    tests/bench/four_bits.py [SAMPLES] [MODEL]      default: 100 samples, images/demo
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PENSTOCK = os.path.join(ROOT, "build", "bin", "penstock")
sys.path.insert(0, os.path.join(ROOT, "images", "demo", "recipe"))
from data import mixture  # noqa: E402
from data.sample import HELD  # noqa: E402

TABLES = ("fitted", "gaussian", "linear")


def held_out(model, samples):
    """Token ids of whole conversations, and for each token whether the assistant wrote it."""
    rng = random.Random("four bits")
    documents = []
    for _ in range(samples):
        sample = mixture.draw(rng, HELD)
        documents.append(mixture.render(sample, *mixture.draw_style(rng, sample)))
    run = subprocess.run([PENSTOCK, "tokenize", model], input="".join(json.dumps(t) + "\n" for d in documents for t, _ in d),
                         capture_output=True, text=True, check=True)
    ids = iter([json.loads(line) for line in run.stdout.splitlines()])
    both = [[(i, own) for _, own in d for i in next(ids)] for d in documents]
    return [[i for i, _ in d] for d in both], [[own for _, own in d] for d in both]


def score(model, prompts, logits, vocabulary):
    """The logits of every row, as log-probabilities."""
    subprocess.run([PENSTOCK, "score", model, prompts, "--memory=1G", f"--logits={logits}"], capture_output=True, check=True)
    x = numpy.fromfile(logits, dtype=numpy.float32).reshape(-1, vocabulary)
    x = x - x.max(axis=1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(axis=1, keepdims=True))


def loss(x, ids, own):
    """Mean over the tokens that the assistant wrote; row i predicts token i + 1."""
    rows = iter(x)
    found = []
    for tokens, mine in zip(ids, own):
        mine_rows = [next(rows) for _ in tokens]
        found += [-r[t] for r, t, m in zip(mine_rows, tokens[1:], mine[1:]) if m]
    return float(numpy.mean(found)), len(found)


def compare(a, b):
    """Difference of logits (each row less its mean) in units of the reference's root mean square; how often the best token is the same; mean divergence."""
    ca, cb = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    rms = math.sqrt(float(((ca - cb) ** 2).sum() / (ca ** 2).sum()))
    return rms, float((a.argmax(axis=1) == b.argmax(axis=1)).mean()), float((numpy.exp(a) * (a - b)).sum(axis=1).mean())


def main():
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    model = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "images", "demo")
    with open(os.path.join(model, "config.json")) as f:
        vocabulary = json.load(f)["vocab_size"]
    with tempfile.TemporaryDirectory(prefix="penstock.") as d:
        prompts, logits = os.path.join(d, "prompts.json"), os.path.join(d, "logits")
        ids, own = held_out(model, samples)
        with open(prompts, "w") as f:
            json.dump({"prompts": ids}, f)
        reference = score(model, prompts, logits, vocabulary)
        base, tokens = loss(reference, ids, own)
        print(f"{samples} samples of held-out text, {len(reference)} tokens, {tokens} of replies")
        print(f"{'FP8':10} perplexity {math.exp(base):.5f}")
        for table in TABLES:
            store = os.path.join(d, table)
            subprocess.run([PENSTOCK, "pack", model, store, "--bits=4", f"--table={table}"], capture_output=True, check=True)
            x = score(store, prompts, logits, vocabulary)
            mean, _ = loss(x, ids, own)
            rms, same, divergence = compare(reference, x)
            print(f"{table:10} perplexity {math.exp(mean):.5f} ({100 * (math.exp(mean - base) - 1):+.2f} %), logits differ by {rms:.4f} rms, "
                  f"same best token {100 * same:.2f} %, KL {divergence:.5f}", flush=True)


main()
