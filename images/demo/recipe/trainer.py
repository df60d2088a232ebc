"""The training loop: a few single-threaded processes that share the weights' memory.

In each step every rank computes the gradient of its own rows, then updates the part of the parameters that it owns from
the sum of all gradients; three barriers a step are all the communication there is. A checkpoint every four minutes holds
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
import grpo
import rejection
from data import lookup, mixture
from data.sample import TRAIN
from model import MOE_LAYERS, Pass, Positions, losses
from stages import STAGES, TOKENS_A_RANK
from tokenizer import Encoder
from weights import Weights

CHECKPOINT_SECONDS = 240
LOG_STEPS = 20
CLIP = 1.0
DECAY = 0.1
BETAS = (0.9, 0.95)
BALANCE_LOSS = 1e-4
LONG = 512  # from this length on, part of a row are notes to look things up in
STATISTICS = 5  # numbers that a rank reports of a step, under names of its kind


class Run:
    """What the ranks of one sitting share: weights, statistics, and where in which stage training is."""

    def __init__(self, directory, ranks, seed):
        self.directory, self.ranks, self.seed = Path(directory), ranks, seed
        self.weights = Weights(ranks)
        self.statistics = torch.zeros(ranks, STATISTICS).share_memory_()
        self.squared_norms = torch.zeros(ranks).share_memory_()
        self.tokens = torch.zeros(ranks, dtype=torch.long).share_memory_()
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


class Supervised:
    """The gradient of packed samples: next token, MTP, sequence-wise balance."""

    names = ("loss", "mtp_loss", "balance_loss", "trained", "left_out")

    def __init__(self, run, stage, encoder, leaves):
        self.run, self.stage, self.encoder, self.leaves = run, stage, encoder, leaves
        self.positions = Positions(max(stage.lengths), stage.yarn)
        self.own = rejection.read_rejection_samples(run.directory, encoder.eos) if stage.own_share else []

    def draw(self, rng, length):
        """A rank's share of a step, and what of it was left out; in long rows one long text each to look something up in."""
        rows = max(1, TOKENS_A_RANK // length)
        documents = []
        if length >= LONG:
            for _ in range(rows):
                sentences = rng.randint(
                    length // 32, length // 14
                )  # of ten tokens; a note and its question have thirty
                sample = lookup.sample(rng, TRAIN, sentences, questions=length // 96)
                documents.append(self.encoder.encode(mixture.render(sample, False)))
        wanted = self.stage.own_share * rows * length if self.own else 0
        while sum(len(ids) for ids, _ in documents) < wanted:
            documents.append(rng.choice(self.own))
        documents = [document for document in documents if len(document[0]) <= length]
        return batches.training_batch(self.encoder, rng, rows, length, self.stage.families, documents)

    def gradient(self, rng, step):
        batch, left_out = self.draw(rng, self.stage.length(step))
        forward = Pass(self.leaves, self.run.weights.biases, self.positions)
        mtp_weight = self.stage.mtp_weight if step % self.stage.mtp_every == 0 else 0.0
        loss, mtp_loss = losses(forward, batch, with_mtp=mtp_weight > 0)
        balance_weight = BALANCE_LOSS if self.stage.balanced else 0.0
        (loss + mtp_weight * mtp_loss + balance_weight * forward.balance_loss).backward()
        balance = forward.balance_loss.item() / len(MOE_LAYERS)
        trained = batch.trained.float().mean().item()
        mean_mtp_loss = mtp_loss.item() * self.stage.mtp_every  # 0 in the other steps
        return batch.tokens.numel(), forward.load, (loss.item(), mean_mtp_loss, balance, trained, left_out)


class Reinforced:
    """The gradient of GRPO; the reference is what the stage before left."""

    names = ("reward", "free_form", "kl", "length", "ended")

    def __init__(self, run, stage, encoder, leaves):
        self.run, self.encoder, self.leaves = run, encoder, leaves
        self.positions = Positions(max(stage.lengths), stage.yarn)
        before = STAGES[[s.name for s in STAGES].index(stage.name) - 1]
        reference = Weights(ranks=1)
        reference.load(torch.load(run.directory / f"{before.name}.pt")["weights"])
        self.reference = reference.copies(), reference.biases

    def gradient(self, rng, step):
        biases = self.run.weights.biases
        load, statistics, tokens = grpo.gradient(self.leaves, self.reference, biases, self.positions, self.encoder, rng)
        return tokens, load, statistics


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
    run.squared_norms[rank] = gradient.square().sum()
    run.barrier.wait()
    norm = run.squared_norms.sum().sqrt().item()
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


class Window:
    """Means over the steps since the last line of the log."""

    def __init__(self, run):
        self.run, self.begin, self.tokens = run, time.monotonic(), run.place["tokens"]
        self.statistics, self.load, self.steps = torch.zeros(STATISTICS), torch.zeros(run.weights.biases.shape), 0

    def add(self):
        self.statistics += self.run.statistics.mean(0)
        self.load += self.run.load.sum(0)
        self.steps += 1

    def summary(self, names, norm, rate):
        """load_max is the most loaded expert's share over the mean share; the report's balance has it near 1."""
        means = (self.statistics / self.steps).tolist()
        speed = (self.run.place["tokens"] - self.tokens) / (time.monotonic() - self.begin)
        return {
            **self.run.place,
            **{name: round(value, 4) for name, value in zip(names, means, strict=True)},
            "norm": round(norm, 3),
            "rate": round(rate, 7),
            "load_max": [round(x, 2) for x in (self.load.amax(-1) / self.load.mean(-1).clamp(min=1)).tolist()],
            "idle": (self.load == 0).sum(-1).tolist(),
            "tokens_per_second": round(speed),
        }


def work(rank, run, stage, tokens, minutes):
    """One rank's life in one stage: until the stage's tokens are done, the minutes are over or a signal comes."""
    torch.set_num_threads(1)
    stop_on_signals(run)
    encoder = Encoder(run.directory)
    optimizer = make_optimizer(run, rank)
    leaves = run.weights.leaves(rank)
    kind = (Reinforced if stage.reinforced else Supervised)(run, stage, encoder, leaves)
    begin = saved = time.monotonic()
    seconds_before, place = run.place["seconds"], run.place
    window = Window(run)
    while place["tokens"] < tokens:
        run.weights.grads[rank].zero_()
        rng = batches.batch_rng(run.seed, stage.name, place["step"], rank)
        run.tokens[rank], run.load[rank], statistics = kind.gradient(rng, place["step"])
        run.statistics[rank] = torch.tensor(statistics)
        run.barrier.wait()
        rate = stage.learning_rate(place["step"], place["tokens"] / tokens)
        norm = update(run, rank, optimizer, rate)
        now = time.monotonic()
        place["step"] += 1
        place["updates"] += 1
        place["tokens"] += int(run.tokens.sum())
        place["seconds"] = seconds_before + now - begin
        if rank == 0:
            window.add()
            move_biases(run, stage.bias_step(place["step"]))
            if run.asked_to_stop or now - begin > 60 * minutes:
                run.stopping.fill_(True)  # between barriers, so that all ranks see it in the same step
        run.barrier.wait()
        if rank == 0 and place["step"] % LOG_STEPS == 0:
            run.log(window.summary(kind.names, norm, rate))
            window = Window(run)
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
