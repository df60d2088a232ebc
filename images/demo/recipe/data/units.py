"""Conversions between units: powers of ten, and small factors by written multiplication or division."""

from .arithmetic import show_product, show_quotient
from .sample import Sample, dressed, fresh, wordings

# big unit, its plural, small unit, its plural, how many small ones make a big one
FACTORS = [
    ("kilometre", "kilometres", "metre", "metres", 1000),
    ("km", "km", "m", "m", 1000),
    ("metre", "metres", "centimetre", "centimetres", 100),
    ("m", "m", "cm", "cm", 100),
    ("metre", "metres", "millimetre", "millimetres", 1000),
    ("centimetre", "centimetres", "millimetre", "millimetres", 10),
    ("cm", "cm", "mm", "mm", 10),
    ("kilogram", "kilograms", "gram", "grams", 1000),
    ("kg", "kg", "g", "g", 1000),
    ("tonne", "tonnes", "kilogram", "kilograms", 1000),
    ("litre", "litres", "millilitre", "millilitres", 1000),
    ("hour", "hours", "minute", "minutes", 60),
    ("minute", "minutes", "second", "seconds", 60),
    ("day", "days", "hour", "hours", 24),
    ("week", "weeks", "day", "days", 7),
    ("year", "years", "month", "months", 12),
    ("foot", "feet", "inch", "inches", 12),
    ("yard", "yards", "foot", "feet", 3),
    ("pound", "pounds", "ounce", "ounces", 16),
    ("dollar", "dollars", "cent", "cents", 100),
    ("euro", "euros", "cent", "cents", 100),
    ("byte", "bytes", "bit", "bits", 8),
    ("decade", "decades", "year", "years", 10),
    ("century", "centuries", "year", "years", 100),
]

CONVERT = wordings(
    """[How many|What number of] {t} [are|is|make|make up|does one get from|do I get from|would be|correspond to|lie in|fit into|has|go into] {n} {f}[?|, please?]
    [Convert|Change|Transform|Recalculate|Rewrite|Give me|Put|Translate|Say|State] {n} {f} [to|into|in|as] {t}[.|, please.|| for me.]
    {n} {f}[ in| to| into| as|, in|: how many|, how many|, that is how many| are how many| makes how many] {t}[?|, please?|]
    [It|The road|A trip|The thing|My bag|The box|Something|The work|A film|The rope] [is|has|takes|measures|lasts|weighs|needs|costs] {n} {f}[.|, and] [how many|what is that in|how much is that in|say it in|I want it in] {t}[?|.]
    [I have|I need|I got|We have|We need|He has|There are|It takes|We wait] {n} {f}[.|,] [how many {t} is that|what is it in {t}|how many {t} are these|and in {t}|how many {t} do I have]?
    [Length|Amount|Value|Size|The same] in {t}[:| of] {n} {f}[?|]
    [What|How much] [is|are|do|would] {n} {f} [in|when I want|if I count in|counted in|measured in] {t}?
    [If|When|Suppose] [something is|it takes|I have|there are|we need] {n} {f}, [how many {t} is it|what is that in {t}|how many {t} would that be]?
    [In|As|Counted in] {t}, [what|how much|how many] [is|are] {n} {f}?
    How many {t} are {n} {f}?
    How many {t} are in {n} {f}?
    How many {t} are there in {n} {f}?
    How many {t} is {n} {f}?
    How many {t} do {n} {f} have?
    How many {t} make {n} {f}?
    Convert {n} {f} to {t}.
    Convert {n} {f} into {t}.
    Please convert {n} {f} to {t}.
    What is {n} {f} in {t}?
    What are {n} {f} in {t}?
    {n} {f} in {t}
    {n} {f} to {t}
    {n} {f} = ? {t}
    Change {n} {f} into {t}.
    Write {n} {f} in {t}.
    Tell me how many {t} {n} {f} are.
    I have {n} {f}. How many {t} is that?
    Can you convert {n} {f} to {t}?
    Could you convert {n} {f} to {t}?
    Give me the {t} in {n} {f}.
    Show me {n} {f} in {t}.
    Calculate {n} {f} in {t}.
    How long or how much is {n} {f} in {t}?
    What does {n} {f} make in {t}?
    What would {n} {f} be in {t}?
    I need {n} {f} in {t}.
    I need to know how many {t} are in {n} {f}.
    From {f} to {t}: {n}
    {n} {f} makes how many {t}?
    If I have {n} {f}, how many {t} do I have?
    There are {n} {f}. What is that in {t}?
    Do you know how many {t} {n} {f} are?
    ~ Express {n} {f} in {t}.
    ~ {n} {f} is how many {t}?
    ~ Turn {n} {f} into {t}.
    ~ How much is {n} {f} in {t}?"""
)


def is_power_of_ten(factor):
    return factor in (10, 100, 1000)


def named(count, one, many):
    return f"{count} {one if count == 1 else many}"


def sample_to_small(rng, split):
    big, bigs, small, smalls, factor = rng.choice(FACTORS)
    largest = 999 if is_power_of_ten(factor) else 99 if factor < 10 else 40
    (count, _) = fresh(rng, split, lambda r: (r.randint(2, largest), factor))
    result = count * factor
    steps = f"{result}" if is_power_of_ten(factor) else show_product(count, factor)
    question = CONVERT.pick(rng, split, n=count, f=bigs, t=smalls)
    working = f"1 {big} = {named(factor, small, smalls)}; {count}*{factor}: {steps}"
    answer = f"{named(count, big, bigs)} = {named(result, small, smalls)}"
    return Sample("unit", question, answer, ("end", [f"= {named(result, small, smalls)}"]), working)


def sample_to_big(rng, split):
    big, bigs, small, smalls, factor = rng.choice([f for f in FACTORS if f[4] < 10 or is_power_of_ten(f[4])])
    (result, _) = fresh(rng, split, lambda r: (r.randint(2, 99), factor))
    count = result * factor
    steps = f"{result}" if is_power_of_ten(factor) else show_quotient(count, factor)
    question = CONVERT.pick(rng, split, n=count, f=smalls, t=bigs)
    working = f"1 {big} = {named(factor, small, smalls)}; {count}/{factor}: {steps}"
    answer = f"{named(count, small, smalls)} = {named(result, big, bigs)}"
    return Sample("unit", question, answer, ("end", [f"= {named(result, big, bigs)}"]), working)


def sample_single(rng, split):
    """How many of the small ones one big one has; both splits know all units, so only the wording is new."""
    big, _, small, smalls, factor = rng.choice(FACTORS)
    question = CONVERT.pick(rng, split, n=1, f=big, t=smalls)
    answer = f"1 {big} = {named(factor, small, smalls)}"
    return Sample("unit", question, answer, ("end", [f"= {named(factor, small, smalls)}"]))


def sample(rng, split):
    kinds = (sample_to_small, sample_to_big, sample_single)
    return dressed(rng, split, rng.choices(kinds, (55, 30, 15))[0](rng, split))
