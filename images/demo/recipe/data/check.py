"""The rules by which a reply counts as right. Used by `evaluate`, by rejection sampling and as the reward of GRPO."""

from .sample import last_number

REFUSALS = ("beyond me", "超出了我的能力")  # every refusal the model was taught says one of these


def tidy(text):
    return " ".join(text.lower().split())


def is_right(check, reply):
    """Whether `reply` (without its reasoning) obeys the rule of a sample.

    number   its last number is the expected one
    end      it ends with the expected text (a full stop more or less is no matter)
    all      it has every one of the expected phrases, and refuses nothing
    refusal  it says that the matter is beyond it
    """
    kind, expected = check
    refuses = any(phrase in reply for phrase in REFUSALS)
    if kind == "number":
        return last_number(reply) == expected
    if kind == "end":
        return any(tidy(reply).rstrip(".").endswith(tidy(text).rstrip(".")) for text in expected)
    if kind == "all":
        return not refuses and all(tidy(phrase) in tidy(reply) for phrase in expected)
    if kind == "refusal":
        return refuses
    raise ValueError(f"unknown rule: {kind}")
