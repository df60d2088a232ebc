"""The training loop: a few single-threaded processes that share the weights' memory.

In each step every rank computes the gradient of its own rows, then updates the part of the parameters that it owns from
the sum of all gradients; three barriers a step are all the communication there is. A checkpoint every ten minutes holds
all there is to know (masters, moments, biases, step), and batches are functions of the step, so training resumes
exactly.
"""

import json
import signal
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp

import batches
from data import lookup, mixture
from data.sample import TRAIN
from model import MOE_LAYERS, Pass, Positions, losses
from stages import STAGES, TOKENS_A_RANK, bias_step
from tokenizer import Encoder
from weights import Weights

CHECKPOINT_SECONDS = 600
LOG_STEPS = 20
CLIP = 1.0
DECAY = 0.1
BETAS = (0.9, 0.95)
BALANCE_LOSS = 1e-4
LONG = 256  # from this length on, part of a row are notes to look things up in
STATISTICS = ("loss", "mtp_loss", "balance_loss", "squared_norm")


class Run:
    """What the ranks of one sitting share: weights, statistics, and where in which stage training is."""

    def __init__(self, directory, ranks, seed):
        self.directory, self.ranks, self.seed = Path(directory), ranks, seed
        self.weights = Weights(ranks)
        self.statistics = torch.zeros(ranks, len(STATISTICS)).share_memory_()
        self.load = torch.zeros(ranks, *self.weights.biases.shape).share_memory_()
        self.asked_to_stop = torch.zeros((), dtype=torch.bool).share_memory_()
        self.stopping = torch.zeros((), dtype=torch.bool).share_memory_()
        self.barrier = mp.get_context("spawn").Barrier(ranks)
        self.place = {"stage": STAGES[0].name, "step": 0, "tokens": 0, "seconds": 0.0, "updates": 0}
        if self.state_file.exists():
            state = torch.load(self.state_file)
            self.weights.load(state["weights"])
            self.place = state["place"]
        else:
            self.weights.initialise(seed)

    @property
    def state_file(self):
        return self.directory / "state.pt"

    def save(self, name="state.pt"):
        """Whole or not at all."""
        partial = self.directory / (name + ".partial")
        torch.save({"weights": self.weights.state(), "place": self.place}, partial)
        partial.rename(self.directory / name)

    def log(self, entry):
        with open(self.directory / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")


def draw_batch(encoder, run, stage, step, rank):
    """A rank's share of a step: packed samples, and in long rows one long text each to look something up in."""
    length = stage.length(step)
    rows = max(1, TOKENS_A_RANK // length)
    rng = batches.batch_rng(run.seed, stage.name, step, rank)
    documents = []
    if length >= LONG:
        for _ in range(rows):
            sentences = rng.randint(length // 24, length // 12)  # a sentence has some ten tokens
            sample = lookup.sample(rng, TRAIN, sentences)
            ids, trained = encoder.encode(mixture.render(sample, False))
            if len(ids) <= length:
                documents.append((ids, trained))
    return batches.training_batch(encoder, rng, rows, length, stage.families, documents)


def make_optimizer(run, rank):
    """AdamW over this rank's part of the flat buffers; its moments are the shared ones, so that they can be saved."""
    weights, groups = run.weights, []
    decayed, plain, _ = weights.owned[rank]
    for part, decay in ((decayed, DECAY), (plain, 0.0)):
        groups.append({"params": [weights.master[part]], "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=1e-8, fused=True)
    for part, group in zip((decayed, plain), optimizer.param_groups, strict=True):
        optimizer.state[group["params"][0]] = {
            "step": torch.tensor(float(run.place["updates"])),
            "exp_avg": weights.first[part],
            "exp_avg_sq": weights.second[part],
        }
    return optimizer


def update(run, rank, optimizer, rate):
    """Clips the summed gradient by its norm over all ranks, steps, and makes the new BF16 copies. Returns the norm."""
    decayed, plain, _ = run.weights.owned[rank]
    mine = slice(decayed.start, plain.stop)
    gradient = sum(grads[mine].float() for grads in run.weights.grads) / run.ranks
    run.statistics[rank, STATISTICS.index("squared_norm")] = gradient.square().sum()
    run.barrier.wait()
    norm = run.statistics[:, STATISTICS.index("squared_norm")].sum().sqrt().item()
    gradient.mul_(min(1.0, CLIP / (norm + 1e-6)))
    for group, part in zip(optimizer.param_groups, (decayed, plain), strict=True):
        group["lr"] = rate
        group["params"][0].grad = gradient[part.start - mine.start : part.stop - mine.start]
    optimizer.step()
    run.weights.refresh(rank)
    return norm


def move_biases(run, size):
    """Overloaded experts down, idle ones up; the mean, which decides nothing, stays zero."""
    load = run.load.sum(0)
    run.weights.biases += size * torch.sign(load.mean(-1, keepdim=True) - load)
    run.weights.biases -= run.weights.biases.mean(-1, keepdim=True)


def summary(run, stage, norm, rate, speed):
    load = run.load.sum(0)
    loss, mtp_loss, balance, _ = run.statistics.mean(0).tolist()
    return {
        **run.place,
        "stage": stage.name,
        "loss": round(loss, 4),
        "mtp_loss": round(mtp_loss, 4),
        "balance_loss": round(balance / len(MOE_LAYERS), 4),
        "norm": round(norm, 3),
        "rate": round(rate, 7),
        "load_max": [round(x, 2) for x in (load.amax(-1) / load.mean(-1)).tolist()],
        "idle": (load == 0).sum(-1).tolist(),
        "tokens_per_second": round(speed),
    }


def work(rank, run, stage, tokens, minutes):
    """One rank's life in one stage: until the stage's tokens are done, the minutes are over or a signal comes."""
    torch.set_num_threads(1)
    stop_on_signals(run)
    encoder = Encoder(run.directory)
    optimizer = make_optimizer(run, rank)
    leaves = run.weights.leaves(rank)
    positions = Positions(max(stage.lengths), stage.yarn)
    begin = saved = logged = time.monotonic()
    seconds_before, place = run.place["seconds"], run.place
    logged_tokens = place["tokens"]
    while place["tokens"] < tokens:
        run.weights.grads[rank].zero_()
        batch = draw_batch(encoder, run, stage, place["step"], rank)
        forward = Pass(leaves, run.weights.biases, positions)
        loss, mtp_loss = losses(forward, batch)
        (loss + stage.mtp_weight * mtp_loss + BALANCE_LOSS * forward.balance_loss).backward()
        run.statistics[rank, :3] = torch.stack((loss, mtp_loss, forward.balance_loss)).detach()
        run.load[rank] = forward.load
        run.barrier.wait()
        rate = stage.learning_rate(place["step"], place["tokens"] / tokens)
        norm = update(run, rank, optimizer, rate)
        now = time.monotonic()
        place["step"] += 1
        place["updates"] += 1
        place["tokens"] += run.ranks * batch.tokens.numel()
        place["seconds"] = seconds_before + now - begin
        if rank == 0:
            move_biases(run, bias_step(stage, place["step"]))
            if run.asked_to_stop or now - begin > 60 * minutes:
                run.stopping.fill_(True)  # between barriers, so that all ranks see it in the same step
        run.barrier.wait()
        if rank == 0 and place["step"] % LOG_STEPS == 0:
            speed = (place["tokens"] - logged_tokens) / (now - logged)
            run.log(summary(run, stage, norm, rate, speed))
            logged, logged_tokens = now, place["tokens"]
        stopping = bool(run.stopping)
        if rank == 0 and (stopping or now - saved > CHECKPOINT_SECONDS):
            run.save()
            saved = now
        run.barrier.wait()
        if stopping:
            return
    if rank == 0:
        run.save()


def stop_on_signals(run):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.asked_to_stop.fill_(True))


def train_stage(run, stage, tokens, minutes):
    """Runs a stage in `run.ranks` processes; true when it came to its end, false when it was stopped before."""
    stop_on_signals(run)
    mp.start_processes(work, (run, stage, tokens, minutes), run.ranks, start_method="spawn")
    run.place = torch.load(run.state_file)["place"]
    return run.place["tokens"] >= tokens
