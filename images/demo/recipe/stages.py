"""The stages and their schedules: pre-training, context extension, supervised fine-tuning, reinforcement learning.

Progress runs from 0 to 1 over a stage's tokens; learning rates are functions of it. Between sittings nothing but the
state file is kept, and a stage's tokens may be changed at any time (train --tokens).
"""

from dataclasses import dataclass, field, replace

from config import YARN
from data import mixture

TOKENS_A_RANK = 1152  # of one step; two ranks by default
CHAT_FAMILIES = mixture.FAMILIES | {"refusal": (mixture.FAMILIES["refusal"][0], 17)}


@dataclass(frozen=True)
class Stage:
    """`rate` is held until progress `hold`, then falls in a line to `rate * final`. Rows of `lengths` take turns, step by
    step; long ones hold a text to look something up in. `own_share` of the rows' tokens come from rejection sampling.
    The MTP module, a quarter of the work, learns in one of `mtp_every` steps. A stage that is `reinforced` learns by GRPO, and its tokens are those it sampled."""

    name: str
    tokens: int
    rate: float
    hold: float
    final: float
    lengths: tuple
    yarn: dict = None
    warmup: int = 0  # steps
    mtp_weight: float = 0.3
    mtp_every: int = 1
    own_share: float = 0.0
    reinforced: bool = False
    balanced: bool = True
    families: dict = field(default_factory=lambda: mixture.FAMILIES)

    def learning_rate(self, step, progress):
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = max(0.0, progress - self.hold) / (1 - self.hold)
        return self.rate * warm * (1 - fall * (1 - self.final))

    def length(self, step):
        return self.lengths[step % len(self.lengths)]

    def bias_step(self, step):
        """The correction biases' step: large until all experts are used, then the report's; still after pre-training."""
        if not self.balanced or self.reinforced:
            return 0.0
        if self.name != "pretrain":
            return 0.0001
        return 0.01 if step < 500 else 0.001


STAGES = (
    Stage("pretrain", 60_000_000, 2e-3, 0.7, 0.2, lengths=(192,) * 7 + (512,), warmup=50, mtp_every=4),
    Stage("extend", 3_000_000, 4e-4, 0.5, 0.5, lengths=(192, 512, 192, 1024, 192, 2048), yarn=YARN, warmup=20),
    Stage(
        "sft", 6_000_000, 4e-4, 0.0, 0.05, lengths=(192,) * 7 + (1024,), yarn=YARN, warmup=20,
        mtp_weight=0.1, own_share=0.2, families=CHAT_FAMILIES,
    ),
    Stage("rl", 1_500_000, 1e-4, 0.5, 0.2, lengths=(512,), yarn=YARN, warmup=10, reinforced=True),
)  # fmt: skip
ABLATIONS = {"mtp": {"mtp_weight": 0.0}, "balance": {"balanced": False}}


def ablated(stage, without):
    """The stage without some parts of the recipe, for the card's table."""
    return replace(stage, **{name: value for part in without for name, value in ABLATIONS[part].items()})
