#!/usr/bin/env python3
"""Draws the sample of shared/golden/text that this folder keeps: python3 make_sample.py GOLDEN_TEXT_FOLDER

Every category, kind and template is in it: each group gives as many records as KEEP says, drawn with a fixed seed, so
that the sample stays below 1 MB. Records are copied as they are; long ones and those the tests leave out are not drawn.
"""
import json
import random
import shutil
import sys
from pathlib import Path

KEEP = {"lines.jsonl": 24, "vocab.jsonl": 40, "decode.jsonl": 40, "chat.jsonl": 5, "forge.jsonl": 12}
HERE = Path(__file__).parent


def group(r):
    return (r.get("cat"), r.get("template"), r.get("kind"), r.get("skip"), "tools" in r)


def main():
    source = Path(sys.argv[1])
    for name, keep in KEEP.items():
        rng = random.Random(name)
        groups = {}
        for line in (source / name).read_text(encoding="utf-8").split("\n"):
            if line:
                r = json.loads(line)
                if len(line) < 4000 and ("defect" not in r or "null content" in r["defect"]) and r.get("same_as_0324", True):
                    groups.setdefault(group(r), []).append(line)
        with open(HERE / name, "w", encoding="utf-8", newline="\n") as f:
            for lines in groups.values():
                for line in rng.sample(lines, min(keep, len(lines))):
                    f.write(line + "\n")
    shutil.copyfile(source / "variants.json", HERE / "variants.json")


main()
