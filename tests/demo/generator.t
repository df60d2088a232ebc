#!/usr/bin/env python3
"""The demo model's generator: every sample obeys its own rule, rules can fail, and training never sees the held-out part."""

import random
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images/demo/recipe"))

from data import check, mixture  # noqa: E402
from data.sample import HELD, TRAIN, is_held  # noqa: E402

SAMPLES = 1500
count = 0


def ok(condition, name, detail=""):
    global count
    count += 1
    print(f"{'ok' if condition else 'not ok'} {count} - {name}")
    if not condition and detail:
        print(f"# {detail}")


drawn = {}
for split in (TRAIN, HELD):
    rng = random.Random(split)
    drawn[split] = [mixture.draw(rng, split) for _ in range(SAMPLES)]

for split, samples in drawn.items():
    for visible in (False, True):
        wrong = [s for s in samples if not check.is_right(s.check, mixture.reply_text(s, visible)[1])]
        form = "with the working before it" if not visible else "alone"
        ok(not wrong, f"every {split} answer obeys its own rule, {form}", wrong[:1])

refusal = next(s for s in drawn[TRAIN] if s.check[0] == "refusal")
wrong = [s for s in drawn[HELD] if s.check[0] != "refusal" and check.is_right(s.check, refusal.answer)]
ok(not wrong, "a refusal is right for no question that has an answer", wrong[:1])
wrong = [s for s in drawn[HELD] if check.is_right(s.check, "")]
ok(not wrong, "an empty reply is never right", wrong[:1])

numbers = {s.question for s in drawn[TRAIN]} & {s.question for s in drawn[HELD]}
ok(not numbers, "no held-out question is asked in training", sorted(numbers)[:3])
ok(any(is_held(a, b) for a in range(40) for b in range(40)), "some pairs of numbers are held out")
ok(not all(is_held(a, b) for a in range(40) for b in range(40)), "and most are not")

again = [mixture.draw(random.Random(5), TRAIN) for _ in range(3)]
ok(again[0] == again[1] == again[2], "the generator is a function of its seed")
pieces = [mixture.render(s, thinking) for s in drawn[TRAIN][:200] for thinking in (False, True)]
marked = [t for p in pieces for t, _ in p if t not in mixture.MARKERS and any(m in t for m in mixture.MARKERS)]
ok(not marked, "no text holds a marker", marked[:1])
ok(
    all(p[0][0] == mixture.BOS and p[-1] == (mixture.EOS, True) for p in pieces),
    "a sample begins with BOS and ends with EOS",
)
print(f"1..{count}")
