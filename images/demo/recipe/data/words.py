"""Small tasks with words: story sums, letters, order, opposites, plurals."""

from .arithmetic import show_difference, show_product, show_sum
from .sample import HELD, Sample, dressed, fresh, phrases, split_list, wordings

NAMES = phrases(
    """Anna, Ben, Carla, David, Emma, Felix, Grace, Henry, Irene, Jack, Kate, Leo, Maria, Nick, Olga, Paul, Rosa, Sam,
    Tina, Victor, Wendy, Tom, Lucy, Peter, Julia, Mark, Nora, Oscar, Ruth, Simon, Mei, Wei, Ali, Omar, Priya, Ravi,
    Yuki, Ken, Fatima, Ivan"""
)
THINGS = phrases(
    """apples, books, coins, stamps, marbles, pencils, cards, eggs, oranges, stones, buttons, shells, tickets, bottles,
    chairs, cups, flowers, letters, nails, balls, cookies, sheets, candles, boxes, drives, cables, keys, bricks"""
)
WORDS = phrases(
    """apple, river, stone, water, gate, table, window, garden, yellow, orange, school, mother, winter, summer, bread,
    butter, cheese, letter, number, paper, pencil, bottle, basket, market, street, bridge, castle, forest, mountain,
    island, ocean, planet, rocket, engine, wheel, mirror, candle, blanket, pillow, carpet, ladder, hammer, needle,
    button, pocket, jacket, shirt, banana, cherry, lemon, tomato, potato, pepper, onion, carrot, rabbit, tiger, horse,
    mouse, zebra, camel, eagle, spider, monkey, dragon, doctor, teacher, farmer, sailor, painter, singer, music, piano,
    guitar, violin, drum, flute, dance, story, poem, dream, cloud, storm, thunder, rain, snow, wind, fire, light, night,
    morning, evening, silver, golden, copper, iron, green, purple, circle, square, turbine, memory, model, expert, token,
    router, kernel, socket, thread, server, cache, drive, flower, tree, leaf, grass, coffee, sugar, spoon, plate, knife,
    glass, clock, watch, phone, radio, camera, train, plane, ship, truck, road, house, door, roof, wall, floor, chair"""
)
OPPOSITES = phrases(
    """hot/cold, big/small, fast/slow, high/low, early/late, old/new, long/short, light/dark, open/closed, full/empty,
    wet/dry, hard/soft, rich/poor, strong/weak, happy/sad, loud/quiet, near/far, up/down, left/right, day/night,
    first/last, good/bad, true/false, thick/thin, wide/narrow, clean/dirty, cheap/expensive, easy/difficult, safe/dangerous,
    inside/outside, always/never, begin/end, win/lose, buy/sell, push/pull, love/hate, give/take, remember/forget,
    sharp/blunt, heavy/light, deep/shallow, smooth/rough, sweet/sour, alive/dead, brave/afraid, asleep/awake"""
)
PLURALS = phrases(
    """child/children, mouse/mice, foot/feet, tooth/teeth, man/men, woman/women, goose/geese, box/boxes, city/cities,
    leaf/leaves, knife/knives, baby/babies, bus/buses, church/churches, dish/dishes, story/stories, wolf/wolves,
    potato/potatoes, tomato/tomatoes, person/people, sheep/sheep, fish/fish, ox/oxen, day/days, key/keys, book/books,
    house/houses, tree/trees, dog/dogs, cat/cats, car/cars, glass/glasses, brush/brushes, lady/ladies, half/halves"""
)
LETTER_WORDS = split_list(WORDS)
LETTER_TASKS = ("spell", "backwards", "length")

