"""Other ways to say the same: patterns of English questions and what people say instead.

Applied to templates, before names are filled in, so that every template of a table is multiplied. The result is never
one of the held-out templates (Wordings.pick_freely sees to that).
"""

import re

# pattern, and its alternatives; group 1 is what stays
RULES = [
    (
        re.compile(r"^What is ([^?]+)\?$"),
        """What exactly is {0}?
        What's {0}?
        Explain {0}.
        Explain to me {0}.
        Describe {0}.
        Define {0}.
        Tell me what {0} is.
        Tell me about {0}.
        Can you explain {0}?
        I do not understand {0}.
        What do you know about {0}?
        What should I know about {0}?
        Help me understand {0}.
        Give me a short explanation of {0}.
        In short, what is {0}?
        What is meant by {0}?""",
    ),
    (
        re.compile(r"^How do I ([^?]+)\?$"),
        """How can I {0}?
        How could I {0}?
        How would I {0}?
        How should I {0}?
        How does one {0}?
        What do I do to {0}?
        What do I have to do to {0}?
        What must I do to {0}?
        I want to {0}.
        I need to {0}.
        I'd like to {0}.
        I am trying to {0}.
        Is there a way to {0}?
        What is the best way to {0}?
        What is the easiest way to {0}?
        Show me how to {0}.
        Tell me how to {0}.
        Explain how to {0}.
        Can you show me how to {0}?
        Can you tell me how to {0}?
        Help me to {0}.
        How to {0}?""",
    ),
    (
        re.compile(r"^How does ([^?]+) work\?$"),
        """Explain how {0} works.
        Describe how {0} works.
        Tell me how {0} works.
        How exactly does {0} work?
        What is the idea of {0}?""",
    ),
    (
        re.compile(r"^What does ([^?]+) do\?$"),
        """Tell me what {0} does.
        Explain what {0} does.
        What exactly does {0} do?
        What is {0} doing?
        What is the use of {0}?
        What do I need {0} for?
        Why is there {0}?""",
    ),
    (
        re.compile(r"^What does ([^?]+) mean\?$"),
        """Tell me what {0} means.
        Explain what {0} means.
        What exactly does {0} mean?
        What is {0}?
        What stands {0} for?
        How do I read {0}?""",
    ),
    (
        re.compile(r"^What happens (?:when|if) ([^?]+)\?$"),
        """What happens when {0}?
        What happens if {0}?
        What if {0}?
        Tell me what happens when {0}.
        What does Penstock do when {0}?
        What will happen if {0}?
        And if {0}?""",
    ),
    (
        re.compile(r"^Can I ([^?]+)\?$"),
        """Is it possible to {0}?
        May I {0}?
        Am I able to {0}?
        Could I {0}?
        I wonder whether I can {0}.
        Is there any way to {0}?
        I want to {0}. Can I?""",
    ),
    (
        re.compile(r"^(?:Does|Can) Penstock ([^?]+)\?$"),
        """Is Penstock able to {0}?
        Does Penstock {0}?
        Can Penstock {0}?
        Will Penstock {0}?
        Tell me whether Penstock can {0}.
        Is it true that Penstock can {0}?""",
    ),
    (
        re.compile(r"^Which ([^?]+)\?$"),
        """What {0}?
        Tell me which {0}.
        Can you tell me which {0}?
        I want to know which {0}.
        Do you know which {0}?""",
    ),
    (
        re.compile(r"^Where (?:is|are) ([^?]+)\?$"),
        """Where do I find {0}?
        Where can I find {0}?
        Tell me where to find {0}.
        Where do I look for {0}?
        I cannot find {0}.""",
    ),
    (
        re.compile(r"^Why (?:is|are) ([^?]+)\?$"),
        """Tell me why {0}.
        What is the reason for {0}?
        Explain why {0}.
        How come {0}?""",
    ),
    (
        re.compile(r"^(?:Tell me about|Explain|Describe) ([^.?]+)\.$"),
        """What is {0}?
        Tell me about {0}.
        Explain {0}.
        Please explain {0}.
        Describe {0}.
        Can you describe {0}?
        What can you tell me about {0}?
        Say something about {0}.
        I want to learn about {0}.""",
    ),
    (
        re.compile(r"^Is ([^?]+)\?$"),
        """Tell me: is {0}?
        I want to know: is {0}?
        Is it true: is {0}?
        Can you tell me, is {0}?""",
    ),
]
RULES = [(pattern, [line.strip() for line in text.splitlines()]) for pattern, text in RULES]
SUBSTITUTES = (("Penstock", ("this program", "the program", "the software", "this software", "Penstock here")),)
SYNONYMS = {  # a word, and what may stand in its place; only where the sense stays
    "drive": "SSD disk", "SSD": "drive disk NVMe", "disk": "drive SSD", "memory": "RAM", "RAM": "memory",
    "model": "checkpoint network LLM", "checkpoint": "model", "reply": "answer response output", "answer": "reply response",
    "start": "launch begin run", "stop": "end halt quit", "show": "display print", "use": "employ take", "need": "require",
    "large": "big huge", "big": "large", "fast": "quick", "chosen": "selected picked", "picks": "chooses selects",
    "choose": "select pick", "server": "process", "process": "server", "crashes": "dies fails", "dies": "crashes fails",
    "happens": "occurs", "request": "query call", "requests": "queries calls", "people": "users", "GPU": "graphics-card",
    "find": "locate see", "get": "obtain receive", "make": "create produce", "see": "view look-at", "check": "test examine",
    "change": "alter modify", "supported": "allowed possible", "several": "many multiple", "machine": "computer host",
    "node": "instance node", "write": "save store", "explain": "describe clarify", "Explain": "Describe Clarify",
    "damaged": "corrupt broken", "wrong": "bad", "missing": "absent", "works": "functions operates", "limit": "restrict cap",
    "set": "configure choose", "run": "start use", "tokens": "tokens words", "speed": "performance", "folder": "directory",
}  # fmt: skip
SYNONYMS = {word: [other.replace("-", " ") for other in others.split()] for word, others in SYNONYMS.items()}
SMALL_WORDS = set(
    """what which how why where when who is are does do did can could would should will the a an i me my of to for it in
    with there that this have has be tell explain please you if and on""".split()
)


def paraphrase(rng, question):
    """One of the other ways to say it, or the question itself where no rule fits."""
    fitting = [(match, others) for pattern, others in RULES if (match := pattern.match(question))]
    if fitting:
        match, others = rng.choice(fitting)
        question = rng.choice(others).replace("{0}", match.group(1))
    for word, others in SUBSTITUTES:
        if f" {word}" in question and rng.random() < 0.12:
            question = question.replace(f" {word}", f" {rng.choice(others)}", 1)
    return telegram(question) if rng.random() < 0.06 else exchange_words(rng, question)


def exchange_words(rng, question):
    """Some of the words replaced by others of the same sense."""
    words = question.split(" ")
    for i, word in enumerate(words):
        bare = word.rstrip("?.,!")
        if bare in SYNONYMS and rng.random() < 0.25:
            words[i] = rng.choice(SYNONYMS[bare]) + word[len(bare) :]
    return " ".join(words)


def telegram(question):
    """What somebody types into a search field: the words that matter."""
    kept = [word for word in question.split(" ") if word.lower().rstrip("?.,!") not in SMALL_WORDS]
    return " ".join(kept) or question
