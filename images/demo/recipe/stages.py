"""The supervised stages and their schedules: pre-training, context extension, supervised fine-tuning.

Progress runs from 0 to 1 over a stage's tokens; learning rates are functions of it. Between sittings nothing but the
state file is kept, and a stage's tokens may be changed at any time (train --tokens).
"""

from dataclasses import dataclass, field

from config import YARN
from data import mixture

TOKENS_A_RANK = 2112  # of one step; two ranks by default


@dataclass(frozen=True)
class Stage:
    """lengths: rows of these lengths take turns, step by step. Rates go from `rate` to `rate * final` after `hold`."""

    name: str
    tokens: int
    rate: float
    hold: float
    final: float
    lengths: tuple
    yarn: dict = None
    warmup: int = 0  # steps
    mtp_weight: float = 0.3
    families: dict = field(default_factory=lambda: mixture.FAMILIES)

    def learning_rate(self, step, progress):
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = max(0.0, progress - self.hold) / (1 - self.hold)
        return self.rate * warm * (1 - fall * (1 - self.final))

    def length(self, step):
        return self.lengths[step % len(self.lengths)]


def bias_step(stage, step):
    """The correction biases' step: large until all experts are used, then the report's."""
    return 0.01 if stage.name == "pretrain" and step < 500 else 0.001


STAGES = (
    Stage("pretrain", 60_000_000, 2e-3, hold=0.7, final=0.2, lengths=(192,) * 7 + (512,), warmup=50),
    Stage("extend", 4_000_000, 4e-4, hold=1 - 1e-9, final=1.0, lengths=(192, 512, 192, 1024, 192, 2048), yarn=YARN, warmup=20),
    Stage("sft", 6_000_000, 4e-4, hold=0.0, final=0.05, lengths=(192,) * 7 + (1024,), yarn=YARN, warmup=20, mtp_weight=0.1),
)
