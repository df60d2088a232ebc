"""Questions about Penstock: the tables and the single facts, and commands that do not exist."""

from .penstock_facts import FACTS
from .penstock_tables import COMMANDS, OPTIONS, TABLES
from .refusals import invented
from .sample import HELD, Sample, dressed, wordings

SINGLE = [(wordings(questions), answer, keys) for questions, answer, keys in FACTS]

NO_COMMAND = wordings(
    """What does penstock {x} do?
    What is `penstock {x}` for?
    What does the {x} command do?
    Explain penstock {x}.
    penstock {x}
    How do I use penstock {x}?
    ~ What is the purpose of penstock {x}?
    ~ Can you explain what penstock {x} does?"""
)
NO_OPTION = wordings(
    """What does --{x} do?
    What is --{x} for?
    What does the option --{x} mean?
    Explain --{x}.
    --{x}?
    ~ What is the meaning of --{x}?
    ~ What is the purpose of the option --{x}?"""
)


def from_table(rng, split):
    """Asks for a row by its name, or by what somebody wants to do."""
    table, field, by_name, by_goal = rng.choices(TABLES, [len(t[0]) + 4 for t in TABLES])[0]
    name = rng.choice(list(table))
    goals, answer, keys = table[name]
    if rng.random() < 0.5:
        question = by_name.pick_freely(rng, split, **{field: name})
    else:
        known = goals[:-1] or goals
        goal = goals[-1] if split == HELD and rng.random() < 0.5 else rng.choice(known)
        question = by_goal.pick_freely(rng, split, g=goal)
    return Sample("penstock", question, answer, ("all", keys))


def single(rng, split):
    template, answer, keys = rng.choice(SINGLE)
    return Sample("penstock", template.pick_freely(rng, split), answer, ("all", keys))


def nonexistent(rng, split):
    """A made-up command or option: the reply says that there is none."""
    word = invented(rng, split).lower()
    if rng.random() < 0.5:
        assert word not in COMMANDS
        question, answer = NO_COMMAND.pick_freely(rng, split, x=word), f"Penstock has no command {word}."
        return Sample("penstock", question, answer, ("all", ["has no command"]))
    assert f"--{word}" not in OPTIONS
    question, answer = NO_OPTION.pick_freely(rng, split, x=word), f"Penstock has no option --{word}."
    return Sample("penstock", question, answer, ("all", ["has no option"]))


def sample(rng, split):
    return dressed(rng, split, rng.choices((from_table, single, nonexistent), (50, 42, 8))[0](rng, split), slips=True)
