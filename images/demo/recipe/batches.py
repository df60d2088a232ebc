"""Packs samples into rows of one length. A batch is a pure function of (seed, stage, step, rank), so that training
resumes exactly without saving any position in the data.

Rows hold several samples each, kept apart by a block-diagonal mask; mixing the families within each row is what lets a
model of this size learn (batches sorted by length took three times as long).
"""

import random
from dataclasses import dataclass

import torch

from data import mixture
from data.sample import TRAIN

PADDING = -1  # the document number of padding


@dataclass
class Batch:
    """tokens [rows, length]; document [rows, length], which sample a token belongs to; trained, whether it is learned."""

    tokens: torch.Tensor
    document: torch.Tensor
    trained: torch.Tensor

    def targets(self, distance):
        """The tokens `distance` ahead, and where they are to be predicted: an answer's token of the same sample."""
        ahead = torch.roll(self.tokens, -distance, 1)
        same = torch.roll(self.document, -distance, 1) == self.document
        wanted = torch.roll(self.trained, -distance, 1) & same
        wanted[:, -distance:] = False
        return ahead, wanted

    def visible(self):
        """[rows, length, length] which tokens each token sees: itself and earlier ones of its own sample."""
        same = self.document[:, :, None] == self.document[:, None, :]
        return same & torch.ones(same.shape[1:], dtype=torch.bool).tril()


def batch_rng(*key):
    return random.Random("/".join(map(str, key)))


def pack(documents, rows, length):
    """First fit, longest first. `documents` are (ids, trained) pairs; what finds no room is left out."""
    tokens = torch.zeros(rows, length, dtype=torch.long)
    document = torch.full((rows, length), PADDING)
    trained = torch.zeros(rows, length, dtype=torch.bool)
    used = [0] * rows
    for number, (ids, flags) in enumerate(sorted(documents, key=lambda d: -len(d[0]))):
        row = next((r for r in range(rows) if used[r] + len(ids) <= length), None)
        if row is None:
            continue
        place = slice(used[row], used[row] + len(ids))
        tokens[row, place] = torch.tensor(ids)
        document[row, place] = number
        trained[row, place] = torch.tensor(flags)
        used[row] += len(ids)
    return Batch(tokens, document, trained)


def one_a_row(documents, length):
    """A row for each document, in their order."""
    parts = [pack([document], 1, length) for document in documents]
    return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "document", "trained")))


def training_batch(encoder, rng, rows, length, families=mixture.FAMILIES, documents=()):
    """Draws samples from the mixture until they, and the documents given, fill the rows. Also returns the share of the
    drawn tokens that stood in samples longer than a row, which are left out: what always is is never learned."""
    documents = list(documents)
    total, left_out = sum(len(ids) for ids, _ in documents), 0
    while total < rows * length:
        sample = mixture.draw_conversation(rng, TRAIN, families)
        ids, trained = encoder.encode(mixture.render(sample, *mixture.draw_style(rng, sample)))
        if len(ids) <= length:
            documents.append((ids, trained))
            total += len(ids)
        else:
            left_out += len(ids)
    return pack(documents, rows, length), left_out / (total + left_out)
