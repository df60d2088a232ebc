"""Sums, differences, products and quotients, worked out digit by digit.

The working is the school method written down: `347 + 589` becomes `347+589: 35 48 79; 7+9=16 4+8+1=13 3+5+1=9; 936`, the
expression first (all that depends on the wording), then the pairs of digits (finding them is the hard part for
attention), then the columns from the right, then the result. With one token per digit every step is a look-up in a small
table.
"""

from .sample import Sample, combined, dressed, fresh

# How an expression is asked for; crossed with the ways to write one.
LEADS = """{x}
{x} =
{x} = ?
What is {x}?
What's {x}?
How much is {x}?
Calculate {x}.
Compute {x}.
Work out {x}.
Tell me {x}.
Find {x}.
Evaluate {x}.
Solve {x}.
Determine {x}.
Figure out {x}.
Show me {x}.
Please calculate {x}.
Please work out {x}.
Can you calculate {x}?
Can you compute {x}?
Could you calculate {x}?
Could you find {x}?
Could you tell me {x}?
I need {x}.
I need to know {x}.
{x} is what?
{x} makes what?
What does {x} make?
What does {x} equal?
What does {x} come to?
How much does {x} make?
What would {x} be?
What number is {x}?
Do you know {x}?
Do you know what {x} is?
Tell me what {x} is.
Help me with {x}.
My homework: {x}"""

