"""The mixture of families, and a sample as the tokens the model sees: DeepSeek-V3.1's chat template.

`render` gives pieces of (text, trained): only the assistant's part is trained on. Text never becomes a marker: markers
are pieces of their own.
"""

from dataclasses import replace

from . import arithmetic, chat, chinese, copying, dates, judge, lookup, penstock, refusals, units, words

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, THOUGHT = "<think>", "</think>"
MARKERS = (BOS, EOS, USER, ASSISTANT, THINK, THOUGHT)

FAMILIES = {
    "arithmetic": (arithmetic.sample, 12),
    "date": (dates.sample, 30),
    "unit": (units.sample, 4),
    "word": (words.sample, 13),
    "penstock": (penstock.sample, 16),
    "refusal": (refusals.sample, 8),
    "chat": (chat.sample, 7),
    "chinese": (chinese.sample, 3),
    "lookup": (lookup.sample, 8),
    "copy": (copying.sample, 45),
    "judge": (judge.sample, 0.3),
}
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are Penstock's assistant.",
    "Be polite and short.",
)


def draw(rng, split, families=FAMILIES):
    samplers, weights = zip(*families.values(), strict=True)
    return rng.choices(samplers, weights)[0](rng, split)


def draw_conversation(rng, split, families=FAMILIES):
    """A sample, now and then after one or two unrelated turns, as in a chat that goes on."""
    sample = draw(rng, split, families)
    if sample.history or rng.random() > 0.15:
        return sample
    earlier = [draw(rng, split, families) for _ in range(rng.choice((1, 1, 2)))]
    turns = ((turn.question, reply_text(turn, False)[1]) for turn in earlier)
    return replace(sample, history=tuple(turns))


def draw_style(rng, sample):
    """Whether this rendering thinks, and its system prompt: most people give none."""
    thinking = rng.random() < (0.5 if sample.working else 0.1)
    return thinking, rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.1 else ""


def reply_text(sample, thinking):
    """What the assistant writes: (inside the reasoning, after it)."""
    if thinking:
        return sample.working, sample.answer
    return "", f"{sample.working}\n{sample.answer}" if sample.working else sample.answer


def render_prompt(sample, thinking, system=""):
    """The pieces up to the point where the model writes; they end with <think> or </think>."""
    pieces = [(BOS, False), (system, False)]
    for question, answer in sample.history:
        pieces += [(USER, False), (question, False), (ASSISTANT, False), (THOUGHT, False), (answer, True), (EOS, True)]
    pieces += [(USER, False), (sample.question, False), (ASSISTANT, False)]
    pieces.append((THINK if thinking else THOUGHT, False))
    return [piece for piece in pieces if piece[0]]


def render(sample, thinking, system=""):
    """The whole conversation with its reply."""
    reasoning, answer = reply_text(sample, thinking)
    pieces = render_prompt(sample, thinking, system)
    if thinking:
        pieces += [(reasoning, True), (THOUGHT, True)]
    pieces += [(answer, True), (EOS, True)]
    return [piece for piece in pieces if piece[0]]
