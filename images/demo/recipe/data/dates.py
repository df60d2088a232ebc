"""Dates: adding days across months, days between two dates, weekdays, leap years, lengths of months."""

import datetime

from .arithmetic import show_difference, show_quotient, show_sum
from .sample import TRAIN, Sample, dressed, fresh, wordings

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

AFTER = wordings(
    """[Today is|It is|It's|Now it is|We have|Say it is|Suppose it is|Let us say it is|Assume that it is] {d}[.| today.| now.] [What|Which] [date|day] [is it|will it be|will we have|do we have|comes|is reached|follows] [in {n} days|{n} days later|{n} days from now|after {n} days|{n} days on|when {n} days are over]?
    [Today is|It is|It's|Today we have|Suppose today is] {d}[.| today.| now.] [Tell me|Give me|Find|I need|What is|Work out|Compute] the date [in {n} days|{n} days later|{n} days from now|after {n} days|{n} days ahead].
    [If|When|Suppose] [today is|it is|the date is] {d}, [what|which] [date|day] [is it|will it be|comes|do we get|do I get] [in {n} days|{n} days later|after {n} days|{n} days from then]?
    [Which|What] [date|day] [is|comes|lies|falls|do I reach|do you get|will it be] [{n} days after|{n} days from|{n} days later than|after {n} days from] {d}?
    [Tell me|Give me|Find|Name|Show me|I need|Work out|Compute|Calculate|Say] the [date|day] [{n} days after|{n} days from|that comes {n} days after|which is {n} days after|{n} days past] {d}.
    [Add|Count] {n} days [to|on from|onto|from] {d}[.|, please.|. Which date is that?|. What is the date then?|. Where do I end?]
    [I leave|I start|We begin|Something starts|A job begins|My holiday starts|The work starts] on {d} and [takes|lasts|goes on for|runs for] {n} days. [When does it end?|What is the date at the end?|Which date is it then?|On which date is it over?]
    {d} [plus|and|+|and then] {n} days[?| is what date?| is which date?| makes what date?| =]
    What date is {n} days after {d}?
    Which date is {n} days after {d}?
    What is the date {n} days after {d}?
    {d} plus {n} days?
    {d} + {n} days
    Add {n} days to {d}.
    What day is it {n} days after {d}?
    If today is {d}, what is the date in {n} days?
    Today is {d}. What date is it in {n} days?
    Today is {d}. What will the date be {n} days from now?
    Tell me the date {n} days after {d}.
    Starting on {d}, which date do I reach after {n} days?
    Count {n} days on from {d}.
    It is {d}. What is the date in {n} days?
    It is {d} today. Which date will it be in {n} days?
    It is {d}. Tell me the date {n} days later.
    Give me the date {n} days after {d}.
    Which day comes {n} days after {d}?
    {n} days after {d}?
    {n} days from {d}, what date is that?
    I start on {d} and wait {n} days. What date is it then?
    When is it {n} days after {d}?
    ~ It is {d} now. Which date comes {n} days later?
    ~ Give me the date that is {n} days later than {d}.
    ~ What is {d} plus {n} days?"""
)
BETWEEN = wordings(
    """How [many days|long] [is it|are there|pass|go by|lie|does it take|do I have|do I wait|is the time] [from {d} to|between {d} and|from {d} until|from {d} till|after {d} until] {e}[?|, in days?]
    [Today is|It is|It's|Now it is|We have|Suppose it is|Say it is] {d}[.| today.| now.] [How many days|In how many days] [is it until|is it to|until|are left before|remain until|is|do I wait for|to go until|to] {e}?
    [Tell me|Give me|Count|Find|Work out|Compute|Calculate|I need|Show me] the [number of days|days] [from {d} to|between {d} and|from {d} until|that lie between {d} and] {e}.
    [If|When|Suppose] [today is|it is|the date is] {d}, how many days [is it until|are left until|remain until|is it to|are there before] {e}?
    [I start|I leave|The work begins|It begins|We go] on {d} and [end|come back|finish|return] on {e}. How many days [is that|are that|does it take|lie between]?
    How [far|many days] [is {e} from|apart are {e} and|away is {e} from|is {e} later than] {d}[?|, in days?]
    [The difference|The distance|The time] [between|from] {d} [and|to] {e} in days[?|, please.]
    How many days are there from {d} to {e}?
    How many days are between {d} and {e}?
    How many days is it from {d} to {e}?
    How long is it from {d} to {e}, in days?
    Count the days from {d} to {e}.
    Days from {d} to {e}?
    What is the number of days from {d} to {e}?
    Number of days between {d} and {e}?
    Tell me how many days lie between {d} and {e}.
    If today is {d}, how many days is it until {e}?
    Today is {d}. How many days until {e}?
    Today is {d}. How many days are left until {e}?
    It is {d}. How many days is it until {e}?
    How many days pass between {d} and {e}?
    How many days lie between {d} and {e}?
    How many days after {d} is {e}?
    Give me the days from {d} to {e}.
    From {d} to {e}, how many days is that?
    I wait from {d} until {e}. How many days is that?
    ~ How many days pass from {d} until {e}?
    ~ It is {d} now. How many days are left until {e}?"""
)
WEEKDAY = wordings(
    """[Today is|It is|It's|Now it is|Say it is|Suppose it is|Let today be|We have|Assume it is] {w}[.| today.| now.] [What|Which] [day|weekday|day of the week] [is it|will it be|will we have|do we have|comes|is reached|follows] [in {n} days|{n} days later|{n} days from now|after {n} days|{n} days on|when {n} days are over]?
    [Today is|It is|It's|Now it is|Suppose today is] {w}[.| today.| now.] [Tell me|Give me|Find|I need|Name|Work out|Say] the [day|weekday|day of the week] [in {n} days|{n} days from now|after {n} days|{n} days ahead|in {n} days' time].
    [If|When|Suppose] [today is|it is|we have] {w}, [what|which] [day|weekday|day of the week] [is it|will it be|comes|do we get|is] [in {n} days|{n} days later|after {n} days|{n} days from then]?
    [Which|What] [day|weekday|day of the week] [is|comes|falls|do I reach|do you get|will it be] [{n} days after|{n} days from|{n} days later than|{n} days past] [{w}|a {w}]?
    [Tell me|Give me|Find|Name|Show me|I need|Compute] the [day|weekday|day of the week] [{n} days after|{n} days from|that comes {n} days after] [{w}|a {w}].
    {n} days [after|from|past|later than] [{w}|a {w}][?| is which day?| is what weekday?|, what day is that?| it is ...?]
    [Add|Count] {n} days [to|on from] [{w}|a {w}][.|, please.|. Which day is that?|. What weekday do I get?]
    {w} [plus|and|+] {n} days[?| is what day?| makes which day?| =]
    If today is {w}, what day is it in {n} days?
    If today is {w}, which weekday is it in {n} days?
    Today is {w}. What day of the week is it in {n} days?
    Today is {w}. Which day will it be {n} days from now?
    Which weekday is {n} days after a {w}?
    What day of the week comes {n} days after {w}?
    {w} plus {n} days is which weekday?
    What weekday is it {n} days after {w}?
    It is {w}. What day will it be after {n} days?
    It is {w}. Which weekday is it {n} days later?
    It is {w} today. What day of the week is it in {n} days?
    Today is {w}. Tell me the weekday in {n} days.
    {n} days after {w} is which weekday?
    {n} days after {w}?
    In {n} days, what day is it, if today is {w}?
    Which day of the week is it {n} days after {w}?
    Give me the weekday {n} days after {w}.
    ~ {n} days after {w}, which day of the week is it?
    ~ It is {w} today. Tell me the weekday {n} days later."""
)
LEAP = wordings(
    """[Tell me|Say|I want to know|Do you know|Can you say] [if|whether] [{y} is|{y} was|the year {y} is] a leap [one.|year, please.|year or not.]
    [How many|What number of] days [has|are in|are there in|make|does one count in] [{y}|the year {y}|year {y}][?|, please?]
    [Has|Does] [{y}|the year {y}] [have a 29 February|have one day more|a 29th of February]?
    Is {y} a leap year?
    Was {y} a leap year?
    Is the year {y} a leap year?
    Will {y} be a leap year?
    Leap year: {y}?
    Does {y} have 366 days?
    How many days does the year {y} have?
    How many days are in {y}?
    ~ How many days are there in the year {y}?
    ~ Tell me whether {y} is a leap year."""
)
MONTH_LENGTH = wordings(
    """[How many days|What number of days] [has|are in|are there in|make|does one count in|does] {m}[?| have?]
    [Tell me|Say|Give me|I need] how many days [{m} has|there are in {m}|are in {m}|make {m}].
    [How long|Of what length] is [{m}|the month {m}]?
    {m}: how many days?
    {m}, how long is it?
    How many days does {m} have?
    How many days are in {m}?
    How many days are there in {m}?
    How long is {m}, in days?
    What is the number of days in {m}?
    Days in {m}?
    Tell me the length of {m} in days.
    {m} is how many days long?
    I want to know how many days {m} has.
    Of how many days is {m} made?
    Give me the number of days in {m}.
    ~ Tell me how many days {m} has.
    ~ {m} has how many days?"""
)