SUM = combined(
    LEADS,
    """{a} + {b}
    {a}+{b}
    {a} plus {b}
    {a} added to {b}
    the sum of {a} and {b}
    {a} and {b} together""",
    """[I have|We had|There were|She bought|He paid|I paid|I counted|We sold|They found|I walked|I got|First come] {a}[ and|, then| and then| and also|, plus| and later] {b}[.|,] [how much|how many|what] is [that|it|this] [in all|together|in total|altogether|in sum]?
    [One|The first|This one|The left one|One thing|One part] [is|has|costs|weighs|needs|shows|makes] {a}[,| and] [the other|the second|that one|another|the next] {b}. [How much|What|How many] [is that|do they make|are both|is it|do I get] [together|in all|in total|altogether]?
    [Add|Sum up|Total|Put together|Count together|Add together] {a} [and|with|plus] {b}[.|, please.|| for me.]
    {a} [and|with|,|and also|together with|increased by|more than] {b}[:| -|,] [the sum|sum|total|added up|what is it|how much|together][?|, please.|]
    [sum|add|total|plus|addition][:| of] {a} [and|,|+|with] {b}[?|]
    [Result|The result|Answer|The answer|The value|Outcome] of {a} [+|plus|and] {b}[?|, please.|]
    {a}[+| + | plus ]{b}[, please|, quickly|, thanks|, can you?| - how much?|, I wonder|, what is it?]
    [Increase|Raise] {a} by {b}[.|, please.|]
    [My|A|The] [bill|score|counter|meter|price|number] [was|is|stands at] {a} and [grows|goes up|rises|increases] by {b}. [What is it now?|How much is it then?|Where is it now?]
    [If|When|Suppose] [I have|you take|we start with|there are] {a} and [add|get|receive|put] {b}[ more|], [what is it|how many are there|how much is it|what do I get]?
    {a} + {b}
    {a}+{b}
    {a}+{b}=
    {a} + {b} = ?
    What is {a} + {b}?
    What is {a} plus {b}?
    How much is {a} + {b}?
    How much is {a} plus {b}?
    Calculate {a} + {b}.
    Compute {a} + {b}.
    Work out {a} + {b}.
    Add {a} and {b}.
    Add {b} to {a}.
    Add up {a} and {b}.
    What is the sum of {a} and {b}?
    Find the sum of {a} and {b}.
    The sum of {a} and {b}?
    Please add {a} and {b}.
    Can you add {a} and {b}?
    What do you get when you add {a} and {b}?
    If I add {a} and {b}, what do I get?
    Give me the sum of {a} and {b}.
    What is the total of {a} and {b}?
    What do {a} and {b} add up to?
    What do {a} and {b} make?
    Total {a} and {b}.
    Tell me {a} + {b}.
    What does {a} + {b} equal?
    {a} plus {b} is what?
    Evaluate {a} + {b}.
    Solve {a} + {b}.
    ~ What do {a} and {b} make together?
    ~ Give me the total of {a} and {b}.
    ~ {a} plus {b} equals?
    ~ Could you work out what {a} plus {b} is?""",
)
DIFFERENCE = combined(
    LEADS,
    """{a} - {b}
    {a}-{b}
    {a} minus {b}
    {a} less {b}
    the difference of {a} and {b}
    {a} without {b}""",
    """[I have|We had|There were|She had|He owns|I start with|We begin with|I got] {a} and [lose|spend|give away|use|take away|remove|sell|pay] {b}[.|,] [how much|how many|what] [is left|remains|stays|is that then]?
    [Take|Remove|Deduct|Subtract|Take away|Cut] {b} from {a}[.|, please.|]
    [Reduce|Decrease|Lower|Diminish] {a} by {b}[.|, please.|]
    [Result|The result|Answer|The answer|The value|Outcome] of {a} [-|minus|less] {b}[?|, please.|]
    {a}[-| - | minus | less ]{b}[, please|, quickly|, thanks|, can you?| - how much?|, I wonder|, what is it?]
    [How much|By how much] is {a} [more than|larger than|greater than|above|over|bigger than] {b}?
    [What|How much] is [missing|needed|lacking] from {b} [to|until|up to] {a}?
    [My|A|The] [bill|score|counter|meter|price|number] [was|stood at] {b} and [is now|became|now shows|now stands at] {a}. [By how much did it grow?|What is the difference?|How much more is it?]
    [My|A|The] [bill|score|counter|stock|price|number] [was|is|stands at] {a} and [falls|goes down|drops|decreases] by {b}. [What is it now?|How much is it then?|Where is it now?]
    [difference|subtract|minus|subtraction][:| of] {a} [and|,|-] {b}[?|]
    [If|When|Suppose] [I have|you take|we start with|there are] {a} and [lose|remove|take away|give away] {b}[ of them|], [what is left|how many are there|how much is it|what remains]?
    [The gap|The difference|The distance] between {a} and {b}[?|, please.|]
    {a} - {b}
    {a}-{b}
    {a}-{b}=
    {a} - {b} = ?
    What is {a} - {b}?
    What is {a} minus {b}?
    How much is {a} - {b}?
    How much is {a} minus {b}?
    Calculate {a} - {b}.
    Compute {a} - {b}.
    Work out {a} - {b}.
    Subtract {b} from {a}.
    Take {b} from {a}.
    Take {b} away from {a}.
    What is the difference of {a} and {b}?
    Please subtract {b} from {a}.
    Can you subtract {b} from {a}?
    What do you get when you subtract {b} from {a}?
    What is left of {a} when you take away {b}?
    Tell me {a} - {b}.
    What does {a} - {b} equal?
    {a} minus {b} is what?
    {a} less {b}?
    Evaluate {a} - {b}.
    Solve {a} - {b}.
    ~ {a} minus {b} equals?
    ~ If I take {b} away from {a}, what remains?
    ~ Give me {a} minus {b}.
    ~ Could you work out what {a} minus {b} is?""",
)
PRODUCT = combined(
    LEADS,
    """{a} * {b}
    {a}*{b}
    {a} x {b}
    {a} × {b}
    {a} times {b}
    {a} multiplied by {b}
    the product of {a} and {b}""",
    """[Multiply|Take the product of|Compute the product of] {a} [and|by|with] {b}[.|, please.|| for me.]
    [Result|The result|Answer|The answer|The value|Outcome] of {a} [times|x|*|multiplied by] {b}[?|, please.|]
    {a}[*| * | times | x | × ]{b}[, please|, quickly|, thanks|, can you?| - how much?|, I wonder|, what is it?]
    [product|multiply|multiplication|times][:| of] {a} [and|,|*|x] {b}[?|]
    [What|How much] [is|makes|are] {b} [lots|groups|portions|heaps] of {a}?
    [If|When|Suppose] [one|each|a piece|a ticket] [costs|weighs|has|makes] {a}, [what do|how much do|how much are|what are] {b} [cost|weigh|have|make|of them][?|, please?]
    [I need|I buy|I want|We order] {b} [pieces|things|of them] [at|for|of] {a} each. [What is that?|How much is it in all?|What is the total?]
    {a} [taken|added up|counted|repeated] {b} times[?| is what?| makes how much?]
    {a} * {b}
    {a}*{b}
    {a} x {b}
    {a} × {b}
    {a} * {b} = ?
    What is {a} * {b}?
    What is {a} times {b}?
    How much is {a} * {b}?
    How much is {a} times {b}?
    Calculate {a} * {b}.
    Calculate {a} times {b}.
    Compute {a} * {b}.
    Work out {a} x {b}.
    Multiply {a} by {b}.
    Multiply {a} and {b}.
    What is the product of {a} and {b}?
    Find the product of {a} and {b}.
    Please multiply {a} by {b}.
    Can you multiply {a} by {b}?
    What do you get when you multiply {a} by {b}?
    Tell me {a} * {b}.
    What does {a} * {b} equal?
    {a} times {b} is what?
    Evaluate {a} * {b}.
    Solve {a} * {b}.
    What is {a} multiplied by {b}?
    ~ {a} times {b} equals?
    ~ Give me the product of {a} and {b}.
    ~ How much do you get for {a} times {b}?
    ~ Could you work out what {a} times {b} is?""",
)
QUOTIENT = combined(
    LEADS,
    """{a} / {b}
    {a}/{b}
    {a} ÷ {b}
    {a} : {b}
    {a} divided by {b}
    {a} over {b}
    the quotient of {a} and {b}""",
    """[Divide|Split|Share|Part|Distribute] {a} [by|into|among|between|over] {b}[.| equally.|, please.| evenly.|]
    [Result|The result|Answer|The answer|The value|Outcome] of {a} [/|divided by|over|:] {b}[?|, please.|]
    {a}[/| / | divided by | over | : ]{b}[, please|, quickly|, thanks|, can you?| - how much?|, I wonder|, what is it?]
    [quotient|divide|division][:| of] {a} [and|,|by|/] {b}[?|]
    [How many|What number of] [times|groups] [of {b}|is {b}|does {b} fit|do {b}] [in|into|are in|make] {a}?
    [If|When|Suppose] {b} [people|friends|children|boxes|groups] [share|split|get|divide] {a}[ equally| evenly|], [what does each get|how much for each|what is each part|how many each]?
    [I have|There are|We must share|I split] {a} [for|among|between|into] {b} [people|friends|children|boxes|parts|groups]. [How many each?|What does each get?|How much is one part?]
    [What|How much] is [a part|one part] of {a} [cut|split|divided] into {b}?
    {a} / {b}
    {a}/{b}
    {a} ÷ {b}
    {a} / {b} = ?
    {a} : {b}
    What is {a} / {b}?
    What is {a} divided by {b}?
    How much is {a} / {b}?
    How much is {a} divided by {b}?
    Calculate {a} / {b}.
    Calculate {a} divided by {b}.
    Compute {a} / {b}.
    Work out {a} / {b}.
    Divide {a} by {b}.
    Please divide {a} by {b}.
    Can you divide {a} by {b}?
    What do you get when you divide {a} by {b}?
    What is the quotient of {a} and {b}?
    Tell me {a} / {b}.
    How many times does {b} go into {a}?
    How many times does {b} fit into {a}?
    How often does {b} go into {a}?
    How many times can I take {b} from {a}?
    Share {a} among {b}.
    Split {a} into {b} equal parts.
    {a} divided by {b} is what?
    Evaluate {a} / {b}.
    Solve {a} / {b}.
    What is {a} divided by {b}, with remainder?
    ~ {a} divided by {b} equals?
    ~ Give me {a} divided by {b}.
    ~ How often does {b} fit into {a}?
    ~ Could you work out what {a} divided by {b} is?""",
)


