"""Reinforcement learning: GRPO with rewards checked by rule, and the model's own judgement beside it for free-form replies.

Each rank draws a few questions, samples a group of replies to each at temperature 1, and rewards them. A reply's advantage
is its reward minus the group's mean, over the group's deviation. Every group of samples gets one gradient step, so the
ratio to the sampling policy is 1 where the gradient is taken and its clipping has no effect; what remains is the policy
gradient and the KL divergence from the model that fine-tuning left. The MTP module takes no part.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

import batches
from data import check, judge, mixture
from data.sample import TRAIN
from model import Pass, additive_mask
from sampling import Sampler

QUESTIONS = 3  # of a rank in a step
FREE_FORM = 0.15  # of them have free-form replies
JUDGEMENT_WEIGHT = 0.2  # the rule knows a right reply; the judgement, hardly better than chance, orders what it leaves equal
GROUP = 8  # replies to each
REPLY_LIMIT = 320
KL_WEIGHT = 0.02
DEVIATION_FLOOR = 0.05  # groups whose judged rewards hardly differ teach hardly anything
NO_END = -0.2  # the reward of a reply that never ended
MICRO_ROWS = 12  # replies in one forward and backward pass
BY_RULE = {name: mixture.FAMILIES[name] for name in ("arithmetic", "date", "unit", "word")}
BY_JUDGEMENT = {name: mixture.FAMILIES[name] for name in ("penstock", "refusal", "chat")}


@dataclass
class Rollout:
    sample: object
    prompt: list
    reply: list  # None if it reached the limit
    reward: float = 0.0
    advantage: float = 0.0


def judged(sampler, encoder, rollouts):
    """The model's own probability that each reply is a good answer."""
    prompts = []
    for rollout in rollouts:
        answer = encoder.decode(rollout.reply).rpartition(mixture.THOUGHT)[2]
        question = judge.question_about(rollout.sample.question, answer)
        asked = judge.Sample("judge", question, "", ())
        prompts.append(encoder.encode(mixture.render_prompt(asked, thinking=False))[0])
    good, bad = (encoder.encode_text(word)[0] for word in (judge.GOOD, judge.BAD))
    logits = sampler.first_logits(prompts)[:, [good, bad]]
    return logits.softmax(-1)[:, 0].tolist()


def roll_out(sampler, encoder, rng):
    """Groups of sampled replies with rewards and advantages."""
    rollouts = []
    for _ in range(QUESTIONS):
        families = BY_JUDGEMENT if rng.random() < FREE_FORM else BY_RULE
        sample = mixture.draw(rng, TRAIN, families)
        thinking = bool(sample.working) and rng.random() < 0.5
        prompt = encoder.encode(mixture.render_prompt(sample, thinking))[0]
        rollouts += [Rollout(sample, prompt, None) for _ in range(GROUP)]
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    replies = sampler.generate([r.prompt for r in rollouts], encoder.eos, REPLY_LIMIT, 1.0, generator)
    free_form = []
    for rollout, reply in zip(rollouts, replies, strict=True):
        rollout.reply = reply
        if reply is None:
            rollout.reward = NO_END
            continue
        answer = encoder.decode(reply).rpartition(mixture.THOUGHT)[2]
        rollout.reward = float(check.is_right(rollout.sample.check, answer))
        if rollout.sample.family in BY_JUDGEMENT:
            free_form.append(rollout)
    if free_form:
        for rollout, judgement in zip(free_form, judged(sampler, encoder, free_form), strict=True):
            rollout.reward += JUDGEMENT_WEIGHT * judgement
    for begin in range(0, len(rollouts), GROUP):
        group = rollouts[begin : begin + GROUP]
        rewards = torch.tensor([r.reward for r in group])
        advantages = (rewards - rewards.mean()) / (rewards.std() + DEVIATION_FLOOR)
        for rollout, advantage in zip(group, advantages.tolist(), strict=True):
            rollout.advantage = advantage
    return rollouts


def log_probabilities(forward, batch, wanted, targets):
    hidden = forward.hidden(batch.tokens, additive_mask(batch.visible()))
    logits = F.linear(hidden[wanted], forward.weights["head"]).float()
    return logits.log_softmax(-1).gather(1, targets[wanted][:, None])[:, 0]


def gradient(leaves, reference, biases, positions, encoder, rng):
    """One rank's share of a step: adds to the leaves' gradients. Returns the experts' load, the statistics
    (reward of what has working, of free-form replies, KL per token, length of a reply, share that ended) and how many
    tokens were sampled."""
    sampler = Sampler({name: leaf.detach() for name, leaf in leaves.items()}, biases, positions)
    rollouts = roll_out(sampler, encoder, rng)
    used = [r for r in rollouts if r.reply is not None and abs(r.advantage) > 1e-6]
    total = sum(len(r.reply) + 1 for r in used)
    kl_sum, load = 0.0, torch.zeros_like(biases)
    for begin in range(0, len(used), MICRO_ROWS):
        part = sorted(used[begin : begin + MICRO_ROWS], key=lambda r: -len(r.prompt) - len(r.reply))
        length = len(part[0].prompt) + len(part[0].reply) + 1
        documents = []
        for r in part:
            answer = [*r.reply, encoder.eos]
            documents.append((r.prompt + answer, [False] * len(r.prompt) + [True] * len(answer)))
        batch = batches.one_a_row(documents, length)
        targets, wanted = batch.targets(1)
        forward = Pass(leaves, biases, positions)
        ours = log_probabilities(forward, batch, wanted, targets)
        with torch.no_grad():
            theirs = log_probabilities(Pass(*reference, positions), batch, wanted, targets)
        advantage = torch.tensor([r.advantage for r in part])[:, None].expand(wanted.shape)[wanted]
        ratio = torch.exp(ours - ours.detach())
        kl = torch.exp(theirs - ours) - (theirs - ours) - 1
        ((KL_WEIGHT * kl - advantage * ratio).sum() / total).backward()
        kl_sum += kl.sum().item()
        load += forward.load
    ended = [r for r in rollouts if r.reply is not None]
    by_rule = [r.reward for r in rollouts if r.sample.family not in BY_JUDGEMENT]
    free_form = [r.reward for r in rollouts if r.sample.family in BY_JUDGEMENT]
    statistics = (
        sum(by_rule) / max(len(by_rule), 1),
        sum(free_form) / max(len(free_form), 1),
        kl_sum / max(total, 1),
        sum(len(r.reply) for r in ended) / max(len(ended), 1),
        len(ended) / len(rollouts),
    )
    return load, statistics, sum(len(r.reply) + 1 for r in ended)