FOLLOWING = wordings(
    """[Which|What] {k} [comes after|follows|is after|is next after|comes behind] {x}?
    [What|Which {k}] comes [after|right after|next after] {x}?
    [Tell me|Name|Say|Give me] the {k} after {x}.
    After {x} comes which {k}?
    [Now it is|This is|We have|It is] {x}. [What|Which] {k} [is next|comes next|follows|comes then]?
    {x} is [over|past|done]. [What|Which] {k} [begins|starts|comes|follows][| now]?
    [Show me|Find|I look for|I want|I would like to know] the {k} [after|that comes after|right after|behind|following] {x}.
    [After|Right after|Behind|When it was] {x}[|,] [which|what] {k} [is it|do we have|do we get|is there]?
    The {k} [after|following|that follows] {x}[?| is?| is which?|, please.]
    {x}, and then?
    What is the {k} after {x}?
    ~ After {x}, what is the next {k}?
    ~ I need the {k} that follows {x}."""
)
PRECEDING = wordings(
    """[Which|What] {k} [comes before|precedes|is before|is right before|was before] {x}?
    [What|Which {k}] comes [before|right before] {x}?
    [Tell me|Name|Say|Give me] the {k} before {x}.
    Before {x} comes which {k}?
    [Now it is|This is|We have|It is] {x}. [What|Which] {k} [was before|came before|was it before|just ended]?
    {x} [begins|starts]. [What|Which] {k} [is over|has ended|just ended|was it before]?
    [Show me|Find|I look for|I want|I would like to know] the {k} [before|that comes before|right before|ahead of|preceding] {x}.
    [Before|Right before|Ahead of] {x}[|,] [which|what] {k} [was it|did we have|was there]?
    The {k} [before|preceding|that precedes] {x}[?| is?| is which?|, please.]
    What is the {k} before {x}?
    ~ Before {x}, what is the {k}?
    ~ I need the {k} just before {x}."""
)
FORMS = wordings(
    """[Write|Spell|Say|Give me|Read] [these dates|the dates|all of these] [in full|out|with the months' names|in one form]: {d}
    {d} - [all in full|in one form|written out|in words], please
    ~ Bring these dates into one form: {d}"""
)
FORM = wordings(
    """[Write|Spell|Say|Give me|Tell me] the date {d} [in full|in words|with the month's name|out].
    [Write|Spell|Say] {d} [in full|in words|out].
    What date is {d}?
    {d} in full
    Which date is [meant by|written as] {d}?
    ~ How do I write {d} in full?
    ~ Please put {d} into words."""
)


