#!/usr/bin/env python3
"""README.md and PROMISES say what is so: the tables of objects and rings are those of ipc/graph.h, paths exist, commands are those of the
program, and every test that a promise names is there."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from node import BIN, done, ok  # noqa: E402


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def rows(text, heading):
    """The cells of the table whose first column is called so, less quotes of code."""
    lines = text[text.index(f"\n| {heading} |") + 1:].split("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def entries(text, table):
    """The X(...) lines of a table in graph.h: the words before the text, and the text."""
    part = text[text.index(f"define {table}_LIST"):text.index(f"define {table}_ENUM")]
    return [(words.replace(" ", ""), what) for words, what in re.findall(r'X\(([^"]*?),\s*"([^"]*)"\)', part)]


readme, promises = read("README.md"), read("PROMISES")
graph = re.sub(r"\\\n\s*", " ", read("ipc/graph.h"))
objects = []
for words, what in entries(graph, "OBJECT"):
    name, writer, readers = words.split(",", 2)
    readers = [r.lower() for r in re.findall(r"BY\((\w+)\)", readers)]
    objects.append([name, writer.lower(), ", ".join(readers) or "-", what])
ok(len(objects) > 10 and rows(readme, "object") == objects, "the table of objects is that of ipc/graph.h", objects)
rings = []
for words, what in entries(graph, "RING"):
    name, producer, consumer, batched = words.split(",")
    rings.append([name, producer.lower(), consumer.lower(), "yes" if batched == "1" else "no", what])
ok(len(rings) > 5 and rows(readme, "ring") == rings, "so is the table of rings", rings)

help_text = subprocess.run([os.path.join(BIN, "penstock"), "--help"], capture_output=True, text=True).stdout
have = set(re.findall(r"^  (\w+) ", help_text, re.M))
told = set(re.findall(r"`penstock (\w+)", "\n".join(re.findall(r"^\| `penstock .*$", readme, re.M))))
ok(have == told, "the commands are those of the program", have ^ told)
links = re.findall(r"\]\(([^)#:]+)\)", readme)
missing = [path for path in links + re.findall(r"`((?:tests|ipc|model|boot|images)/[\w./]*)`", readme)
           if not os.path.exists(os.path.join(ROOT, path))]
ok(links and not missing, "what README.md points to exists", missing)
named = re.findall(r"\btests/[\w./]+\w", promises)
missing = [path for path in named if not os.path.exists(os.path.join(ROOT, path))]
ok(len(named) > 10 and not missing, "every test that PROMISES names exists", missing)
ok(re.findall(r"^(\d)\. ", promises, re.M) == list("123456"), "there is a line for each of the six promises")
done()
