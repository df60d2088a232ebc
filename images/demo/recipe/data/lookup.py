"""Reading: a few notes, then a question that one of them answers. The long form is the needle in a haystack.

What is asked for is a code, four digits, so that the reply can only come from the text. Filler is made of sentences
of the same kind as the notes, and the same function makes rows of 60 tokens for pre-training and of thousands for
the context extension.
"""

from .sample import HELD, Sample, phrases, split_list, wordings
from .words import NAMES

PLACES = split_list(
    phrases(
        """the red door, the blue door, the safe, the garage, the cellar, the garden gate, the office, the attic, the old box,
        the locker, the bicycle, the suitcase, the archive, the server room, the workshop, the library, the lift, the barn,
        the boat, the north tower, the south tower, the kitchen, the laboratory, the vault"""
    )
)
COLOURS = phrases(
    "red, blue, green, yellow, black, white, grey, brown, old, new, big, small, first, second, third, last"
)
NOTE = wordings(
    """The code of {o} is {n}.
    The number of {o} is {n}.
    For {o} the code is {n}.
    {o} has the code {n}.
    {n} is the code of {o}.
    Remember: the code of {o} is {n}.
    The secret number of {o} is {n}.
    The number for {o} is {n}.
    The secret code for {o} is {n}.
    ~ The code for {o} is {n}."""
)
ASK = wordings(
    """What is the code of {o}?
    Which code has {o}?
    What is the number of {o}?
    Tell me the code of {o}.
    Tell me the number of {o}.
    What code has {o}?
    What is the code for {o}?
    Which number has {o}?
    What number belongs to {o}?
    I need the code of {o}.
    Give me the number of {o}.
    Give me the code that {o} has.
    Say the code of {o}.
    Show me the code of {o}.
    Do you remember the code of {o}?
    ~ Give me the code of {o}.
    ~ Which code belongs to {o}?"""
)
FILLER_ACTS = split_list(
    phrases(
        """walks to the market, reads a letter, paints the fence, feeds the horse, looks at the river, waits for the train,
        cleans the window, writes a note, counts the boxes, closes the gate, makes some tea, repairs the roof, opens the shop,
        sits in the garden, carries a basket, talks to the farmer, buys some bread, lights a candle, watches the rain,
        sleeps in the chair, sings a song, cuts the grass, fills the bottle, follows the road, listens to the radio"""
    )
)
FILLER_TIMES = phrases(
    """In the morning, In the evening, At noon, On Monday, On Tuesday, On Friday, On Sunday, In spring, In winter, Today,
    Later, After that, Before dinner, Once a week, Every day, At night"""
)


def filler(rng, split):
    return f"{rng.choice(FILLER_TIMES)} {rng.choice(NAMES)} {FILLER_ACTS.pick(rng, split)}."


def draw_objects(rng, split, count):
    """Different things that have codes: places, and things of one kind told apart by a word before them."""
    if split == HELD:
        return rng.sample(PLACES.held, min(len(PLACES.held), count))
    found = {}
    while len(found) < count:
        place = PLACES.pick(rng, split)
        if rng.random() < 0.5 and len(place.split()) == 2:
            place = f"the {rng.choice(COLOURS)} {place.split()[1]}"
        found[place] = True
    return list(found)


def sample(rng, split, sentences=None, questions=None):
    """`sentences` is how many sentences of filler there are; a few where it is not given. With more than one of the
    `questions`, the earlier ones are turns before: one text read, many things to learn to find in it."""
    if questions is None:
        questions = 1 if split == HELD else rng.randint(1, 5)
    sentences = rng.randint(0, 3) if sentences is None else sentences
    objects = draw_objects(rng, split, max(questions, rng.randint(1, 3)))
    codes = {thing: str(rng.randint(1000, 9999)) for thing in objects}
    text = [filler(rng, split) for _ in range(sentences)]
    for thing, code in codes.items():
        text.insert(rng.randint(0, len(text)), NOTE.pick(rng, split, o=thing, n=code))
    asked = rng.sample(objects, questions)
    turns = [(ASK.pick(rng, split, o=thing), f"The code of {thing} is {codes[thing]}.") for thing in asked]
    turns[0] = f"{' '.join(text)} {turns[0][0]}", turns[0][1]
    question, answer = turns[-1]
    return Sample("lookup", question, answer, ("number", codes[asked[-1]]), history=tuple(turns[:-1]))