def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_days(year, month):
    return 29 if month == 2 and is_leap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def spelled(date):
    return f"{date.day} {MONTHS[date.month - 1]} {date.year}"


def written(rng, date):
    """A date as somebody may type it."""
    month = MONTHS[date.month - 1]
    return rng.choice((f"{date.day} {month} {date.year}", f"{month} {date.day}, {date.year}", date.isoformat()))


def draw_date(rng):
    return rng.randint(1990, 2039), rng.randint(1, 12), rng.randint(1, 28)


def draw_span(rng):
    """A date and a number of days."""
    return (*draw_date(rng), rng.randint(2, 90))


def draw_hard_span(rng):
    """One across a February, a turn of the year or several months: rare among all, and most of what goes wrong."""
    year = rng.choice((rng.randint(1990, 2039), rng.randrange(1992, 2039, 4), rng.randrange(1999, 2039, 10)))
    month, day = rng.choice((1, 2, 2, 3, 10, 11, 11, 12, 12)), rng.randint(1, 28)
    return year, month, day, rng.randint(75 if day > 18 else 30, 90)


def fresh_span(rng, split):
    hard = split == TRAIN and rng.random() < 0.4
    return fresh(rng, split, draw_hard_span if hard else draw_span)


def show_leap(year):
    """Four divides a leap year's last two digits, or its first two where those are zero."""
    digits = year % 100 or year // 100
    return f"{digits}/4: {show_quotient(digits, 4)}"


