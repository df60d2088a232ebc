"""Rejection sampling: the model answers training questions several times, and the right answers become training data.

DeepSeek's way to data for fine-tuning: what is kept is in the model's own words, so it costs little to learn and fixes
what the model can nearly do. Kept is the shortest right reply to a question. The file lies in the state's directory; a line is {"prompt": [ids], "reply": [ids]}.
"""

import json
import random

import torch

from config import YARN
from data import check, mixture
from data.sample import TRAIN
from model import Positions
from sampling import Sampler

FILE = "rejection.jsonl"
TRIES = 4
BATCH_QUESTIONS = 24
REPLY_LIMIT = 320
TEMPERATURE = 0.9
LONGEST = 1024
FAMILIES = {
    name: mixture.FAMILIES[name] for name in ("arithmetic", "date", "unit", "word", "penstock", "refusal", "chinese")
}


def write_rejection_samples(directory, weights, encoder, seed, questions):
    """Samples, judges and writes; nothing is done if the file is there."""
    path = directory / FILE
    if path.exists():
        return
    sampler = Sampler(weights.copies(), weights.biases, Positions(LONGEST, YARN))
    rng, generator = random.Random(f"{seed}/rejection"), torch.Generator().manual_seed(seed)
    kept = []
    for _ in range(0, questions, BATCH_QUESTIONS):
        asked = [mixture.draw(rng, TRAIN, FAMILIES) for _ in range(BATCH_QUESTIONS)]
        prompts = [encoder.encode(mixture.render_prompt(s, *mixture.draw_style(rng, s)))[0] for s in asked]
        repeated = [prompt for prompt in prompts for _ in range(TRIES)]
        replies = sampler.generate(repeated, encoder.eos, REPLY_LIMIT, TEMPERATURE, generator)
        for number, (sample, prompt) in enumerate(zip(asked, prompts, strict=True)):
            tried = replies[number * TRIES : (number + 1) * TRIES]
            right = [r for r in tried if r is not None and is_right(sample, encoder.decode(r))]
            if right:
                kept.append({"prompt": prompt, "reply": min(right, key=len)})
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
    partial.rename(path)


def is_right(sample, reply):
    """By the rule, and in the words of the answer where the rule looks at a number alone: "640 - 440 = 208" is not one
    to learn from, whatever was asked."""
    answer = reply.rpartition(mixture.THOUGHT)[2]
    return check.is_right(sample.check, answer) and (sample.check[0] != "number" or answer.endswith(sample.answer))


def read_rejection_samples(directory, eos):
    """Documents as batches.pack takes them: (ids, trained)."""
    path = directory / FILE
    if not path.exists():
        return []
    documents = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        reply = [*entry["reply"], eos]
        documents.append((entry["prompt"] + reply, [False] * len(entry["prompt"]) + [True] * len(reply)))
    return documents
