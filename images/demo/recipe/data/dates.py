"""Dates: adding days across months, days between two dates, weekdays, leap years, lengths of months."""

import datetime

from .arithmetic import show_difference, show_quotient, show_sum
from .sample import Sample, dressed, fresh, wordings

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

AFTER = wordings(
    """What date is {n} days after {d}?
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
    """How many days are there from {d} to {e}?
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
    """If today is {w}, what day is it in {n} days?
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
    """Is {y} a leap year?
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
    """How many days does {m} have?
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


def month_name(year, month):
    """The month as the working names it; February brings its year's kind along."""
    kind = f" {year}" if month == 2 else ""
    return f"{MONTHS[month - 1]}{kind}"


def sample_after(rng, split):
    year, month, day, count = fresh(rng, split, lambda r: (*draw_date(r), r.randint(2, 90)))
    start = datetime.date(year, month, day)
    end = start + datetime.timedelta(days=count)
    total = day + count
    lines = [f"{spelled(start)}; {day}+{count}: {show_sum(day, count)}"]
    while total > (length := month_days(year, month)):
        lines.append(f"{month_name(year, month)} {length}: {show_difference(total, length)}")
        total -= length
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    lines.append(f"{total} {month_name(year, month)} {length}: ok")
    question = AFTER.pick(rng, split, d=written(rng, start), n=count)
    answer = f"The date is {spelled(end)}."
    return Sample("date", question, answer, ("all", [spelled(end)]), "\n".join(lines))


def sample_between(rng, split):
    year, month, day, count = fresh(rng, split, lambda r: (*draw_date(r), r.randint(2, 90)))
    start = datetime.date(year, month, day)
    end = start + datetime.timedelta(days=count)
    lines = [f"{spelled(start)} to {spelled(end)}"]
    if (start.year, start.month) == (end.year, end.month):
        lines.append(f"{end.day}-{day}: {show_difference(end.day, day)}")
    else:
        length = month_days(year, month)
        total = length - day
        lines.append(f"{month_name(year, month)} {length}: {show_difference(length, day)}")
        while True:
            year, month = (year + 1, 1) if month == 12 else (year, month + 1)
            last = (year, month) == (end.year, end.month)
            more = end.day if last else month_days(year, month)
            lines.append(f"{month_name(year, month)} {more}: {show_sum(total, more)}")
            total += more
            if last:
                break
    question = BETWEEN.pick(rng, split, d=written(rng, start), e=written(rng, end))
    return Sample("date", question, f"It is {count} days.", ("number", str(count)), "\n".join(lines))


def sample_weekday(rng, split):
    start, count = fresh(rng, split, lambda r: (r.randrange(7), r.randint(2, 120)))
    rest, name = count % 7, WEEKDAYS[(start + count) % 7]
    walk = " ".join(f"{i} {WEEKDAYS[(start + i) % 7]}" for i in range(rest + 1))
    working = f"{count}/7: {show_quotient(count, 7)}; {walk}"
    question = WEEKDAY.pick(rng, split, w=WEEKDAYS[start], n=count)
    return Sample("date", question, f"It is a {name}.", ("end", [f"{name}."]), working)


def sample_leap(rng, split):
    (year,) = fresh(rng, split, lambda r: (r.choice((r.randint(1800, 2100), r.randint(1990, 2040))),))
    question = LEAP.pick(rng, split, y=year)
    leap = is_leap(year)
    working = f"{year % 100 or year // 100}/4: {show_quotient(year % 100 or year // 100, 4)}"
    fact = "is a leap year and has 366 days." if leap else "is not a leap year; it has 365 days."
    return Sample("date", question, f"{year} {fact}", ("all", [fact]), working)


def sample_month_length(rng, split):
    year, month = rng.randint(1990, 2039), rng.randint(1, 12)
    if month != 2:
        name = MONTHS[month - 1]
        answer = f"{name} has {month_days(year, month)} days."
        working = ""
    else:
        name = f"February {year}"
        answer = f"{name} has {month_days(year, month)} days."
        working = f"{year % 100 or year // 100}/4: {show_quotient(year % 100 or year // 100, 4)}"
    question = MONTH_LENGTH.pick(rng, split, m=name)
    return Sample("date", question, answer, ("all", [f"{month_days(year, month)} days"]), working)


def sample(rng, split):
    kinds = (sample_after, sample_between, sample_weekday, sample_leap, sample_month_length)
    return dressed(rng, split, rng.choices(kinds, (35, 25, 25, 10, 5))[0](rng, split))