def show_length(year, month):
    """How many days a month has, and for February why."""
    leap = f" {show_leap(year)}" if month == 2 else ""
    return f"{MONTHS[month - 1]} {year}{leap} {month_days(year, month)}"


def show_successor(number):
    """From the right, as far as the carry goes: "9+1=10 2+1=3; 2030"."""
    steps = []
    for digit in reversed(str(number)):
        steps.append(f"{digit}+1={int(digit) + 1}")
        if digit != "9":
            break
    return f"{' '.join(steps)}; {number + 1}"


def next_month(year, month):
    return (year + 1, 1) if month == 12 else (year, month + 1)


def sample_after(rng, split):
    """Month by month, taken off until the rest lies within one."""
    year, month, day, count = fresh_span(rng, split)
    start = datetime.date(year, month, day)
    end = start + datetime.timedelta(days=count)
    total = day + count
    lines = [f"{spelled(start)}, {count} days", f"{day}+{count}: {show_sum(day, count)}"]
    while total > (length := month_days(year, month)):
        lines.append(f"{show_length(year, month)}: {total}-{length}: {show_difference(total, length)}")
        total -= length
        year, month = next_month(year, month)
        if month == 1:
            lines.append(f"{year - 1}+1: {show_successor(year - 1)}")
    lines.append(f"{show_length(year, month)}: {total} ok")
    question = AFTER.pick(rng, split, d=written(rng, start), n=count)
    answer = f"The date is {spelled(end)}."
    return Sample("date", question, answer, ("all", [spelled(end)]), "\n".join(lines))


def days_before(month):
    """Of the months from March on: the leap day is then the last of a year, so that it counts only where March begins."""
    return sum(month_days(2001, (2 + i) % 12 + 1) for i in range((month - 3) % 12))


def sample_between(rng, split):
    """Both dates as days since a first of March, and their difference: no loop over months, no end of it to find."""
    year, month, day, count = fresh_span(rng, split)
    start = datetime.date(year, month, day)
    end = start + datetime.timedelta(days=count)
    lines, numbers = [f"{spelled(start)} to {spelled(end)}"], []
    for date in (start, end):
        before = days_before(date.month)
        lines.append(f"{MONTHS[date.month - 1]} {before}+{date.day}: {show_sum(before, date.day)}")
        numbers.append(before + date.day)
    first, last = numbers
    if last < first:
        whole = 366 if is_leap(end.year) else 365
        lines.append(f"{show_leap(end.year)}: {whole}+{last}: {show_sum(whole, last)}")
        last += whole
    lines.append(f"{last}-{first}: {show_difference(last, first)}")
    question = BETWEEN.pick(rng, split, d=written(rng, start), e=written(rng, end))
    return Sample("date", question, f"It is {count} days.", ("number", str(count)), "\n".join(lines))