GAIN = wordings(
    """{p} [has|owns|holds|keeps|collected|had|carries] {a} {t} and [buys|gets|finds|takes|receives|makes|wins|picks up|adds] {b} [more|others|more of them|new ones]. How many {t} [does {p} have|has {p}|are there|are that|is that] [now|then|in all|in total|altogether|at the end]?
    {p} [has|owns|had|holds] {a} {t}[.|;|, and] {q} [gives|brings|sends|hands|sells] {p} {b} [more|others|of them]. How many {t} [does {p} have|has {p}|does {p} own|are there] [now|then|in all|in the end]?
    [There are|We have|I see|I count|One finds] {a} {t} [in one box|in the box|on the table|in the kitchen|on the left|upstairs] and {b} [in another|in the other|on the shelf|in the garden|on the right|downstairs]. How many [{t} |]are [there|that|they] [in all|in total|altogether|together]?
    {p} [has|brings|owns|bought|carries] {a} {t}, {q} [has|brings|owns|bought|carries] {b}. How many {t} [do they have|are there|is that|do both have] [together|in all|in total|altogether]?
    [I have|I had|I own] {a} {t} and [buy|get|find|take] {b} more. How many {t} do I have [now|then|in all]?
    [In the box|On the table|In the room|In my bag|In the house] are {a} {t}[.|;| and] {b} more [come|arrive|are added|are put in]. How many {t} are there [now|then|in all]?
    {p} has {a} {t} and buys {b} more. How many {t} does {p} have now?
    {p} has {a} {t} and gets {b} more. How many {t} does {p} have?
    {p} had {a} {t} and found {b} more. How many {t} are there now?
    {p} has {a} {t}. {q} gives {p} {b} more. How many {t} does {p} have now?
    {p} has {a} {t} and {q} has {b}. How many {t} do they have together?
    There are {a} {t} in one box and {b} in another. How many {t} are there in all?
    {p} counted {a} {t} in the morning and {b} in the evening. How many is that?
    {p} collects {a} {t} on Monday and {b} on Tuesday. How many {t} in total?
    {p} owns {a} {t} and gets {b} more from {q}. How many {t} does {p} own now?
    {q} brings {p} {b} {t}; {p} had {a} before. How many {t} are there now?
    {a} {t} are in the box and {b} are on the table. How many {t} are there?
    In the morning there were {a} {t}, then {b} came. How many are there now?
    {p} bought {a} {t}, and {q} bought {b}. How many did they buy?
    We have {a} {t} and need {b} more. How many {t} do we need in all?
    After {p} added {b} {t} to {a} {t}, how many were there?
    ~ {p} owns {a} {t}; {q} brings {b} more. How many {t} has {p} got now?
    ~ On the shelf are {a} {t} and on the floor {b}. How many {t} altogether?"""
)
LOSS = wordings(
    """{p} [has|owns|had|holds|carries|keeps] {a} {t} and [gives away|loses|sells|breaks|throws away|gives {q}|hands {q}|uses up|drops|lends {q}] {b}[ of them|]. How many {t} [are left|remain|does {p} have|does {p} keep|does {p} still have|are still there][| now| then| at the end]?
    {p} [has|owns|had|holds] {a} {t}[.|;|, and] {q} [takes|steals|borrows|buys|gets|uses] {b} [of them|away]. How many {t} [are left|remain|does {p} have|does {p} keep|does {p} still have]?
    [There were|There are|We had|I had] {a} {t} [in the box|on the table|in the shop|on the shelf|in the garden|in the bag][,| and|;] {b} [were sold|got lost|are broken|were taken|are gone|were used]. How many {t} [are left|remain|are there now|stay|are still there]?
    Of {a} {t}, {b} [are|were] [sold|broken|lost|used|taken|given away]. How many [{t} |][are left|remain|are there still|stay]?
    {p} has {a} {t} and {q} has {b}. [How many more does {p} have?|How many more {t} has {p}?|How many {t} more has {p}?]
    [I have|I had|We had] {a} {t} and [give away|lose|sell|use|eat] {b}[ of them|]. How many {t} [are left|remain|do I have then]?
    {p} has {a} {t} and gives away {b}. How many {t} are left?
    {p} has {a} {t} and loses {b}. How many {t} does {p} have now?
    {p} had {a} {t} and sold {b}. How many {t} are left?
    {p} has {a} {t}. {q} takes {b} of them. How many {t} does {p} have left?
    There were {a} {t} in a box and {p} took out {b}. How many {t} remain?
    {p} has {a} {t} and {q} has {b}. How many more {t} does {p} have?
    Of {a} {t}, {b} are broken. How many are not broken?
    {p} owns {a} {t} and sells {b} of them. How many {t} has {p} got now?
    {p} hands {b} of {a} {t} to {q}. How many {t} are left?
    There were {a} {t} and {b} got lost. How many are there now?
    {p} ate {b} of {a} {t}. How many remain?
    {a} {t} were in the shop; {b} were sold. How many are left in the shop?
    {p} needs {a} {t} and has {b}. How many are missing?
    From {a} {t} {p} takes away {b}. How many stay?
    ~ {p} owns {a} {t} and hands {b} of them to {q}. How many {t} does {p} keep?
    ~ From {a} {t}, {b} were used up. How many {t} remain?"""
)
GROUPS = wordings(
    """[There are|We have|I see|{p} has|{p} buys|{p} packs|{p} fills] {b} [boxes|bags|baskets|rows|piles|drawers|cases|packets] [with|of|holding] {a} {t}[| each| in each]. How many {t} [are there|are that|is that|are they] [in all|in total|altogether|together]?
    [Each|Every] [box|bag|basket|drawer|packet|child|person] [has|holds|contains|gets] {a} {t}. How many {t} [are in|have|do|are there for] {b}[ of them|]?
    {b} [boxes|bags|baskets|cases|drawers|people|children] [hold|have|contain|carry|get] {a} {t} each. How many {t} [are there|is that|are that|do they have] [in all|in total|altogether|together]?
    {p} [reads|makes|sells|needs|buys|finds|eats] {a} {t} [a day|an hour|every day|a week]. How many {t} [are that|is that|does {p} need] in {b} [days|hours|weeks]?
    {a} {t} [fit|go] into [a|one] [box|bag|basket]. How many {t} [fit|go] into {b}?
    There are {b} boxes with {a} {t} each. How many {t} are there?
    {p} has {b} bags with {a} {t} in each. How many {t} does {p} have?
    One box holds {a} {t}. How many {t} do {b} boxes hold?
    {p} buys {a} {t} every day. How many {t} is that in {b} days?
    Each of {b} people has {a} {t}. How many {t} do they have together?
    There are {b} rows of {a} {t}. How many {t} are there in all?
    {b} boxes hold {a} {t} each. How many {t} do they hold?
    {b} people carry {a} {t} each. How many {t} do they carry?
    Each box has {a} {t}, and there are {b} boxes. How many {t} is that?
    {p} packs {a} {t} into each of {b} boxes. How many {t} are packed?
    {p} makes {a} {t} an hour. How many {t} in {b} hours?
    A shelf has {a} {t}. How many {t} have {b} shelves?
    {b} times {p} brings {a} {t}. How many {t} is that?
    ~ {p} fills {b} shelves with {a} {t} each. How many {t} is that?
    ~ {b} crates hold {a} {t} each. How many {t} are in them?"""
)
SPELL = wordings(
    """[Spell|Please spell|Can you spell|I want to spell|Help me spell|Let me see you spell] [{w}|the word {w}|"{w}"|the word "{w}"][.|, please.|]
    [How is|How do I write|How does one spell|How would you spell|What is the spelling of] [{w}|the word {w}|"{w}"][?| spelled?]
    [Show me|Tell me|Write|List|Name|Say] [the letters of|all letters of|every letter of|the spelling of] [{w}|the word {w}|"{w}"][.| one by one.| in order.]
    Spell the word {w}.
    Spell {w}.
    How do you spell {w}?
    How is the word {w} spelled?
    Please spell "{w}".
    Can you spell {w}?
    Could you spell {w} for me?
    Give me the letters of {w}.
    Which letters has {w}?
    Spell the word "{w}" for me.
    ~ Spell out {w} for me.
    ~ What are the letters of the word {w}?"""
)
BACKWARDS = wordings(
    """[Write|Spell|Say|Read|Turn|Put|Give me|Type] [{w}|the word {w}|"{w}"|the word "{w}"] [backwards|in reverse|from back to front|from the end|from right to left|the other way round|from its last letter to the first][.|, please.|]
    [Reverse|Turn around|Flip|Invert] [{w}|the word {w}|"{w}"|the letters of {w}|the letters in {w}][.|, please.|]
    [What is|What do I get for|What becomes of|How do you write|How does one read|How do I spell|How is] [{w}|the word {w}|"{w}"] [backwards|in reverse|from back to front|from right to left|turned around|when it is reversed][?| written?]
    [The letters of|All letters of] {w} [backwards|in reverse|from the last to the first][.|?|, please.]
    [If I|When I|If you] [reverse|turn around|flip] {w}, what [do I get|comes out|is it|does it say]?
    Write {w} backwards.
    Reverse the word {w}.
    Spell {w} backwards.
    What is {w} backwards?
    What is {w} spelled backwards?
    Turn the word {w} around.
    Write the word "{w}" in reverse.
    Give me {w} backwards.
    Write {w} from the end to the beginning.
    Read {w} backwards.
    Can you reverse {w}?
    Reverse the letters of {w}.
    What does {w} look like backwards?
    ~ Give me {w} in reverse order.
    ~ How does {w} read from the end?"""
)
LENGTH = wordings(
    """[How many|What number of] letters [has|are in|are there in|make up|does one need for|does] [{w}|the word {w}|"{w}"|the word "{w}"][?| have?| contain?]
    [Count|Tell me|Give me|Find|I need|Say] [the letters of|the letters in|the number of letters of|the number of letters in|the length of|how many letters are in|how many letters make] [{w}|the word {w}|"{w}"][.|, please.]
    [How long|Of what length] is [{w}|the word {w}|"{w}"][?|, in letters?]
    {w}: how many letters?
    How many letters does {w} have?
    How many letters are in {w}?
    How many letters are in the word {w}?
    How many letters are there in "{w}"?
    Count the letters in {w}.
    How long is the word {w}?
    What is the number of letters in {w}?
    Tell me the number of letters of {w}.
    Tell me how long the word {w} is.
    The word {w} has how many letters?
    Of how many letters is {w} made?
    Give me the length of {w}.
    Letters in {w}?
    ~ Tell me how many letters {w} has.
    ~ {w} has how many letters?"""
)
SORT = wordings(
    """[Sort|Order|Arrange|Put|Bring|List] [these|these words|the words|the following|the following words] [alphabetically|by the alphabet|from A to Z|in alphabetical order|into alphabetical order|in order of the alphabet]: {w}[.|]
    [Sort|Order|Arrange] {w} [alphabetically|by the alphabet|from A to Z|in alphabetical order].
    {w}: [sort these|which comes first in the alphabet|alphabetical order|put them in order|from A to Z][.|?|, please.]
    [What is|Give me|Tell me|I need] the alphabetical order of {w}[?|.]
    [In which order|How] [are|do|would] [these words|these|they] [stand|come] in a dictionary: {w}?
    Sort these words: {w}.
    Sort alphabetically: {w}
    Put these words in alphabetical order: {w}.
    Put in alphabetical order: {w}
    Order these words from A to Z: {w}.
    Arrange alphabetically: {w}.
    Bring these words into order from A to Z: {w}.
    Which of these words comes first, second and third: {w}?
    Sort {w}.
    Can you sort these words? {w}
    Alphabetical order, please: {w}
    ~ Bring these words into alphabetical order: {w}.
    ~ Which order from A to Z do these words have: {w}?"""
)
REORDER = wordings(
    """[Say|Write|Give me|Repeat|List|Name|Put|Tell me] [these|these words|the words|the following] [backwards|in reverse|in reverse order|from last to first|from the last to the first|beginning with the last|in the opposite order]: {w}[.|]
    [Reverse|Turn around|Flip] [this list|these words|the order|the order of these words]: {w}[.|]
    {w}: [now backwards|in reverse order|the last first|reverse this|turn them around][.|?|, please.]
    Say these words in reverse order: {w}.
    Reverse the order of these words: {w}.
    Write these words from last to first: {w}.
    List in reverse: {w}
    ~ Give these words back, the last one first: {w}."""
)
OPPOSITE = wordings(
    """[What|Which word|Which] is the [opposite|contrary|reverse] [of|to] [{w}|"{w}"|the word {w}]?
    [Tell me|Give me|Name|Say|Find|I need|I look for|Show me] [the opposite|the contrary|a word that is the opposite|the antonym|a word that means the contrary|the word that is the contrary] of [{w}|"{w}"|the word {w}].
    [What do I call|What is|How do I say|What would be] the [opposite|contrary|antonym] of [{w}|"{w}"]?
    [{w}|"{w}"] [is the contrary of|is the reverse of|and its contrary|has which opposite|has what contrary|is not what|- opposite][?|]
    [Not {w} but ...|The contrary of {w}|Opposite of {w}|Antonym of {w}][?|]
    What is the opposite of {w}?
    The opposite of {w}?
    Tell me the opposite of {w}.
    Which word is the opposite of {w}?
    Which word means the opposite of {w}?
    Give me the opposite of {w}.
    Give me a word that is the contrary of {w}.
    {w} and its opposite?
    {w} is the contrary of what?
    What is the contrary of {w}?
    ~ Give me a word that means the opposite of {w}.
    ~ {w} is the opposite of what?"""
)
PLURAL = wordings(
    """[What|Which word|Which] is the [plural|plural form] of [{w}|"{w}"|the word {w}]?
    [Tell me|Name|Say|Find|I need|Write|Show me|Make|Form] the [plural|plural form] of [{w}|"{w}"|the word {w}].
    [How|What] [do I call|does one call|do you call|do I say for] [two|many|several|more than one] {w}?
    [What|How] is [{w}|"{w}"] in the plural?
    [I see one {w}. You see two ...?|One {w}, many ...?|A {w}, three ...?|Plural form of {w}?]
    What is the plural of {w}?
    The plural of {w}?
    Tell me the plural of {w}.
    What do you call more than one {w}?
    How do you say more than one {w}?
    How do I write the plural of {w}?
    Write the plural of {w}.
    Form the plural of {w}.
    Plural of {w}?
    What is {w} in the plural?
    One {w}, two ...?
    ~ Give me the plural of {w}.
    ~ How do you write the plural of {w}?"""
)


