"""What all families share: a Sample, the choice of a wording, and the split between training and examination.

The split is by template, never by chance. Every list of wordings has a held-out part that training never sees, and
numbers are held out by a hash of their digits, so that "347 + 589" is either always or never in the training data.
"""

import math
import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property

from .paraphrase import paraphrase

TRAIN, HELD = "train", "held"
HELD_NUMBERS = 16  # one in so many tuples of numbers is held out


@dataclass(frozen=True)
class Sample:
    """One question with its reply.

    working   the reasoning: inside <think> in thinking mode, before the answer otherwise
    thought   what stands inside <think> where a reply needs no working
    check     the rule by which check.py judges a reply: ("number", "936"), ("all", [phrases]) or ("refusal", [])
    history   earlier turns, (question, answer) each
    """

    family: str
    question: str
    answer: str
    check: tuple
    working: str = ""
    thought: str = ""
    history: tuple = ()
    system: str = ""


CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")  # "[a|b]" in a template: one of them


def spell_out(rng, template):
    """A template with its choices made, inner ones first."""
    while found := CHOICE.search(template):
        template = template[: found.start()] + rng.choice(found[1].split("|")) + template[found.end() :]
    return template.strip()


def ways(template):
    """How often a template is drawn, beside one without choices: more where there is more to choose."""
    return min(12.0, math.prod(1 + found.count("|") for found in CHOICE.findall(template)) ** 0.5)


@dataclass(frozen=True)
class Wordings:
    """Templates of a question. `train` alone is used for training, `held` alone for examination. A training template may
    hold choices, "[a|b]"; what they make is never a held-out template."""

    train: tuple
    held: tuple

    @cached_property
    def weights(self):
        return [ways(line) for line in self.train]

    def draw(self, rng, split):
        if split == HELD:
            return rng.choice(self.held)
        while (template := spell_out(rng, rng.choices(self.train, self.weights)[0])) in self.held:
            pass
        return template

    def pick(self, rng, split, **fields):
        return self.draw(rng, split).format(**fields)

    def pick_freely(self, rng, split, **fields):
        """Like `pick`, but training also gets paraphrases of its templates; never a held-out one."""
        template = self.draw(rng, split)
        if split != HELD and rng.random() < 0.5:
            other = paraphrase(rng, template)
            template = template if other in self.held else other
        return template.format(**fields)


TOPIC = (
    "[Tell me about|Explain|Describe|I have a question about|Tell me something about|What can you tell me about|"
    "What do you know about|I want to know more about|Help me with|How about|What about|Say something about|"
    "Can you explain|Please explain|I do not understand|Give me a short explanation of|What should I know about|] "
    "[{topics}][.|?|]"
)


def wordings(text):
    """Reads a block of templates, one a line; a line that begins with "~" is held out, and one that begins with "@" names
    topics, "a|b", and stands for the usual ways to ask about one."""
    lines = [line.strip() for line in text.strip().splitlines()]
    train = [line for line in lines if not line.startswith("~")]
    train = tuple(TOPIC.replace("{topics}", line[1:].strip()) if line.startswith("@") else line for line in train)
    held = tuple(line[1:].strip() for line in lines if line.startswith("~"))
    assert train and held, "both sides of the split need a template"
    return Wordings(train, held)


def combined(leads, things, text):
    """Wordings whose training part is every lead with every thing, "{x}" in the lead standing for the thing, and the
    lines of `text` besides; nothing held out is among them."""
    plain = wordings(text)
    leads, things = ([line.strip() for line in block.strip().splitlines()] for block in (leads, things))
    crossed = [lead.replace("{x}", thing) for lead in leads for thing in things]
    return Wordings(tuple(line for line in (*plain.train, *crossed) if line not in plain.held), plain.held)


def split_list(items, every=8):
    """Splits a plain list of things to talk about: every eighth one is held out."""
    held = tuple(items[every - 1 :: every])
    return Wordings(tuple(item for item in items if item not in held), held)


def phrases(text):
    """A comma-separated block as a list."""
    return [item.strip() for item in text.replace("\n", " ").split(",") if item.strip()]


def is_held(*numbers):
    return zlib.crc32(",".join(map(str, numbers)).encode()) % HELD_NUMBERS == 0


def fresh(rng, split, draw):
    """Calls `draw(rng)`, which returns a tuple of numbers, until the tuple belongs to this split."""
    while True:
        numbers = draw(rng)
        if is_held(*numbers) == (split == HELD):
            return numbers


OPENINGS = wordings(
    """Hi,
    Hello,
    Hello!
    Please tell me:
    Quick question:
    Question:
    Excuse me,
    Hey,
    One more thing:
    I have a question.
    Could you help me?
    Sorry to bother you.
    Good morning!
    ~ Just wondering:
    ~ Help me, please.
    ~ Good day."""
)
CLOSINGS = wordings(
    """Thanks!
    Thank you.
    Please.
    Please answer briefly.
    I need to know.
    Thanks in advance.
    Can you tell me?
    ~ Much obliged.
    ~ Thank you very much!"""
)


LEADS = wordings(
    """Can you tell me
    Could you tell me
    Do you know
    I would like to know
    I want to know
    Tell me,
    So,
    And
    Now,
    OK,
    Maybe you know
    Please explain:
    Say,
    ~ I wonder
    ~ Any idea"""
)
QUESTION_WORDS = ("What ", "How ", "Which ", "Who ", "Why ", "Where ", "When ", "Is ", "Does ", "Can ")


def mistype(rng, question):
    """One slip of the fingers in a word: two letters exchanged, or one left out. Numbers stay as they are."""
    places = [i for i in range(1, len(question) - 1) if question[i : i + 2].isalpha() and question[i].isascii()]
    if not places:
        return question
    i = rng.choice(places)
    slip = question[i + 1] + question[i] if rng.random() < 0.5 else question[i + 1]
    return question[:i] + slip + question[i + 2 :]


def dress(rng, split, question, slips=False):
    """How people really type: with a lead, a greeting or thanks, without capitals or question mark. `slips`: mistyped
    now and then, where no letter matters for the answer."""
    if question.startswith(QUESTION_WORDS) and rng.random() < 0.15:
        question = f"{LEADS.pick(rng, split)} {question[0].lower()}{question[1:]}"
    if question.startswith("What is ") and rng.random() < 0.1:
        question = "What's" + question.removeprefix("What is")
    if rng.random() < 0.1:
        question = f"{OPENINGS.pick(rng, split)} {question}"
    elif rng.random() < 0.08:
        question = f"{question} {CLOSINGS.pick(rng, split)}"
    if rng.random() < 0.12:
        question = question[:1].lower() + question[1:]
    if rng.random() < 0.1:
        question = question.rstrip("?.!")
    if rng.random() < 0.05:
        question = question.lower()
    if slips and rng.random() < 0.05:
        question = mistype(rng, question)
    return question


def dressed(rng, split, sample, slips=False):
    return replace(sample, question=dress(rng, split, sample.question, slips))


def last_number(text):
    """The last number of a reply, without thousands separators, or None."""
    found = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    return found[-1] if found else None