def sample_weekday(rng, split):
    start, count = fresh(rng, split, lambda r: (r.randrange(7), r.randint(2, 120)))
    rest, name = count % 7, WEEKDAYS[(start + count) % 7]
    walk = " ".join(f"{WEEKDAYS[(start + i) % 7]} {i}" for i in range(rest + 1))
    working = f"{WEEKDAYS[start]}, {count} days\n{count}/7: {show_quotient(count, 7)}\n{walk}"
    question = WEEKDAY.pick(rng, split, w=WEEKDAYS[start], n=count)
    return Sample("date", question, f"It is a {name}.", ("end", [f"{name}."]), working)


def sample_leap(rng, split):
    (year,) = fresh(rng, split, lambda r: (r.choice((r.randint(1800, 2100), r.randint(1990, 2040))),))
    question = LEAP.pick(rng, split, y=year)
    leap = is_leap(year)
    fact = "is a leap year and has 366 days." if leap else "is not a leap year; it has 365 days."
    return Sample("date", question, f"{year} {fact}", ("all", [fact]), show_leap(year))


def sample_month_length(rng, split):
    year, month = rng.randint(1990, 2039), rng.randint(1, 12)
    if month != 2:
        name = MONTHS[month - 1]
        answer = f"{name} has {month_days(year, month)} days."
        working = ""
    else:
        name = f"February {year}"
        answer = f"{name} has {month_days(year, month)} days."
        working = show_leap(year)
    question = MONTH_LENGTH.pick(rng, split, m=name)
    return Sample("date", question, answer, ("all", [f"{month_days(year, month)} days"]), working)


def sample_neighbour(rng, split):
    """The month or weekday before or after another."""
    names, kind = rng.choice(((MONTHS, "month"), (WEEKDAYS, "day")))
    place = rng.randrange(len(names))
    step, template = rng.choice(((1, FOLLOWING), (-1, PRECEDING)))
    name, other = names[place], names[(place + step) % len(names)]
    question = template.pick(rng, split, x=name, k=kind)
    answer = f"{'After' if step > 0 else 'Before'} {name} comes {other}."
    return Sample("date", question, answer, ("end", [f"{other}."]))


def sample_form(rng, split):
    """A date written out."""
    year, month, day = fresh(rng, split, draw_date)
    date = datetime.date(year, month, day)
    question = FORM.pick(rng, split, d=written(rng, date))
    return Sample("date", question, f"{spelled(date)}.", ("end", [spelled(date)]))


def sample_forms(rng, split):
    """Several dates written out, for practice: most of what goes wrong in the longer workings is a date misread."""
    dates = [datetime.date(*fresh(rng, split, draw_date)) for _ in range(rng.randint(2, 5))]
    question = FORMS.pick(rng, split, d=rng.choice((", ", "; ", "\n")).join(written(rng, date) for date in dates))
    answer = ", ".join(spelled(date) for date in dates) + "."
    return Sample("date", question, answer, ("end", [answer]))


KINDS = {  # and their shares in examination and in training
    sample_after: (33, 40),
    sample_between: (25, 45),
    sample_weekday: (24, 12),
    sample_leap: (8, 4),
    sample_month_length: (5, 6),
    sample_neighbour: (3, 8),
    sample_form: (2, 3),
    sample_forms: (0, 4),
}


def sample(rng, split):
    weights = [share[split == TRAIN] for share in KINDS.values()]
    return dressed(rng, split, rng.choices(list(KINDS), weights)[0](rng, split))