def story(rng, split):
    kind = rng.choices(("gain", "loss", "groups"), (4, 4, 3))[0]
    thing, (person, other) = rng.choice(THINGS), rng.sample(NAMES, 2)
    if kind == "groups":
        a, b = fresh(rng, split, lambda r: (r.randint(2, 60), r.randint(2, 9)))
        result, template = a * b, GROUPS
        working = f"{a}*{b}: {show_product(a, b)}"
    else:
        a, b = fresh(rng, split, lambda r: (r.randint(2, 150), r.randint(2, 99)))
        a, b = max(a, b) + 1, min(a, b)
        result, template = (a + b, GAIN) if kind == "gain" else (a - b, LOSS)
        working = f"{a}+{b}: {show_sum(a, b)}" if kind == "gain" else f"{a}-{b}: {show_difference(a, b)}"
    question = template.pick(rng, split, p=person, q=other, t=thing, a=a, b=b)
    return Sample("word", question, f"{result} {thing}.", ("number", str(result)), working)


def numbered(word):
    """`1g2a3t4e`: what to count by, and what to find the letter before the fourth in."""
    return "".join(f"{i}{letter}" for i, letter in enumerate(word, 1))


def letters(rng, split):
    """A word is one or two tokens, so its letters must have been seen somewhere: training spells every word, but turns
    around and counts only those that are not held out."""
    word = rng.choice(LETTER_WORDS.held if split == HELD else WORDS)
    spelled = "-".join(word)
    kinds = ("backwards", "length") if split == HELD else ("spell",) if word in LETTER_WORDS.held else LETTER_TASKS
    kind = rng.choice(kinds)
    if kind == "spell":
        return Sample("word", SPELL.pick(rng, split, w=word), f"{spelled}", ("end", [spelled]))
    if kind == "backwards":
        backwards = "-".join(reversed(word))
        down = "".join(f"{i}{word[i - 1]}" for i in range(len(word), 0, -1))
        working = f"{word}: {spelled}\n{numbered(word)}\n{down}"
        return Sample("word", BACKWARDS.pick(rng, split, w=word), backwards, ("end", [backwards]), working)
    working = f"{word}: {spelled}\n{numbered(word)}"
    question = LENGTH.pick(rng, split, w=word)
    return Sample("word", question, f"{word} has {len(word)} letters.", ("number", str(len(word))), working)