def columns(a, b):
    """The digits of two numbers paired, most significant first, the shorter one padded with zeros."""
    width = max(len(str(a)), len(str(b)))
    return list(zip(str(a).zfill(width), str(b).zfill(width), strict=True))


def show_sum(a, b):
    pairs = columns(a, b)
    steps, carry = [], 0
    for x, y in reversed(pairs):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"{' '.join(x + y for x, y in pairs)}; {' '.join(steps)}; {a + b}"


def show_difference(a, b):
    """For a >= b; a borrow shows as `-1` in the next column and `+10` in its own."""
    pairs = columns(a, b)
    steps, borrow = [], 0
    for x, y in reversed(pairs):
        rest = int(x) - borrow - int(y)
        steps.append(f"{x}{'-1' if borrow else ''}-{y}{'+10' if rest < 0 else ''}={rest % 10}")
        borrow = int(rest < 0)
    return f"{' '.join(x + y for x, y in pairs)}; {' '.join(steps)}; {a - b}"


def show_product_by_digit(a, digit):
    steps, carry = [], 0
    for x in reversed(str(a)):
        total = int(x) * digit + carry
        steps.append(f"{x}*{digit}{f'+{carry}' if carry else ''}={total}")
        carry = total // 10
    return f"{' '.join(steps)}; {a * digit}"


