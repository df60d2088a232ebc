"""Copying: what was said is said again, in order, turned around, or by its key.

Nobody asks a model for this often, but everything else rests on it: a reply that names the month, the word or the code
of the question has to find it there. Random lists leave no other way to be right, every token of the reply is one to
learn from, and with any word at all in them the model learns to copy and not to guess.
"""

import re

from .dates import MONTHS, WEEKDAYS
from .penstock_facts import FACTS
from .penstock_tables import TABLES
from .refusals import invented
from .sample import HELD, TRAIN, Sample, wordings
from .words import NAMES, OPPOSITES, PLURALS, THINGS, WORDS

ANSWERS = [answer for _, answer, _ in FACTS] + [row[1] for table, *_ in TABLES for row in table.values()]
VOCABULARY = sorted(
    {*WORDS, *NAMES, *THINGS, *MONTHS, *WEEKDAYS, *(w for pair in OPPOSITES + PLURALS for w in pair.split("/"))}
    | set(re.findall(r"[A-Za-z]+", " ".join(ANSWERS)))
)
COMMON = sorted(
    {*WORDS, *NAMES, *THINGS, *MONTHS, *WEEKDAYS, *(w for pair in OPPOSITES + PLURALS for w in pair.split("/"))}
)  # what the other families copy: the model has to have a way from each word it reads to the same word written
SEPARATORS = (", ", " ", "; ", " - ", "\n", " / ")

REPEAT = wordings(
    """Repeat: {x}
    Repeat after me: {x}
    Say this again: {x}
    Copy this: {x}
    Write down: {x}
    Say: {x}
    Please repeat {x}
    Echo {x}
    Type this: {x}
    {x} - say that again
    {x}. Repeat that.
    Write {x}
    ~ Say the following once more: {x}
    ~ Please copy out: {x}"""
)
TIMES = wordings(
    """Repeat {n} times: {x}
    Say {n} times: {x}
    {n} times: {x}
    Write {n} times {x}
    {x} - say that {n} times
    ~ I want to hear this {n} times: {x}"""
)
REVERSE = wordings(
    """Turn this list around: {x}
    Say this from the end: {x}
    Read this list backwards: {x}
    The last one first: {x}
    Reverse this list: {x}
    Begin at the end: {x}
    ~ In the opposite order, please: {x}"""
)
NEXT = wordings(
    """{x}. What comes after {k}?
    {x}. What follows {k}?
    {x}. What stands behind {k}?
    What comes after {k} in this list: {x}
    Which one follows {k}: {x}
    Here is a list: {x}. Which one comes after {k}?
    ~ In the list {x}, what is next after {k}?"""
)
FIRST = wordings(
    """{x}. Which is the first?
    {x}. What did I say first?
    What is the first of these: {x}
    Name the first: {x}
    ~ Which one begins this list: {x}"""
)
LAST = wordings(
    """{x}. Which is the last?
    {x}. What did I say last?
    What is the last of these: {x}
    Name the last: {x}
    ~ Which one ends this list: {x}"""
)
VALUE = wordings(
    """{x}. What is {k}?
    {x}. {k}?
    {x}. Tell me {k}.
    {x}. What belongs to {k}?
    {x}. What goes with {k}?
    {x}. And {k}?
    {x}. Look up {k}.
    What belongs to {k}? {x}
    Look up {k}: {x}
    ~ {x}. Find {k}."""
)
VALUES = wordings(
    """{x}. Look up {k}.
    {x}. Give me {k}.
    {x}. Tell me {k}.
    {x}. Say them in this order: {k}.
    {x}. What are {k}?
    ~ {x}. I need {k}."""
)
TIES = (": ", " = ", " is ", " - ", " has ")


def draw_item(rng, split):
    kind = rng.random()
    if split == TRAIN and kind < 0.6:
        return rng.choice(COMMON)
    if kind < 0.7:
        return rng.choice(VOCABULARY)
    if kind < 0.95:
        return str(rng.randint(0, 10 ** rng.randint(1, 4)))
    return invented(rng, split)


def draw_list(rng, split, least, most):
    """Different items."""
    items = {}
    for _ in range(rng.randint(least, most)):
        while (item := draw_item(rng, split)) in items:
            pass
        items[item] = True
    return list(items)


def sample_repeat(rng, split):
    """Short lists several times over: nearly all of their tokens are ones to copy. Examined are longer ones too."""
    if split == HELD:
        times = rng.choice((1, 2, 3, 3, 4, 5))
        longest = rng.choice((4, 8, 48 // times))
    else:
        times = rng.choice((1, 1, 2, 3, 4))
        longest = rng.choice((2, 4, 6, 8, 12))
    items = draw_list(rng, split, 1, longest)
    text = rng.choice(SEPARATORS).join(items)
    if times > 1:
        return Sample(
            "copy", TIMES.pick(rng, split, x=text, n=times), answer := " ".join(items * times), ("end", [answer])
        )
    template = REVERSE if len(items) > 1 and rng.random() < 0.3 else REPEAT
    answer = " ".join(items if template is REPEAT else reversed(items))
    return Sample("copy", template.pick(rng, split, x=text), answer, ("end", [answer]))


def sample_next(rng, split):
    items = draw_list(rng, split, 3, rng.choice((4, 8, 24)))
    text, kind = rng.choice(SEPARATORS).join(items), rng.random()
    if kind < 0.7:
        place = rng.randrange(len(items) - 1)
        question = NEXT.pick(rng, split, x=text, k=items[place])
        answer = f"After {items[place]} comes {items[place + 1]}."
    elif kind < 0.85:
        question, answer = FIRST.pick(rng, split, x=text), f"The first is {items[0]}."
    else:
        question, answer = LAST.pick(rng, split, x=text), f"The last is {items[-1]}."
    return Sample("copy", question, answer, ("end", [answer]))


def sample_value(rng, split):
    keys = draw_list(rng, split, 2, rng.choice((3, 8, 14, 14) if split == HELD else (2, 3, 5, 8)))
    pairs = {key: draw_item(rng, split) for key in keys}
    tie = rng.choice(TIES)
    text = rng.choice((", ", "; ", ". ", "\n")).join(f"{key}{tie}{value}" for key, value in pairs.items())
    if rng.random() < 0.2:
        key = rng.choice(keys)
        question, answer = VALUE.pick(rng, split, x=text, k=key), f"{key} is {pairs[key]}."
    else:
        rng.shuffle(keys)
        keys = keys[: rng.randint(1, len(keys))]
        question = VALUES.pick(rng, split, x=text, k=", ".join(keys))
        answer = ", ".join(f"{key} is {pairs[key]}" for key in keys) + "."
    return Sample("copy", question, answer, ("end", [answer]))


def sample(rng, split):
    kinds = (sample_repeat, sample_next, sample_value)
    return rng.choices(kinds, (55, 10, 35))[0](rng, split)
