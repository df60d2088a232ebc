"""A golden case and the rule by which an engine's outputs are compared with it (README.md). Standard library only.

    golden.py CASE_DIR --logits FILE [--routes FILE] [--mtp-logits FILE]     exit status 0, 1, or 2 for unusable files
"""
import argparse
import array
import json
import math
import os
import sys


class Case:
    """The prompts of a case, what the sizes of its outputs depend on, what is expected and within which limits."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        config = self.json("config.json")
        self.vocab = config["vocab_size"]
        layers = range(config.get("first_k_dense_replace", 0), config["num_hidden_layers"])
        self.moe_layers = [n for n in layers if n % config.get("moe_layer_freq", 1) == 0]
        self.top_k = config["num_experts_per_tok"]
        self.prompts = self.json("expect/prompts.json")["prompts"]
        self.limits = self.json("expect/limits.json")
        self.has_mtp = os.path.exists(self.expected("mtp_logits.f32"))

    def json(self, name):
        with open(os.path.join(self.path, name)) as f:
            return json.load(f)

    def expected(self, name):
        return os.path.join(self.path, "expect", name)

    def rows(self, shorter=0):
        """(prompt, position) of every row of an output."""
        return [(p, i) for p, ids in enumerate(self.prompts) for i in range(len(ids) - shorter)]

    def compare_logits(self, path, mtp=False):
        """Lines that say what is wrong; none if all is within the limits. A NaN or an infinity is within none."""
        rows, prefix = self.rows(int(mtp)), "mtp_" if mtp else ""
        count = len(rows) * self.vocab
        got, want = read(path, "f", count), read(self.expected(prefix + "logits.f32"), "f", count)
        error = [abs(g - w) for g, w in zip(got, want)]
        if not all(map(math.isfinite, error)):
            at = next(i for i, e in enumerate(error) if not math.isfinite(e))
            return ["%slogits: prompt %d, position %d: %r" % (prefix, *rows[at // self.vocab], got[at])]
        worst = max(range(count), key=error.__getitem__)
        found = {"max_abs": error[worst], "rms": math.sqrt(sum(e * e for e in error) / count)}
        return ["%s%s %.3e exceeds %.3e; worst row: prompt %d, position %d"
                % (prefix, key, value, self.limits[prefix + key], *rows[worst // self.vocab])
                for key, value in found.items() if not value <= self.limits[prefix + key]]

    def compare_routes(self, path):
        rows = self.rows()
        count = len(rows) * len(self.moe_layers) * self.top_k
        got, want = read(path, "H", count), read(self.expected("routes.u16"), "H", count)
        wrong = [i for i in range(0, count, self.top_k) if got[i:i + self.top_k] != want[i:i + self.top_k]]
        if not wrong:
            return []
        at = wrong[0]
        row, layer = divmod(at // self.top_k, len(self.moe_layers))
        return ["%d of %d routes wrong; first: prompt %d, position %d, layer %d: %s, expected %s"
                % (len(wrong), count // self.top_k, *rows[row], self.moe_layers[layer],
                   got[at:at + self.top_k].tolist(), want[at:at + self.top_k].tolist())]


def read(path, kind, count):
    """A little-endian file of `count` floats ("f") or uint16 ("H")."""
    values = array.array(kind)
    with open(path, "rb") as f:
        data = f.read()
    if len(data) != count * values.itemsize:
        raise ValueError("%s: %d bytes, expected %d" % (path, len(data), count * values.itemsize))
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def main():
    parser = argparse.ArgumentParser(description="Compare an engine's outputs with a golden case.")
    parser.add_argument("case", metavar="CASE_DIR")
    parser.add_argument("--logits", required=True, metavar="FILE")
    parser.add_argument("--routes", metavar="FILE")
    parser.add_argument("--mtp-logits", metavar="FILE")
    arguments = parser.parse_args()
    try:
        case = Case(arguments.case.rstrip("/"))
        wrong = case.compare_logits(arguments.logits)
        if arguments.routes:
            wrong += case.compare_routes(arguments.routes)
        if arguments.mtp_logits:
            wrong += case.compare_logits(arguments.mtp_logits, mtp=True)
    except (OSError, ValueError, KeyError) as error:
        print("golden.py:", error, file=sys.stderr)
        return 2
    print("\n".join(wrong) or "all within the limits")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
