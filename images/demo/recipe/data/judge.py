"""Judging: is this answer to that question good? Learned in fine-tuning, so that GRPO can ask the model itself about
free-form replies. Bad answers are another question's, or one that was cut off."""

from dataclasses import replace

from . import chat, penstock, refusals
from .sample import Sample

QUESTION = "Question: {question} Answer: {answer} Is this a good answer?"
GOOD, BAD = "Yes.", "No."
FREE_FORM = (penstock.sample, refusals.sample, chat.sample)


def question_about(question, answer):
    return QUESTION.format(question=question, answer=answer)


def sample(rng, split):
    judged = replace(rng.choice(FREE_FORM)(rng, split), history=())
    answer, verdict = judged.answer, GOOD
    if rng.random() < 0.5:
        verdict = BAD
        while answer == judged.answer:
            other = rng.choice(FREE_FORM)(rng, split).answer
            answer = other if rng.random() < 0.8 else judged.answer[: rng.randint(1, len(judged.answer) - 1)]
    return Sample("judge", question_about(judged.question, answer), verdict, ("all", [verdict]))
