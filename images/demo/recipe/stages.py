"""The stages and their schedules: pre-training, context extension, supervised fine-tuning, reinforcement learning.

Progress runs from 0 to 1 over a stage's tokens; learning rates are functions of it. Between sittings nothing but the
state file is kept, and a stage's tokens may be changed at any time (train --tokens).
"""

from dataclasses import dataclass, field, replace

from config import YARN
from data import mixture

TOKENS_A_RANK = 1152  # of one step; two ranks by default
# Weights of the families in fine-tuning; pre-training has those of the mixture, with much to copy.
CHAT_WEIGHTS = {
    "arithmetic": 28, "date": 30, "unit": 8, "word": 9, "penstock": 38, "refusal": 30, "chat": 9, "chinese": 4,
    "lookup": 4, "copy": 2, "judge": 0.5,
}  # fmt: skip
CHAT_FAMILIES = {name: (mixture.FAMILIES[name][0], weight) for name, weight in CHAT_WEIGHTS.items()}


@dataclass(frozen=True)
class Stage:
    """`rate` is held until progress `hold`, then falls in a line to `rate * final`. Rows of `lengths` take turns, step by
    step; long ones hold a text to look something up in. `own_share` of the rows' tokens come from rejection sampling.
    The MTP module, a quarter of the work, learns in one of `mtp_every` steps. A stage that is `reinforced` learns by GRPO,
    and its tokens are those it sampled."""

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
        if self.name == "sft":
            return 0.0001
        return 0.01 if self.name == "pretrain" and step < 500 else 0.001


SHORT = (192,) * 7
REPLIES = (384,) * 7  # the longest working of a date must fit: what does not is left out
STAGES = (
    Stage("pretrain", 60_000_000, 2e-3, 0.7, 0.2, lengths=SHORT + (512,), warmup=50, mtp_every=4),
    Stage("extend", 3_000_000, 2e-3, 0.7, 0.3, lengths=SHORT + (1024,), yarn=YARN, warmup=10, mtp_every=4),
    Stage(
        "sft", 4_000_000, 1.5e-3, 0.3, 0.03, lengths=REPLIES + REPLIES + (1024,) + REPLIES + REPLIES + (2048,),
        yarn=YARN, warmup=5, mtp_every=4, own_share=0.03, families=CHAT_FAMILIES,
    ),
    Stage("rl", 300_000, 1e-4, 0.5, 0.2, lengths=(512,), yarn=YARN, warmup=10, reinforced=True),
)  # fmt: skip
ABLATIONS = {"mtp": {"mtp_weight": 0.0}, "balance": {"balanced": False}}


def ablated(stage, without):
    """The stage without some parts of the recipe, for the card's table."""
    return replace(stage, **{name: value for part in without for name, value in ABLATIONS[part].items()})