def order(rng, split):
    """Sorting goes by the fewest first letters that differ, which the working names."""
    words = rng.sample(WORDS, 3)
    if rng.random() < 0.6:
        template, result = SORT, sorted(words)
        width = next(n for n in range(1, 20) if len({word[:n] for word in words}) == 3)
        key = "; ".join(f"{word} {'-'.join(word[:width])}" for word in words)
        working = f"{key}\n{'; '.join('-'.join(word[:width]) for word in result)}"
    else:
        template, result, working = REORDER, words[::-1], ""
    answer = ", ".join(result)
    return Sample("word", template.pick(rng, split, w=", ".join(words)), answer, ("end", [answer]), working)


def pairs(rng, split):
    if rng.random() < 0.6:
        one, two = rng.choice(OPPOSITES).split("/")
        if rng.random() < 0.5 and one not in ("light", "hot"):
            one, two = two, one
        answer = f"The opposite of {one} is {two}."
        return Sample("word", OPPOSITE.pick(rng, split, w=one), answer, ("end", [f"is {two}."]))
    one, many = rng.choice(PLURALS).split("/")
    answer = f"The plural of {one} is {many}."
    return Sample("word", PLURAL.pick(rng, split, w=one), answer, ("end", [f"is {many}."]))


def sample(rng, split):
    return dressed(rng, split, rng.choices((story, letters, order, pairs), (42, 24, 16, 18))[0](rng, split))