def show_product(a, b):
    """Long multiplication: one line for each digit of b, then their sum. Zeros at the end of b are put back last."""
    core = str(b).rstrip("0")
    zeros = len(str(b)) - len(core)
    if len(core) == 1:
        text = show_product_by_digit(a, int(core))
        return f"{text}; {a * b}" if zeros else text
    parts = [int(d) * 10**place for place, d in enumerate(reversed(str(b))) if d != "0"]
    lines = [f"{a}*{part}: {show_product(a, part)}" for part in parts]
    total = a * parts[0]
    for part in parts[1:]:
        lines.append(f"{total}+{a * part}: {show_sum(total, a * part)}")
        total += a * part
    return "\n".join(lines)


def show_quotient(a, b):
    """Long division by one digit, `24/6=4r0` a step; the remainder leads the next digit."""
    steps, rest = [], 0
    for x in str(a):
        rest = rest * 10 + int(x)
        steps.append(f"{rest}/{b}={rest // b}r{rest % b}")
        rest %= b
    return f"{' '.join(steps)}; {a // b}r{a % b}"


def draw_number(rng, weights=(1, 2, 5)):
    """A number of one to len(weights) digits; three are the most frequent, as the examination asks for them."""
    digits = rng.choices(range(1, len(weights) + 1), weights)[0]
    return rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)


def draw_two(rng):
    weights = (1, 2, 5, 1) if rng.random() < 0.15 else (1, 2, 5)
    return draw_number(rng, weights), draw_number(rng, weights)


def draw_factors(rng):
    if rng.random() < 0.65:
        return draw_number(rng), rng.randint(2, 9)
    return rng.randint(11, 99), rng.randint(11, 99)


def draw_division(rng):
    return draw_number(rng), rng.randint(2, 9)


def sample_sum(rng, split):
    a, b = fresh(rng, split, draw_two)
    answer = f"{a} + {b} = {a + b}"
    working = f"{a}+{b}: {show_sum(a, b)}"
    return Sample("sum", SUM.pick(rng, split, a=a, b=b), answer, ("number", str(a + b)), working)


def sample_difference(rng, split):
    a, b = fresh(rng, split, draw_two)
    if a < b and rng.random() < 0.8:
        a, b = b, a
    working = f"{a}-{b}: "
    working += show_difference(a, b) if a >= b else f"{a}<{b}: {b}-{a}: {show_difference(b, a)}; {a - b}"
    question = DIFFERENCE.pick(rng, split, a=a, b=b)
    return Sample("difference", question, f"{a} - {b} = {a - b}", ("number", str(a - b)), working)


def sample_product(rng, split):
    a, b = fresh(rng, split, draw_factors)
    question = PRODUCT.pick(rng, split, a=a, b=b)
    if rng.random() < 0.2 and b < 10:
        question = PRODUCT.pick(rng, split, a=b, b=a)
    answer = f"{a} * {b} = {a * b}"
    return Sample("product", question, answer, ("number", str(a * b)), f"{a}*{b}: {show_product(a, b)}")


def sample_quotient(rng, split):
    a, b = fresh(rng, split, draw_division)
    if rng.random() < 0.4:
        a -= a % b
    question = QUOTIENT.pick(rng, split, a=a, b=b)
    if a % b:
        answer, expected = f"{a} / {b} = {a // b} remainder {a % b}", [f"= {a // b} remainder {a % b}"]
    else:
        answer, expected = f"{a} / {b} = {a // b}", [f"= {a // b}"]
    return Sample("quotient", question, answer, ("end", expected), f"{a}/{b}: {show_quotient(a, b)}")


def sample(rng, split):
    draw = rng.choices((sample_sum, sample_difference, sample_product, sample_quotient), (33, 25, 24, 18))[0]
    return dressed(rng, split, draw(rng, split))
