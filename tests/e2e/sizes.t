#!/usr/bin/env python3
"""The memory a node says it needs is what it needs: with exactly that it starts, answers, and its peak as the kernel counts it stays below; with 1 MiB less it
is refused with status 4."""
import os
import re
import subprocess

from live import Cgroup, Live, least_memory, talkative
from node import BIN, Folder, done, ok

SHAPES = {
    "tiny": [],
    "wide vocabulary": ["--vocab", "60000", "--layers", "2"],
    "many small experts": ["--experts", "256", "--moe-intermediate", "128", "--layers", "3"],
    "BF16": ["--bf16", "--layers", "2"],
    "long latent": ["--kv-lora-rank", "512", "--rope-dim", "64", "--heads", "16"],
}
OPTIONS = [[], ["--context", "256", "--parallel", "1", "--chunk", "1"], ["--context", "4096", "--parallel", "4", "--chunk", "512"], ["--slots", "20"]]


def load(node, context):
    """What fills a node: more requests than places, prompts up to the context, a body that needs the assembly area."""
    n = min(context, 900) - 40
    streams = [node.stream([5 + i] + [5 + j * 7 % 250 for j in range(n - 1)], 30, seed=i) for i in range(4)]
    replies = [s.result() for s in streams]
    wrong = [s.error for s, r in zip(streams, replies) if not r]
    found = re.search(r"bodies of (\d+) (K|M)iB", node.output())  # the largest that the plan has room for
    size = int(found[1]) << (10 if found[2] == "K" else 20) if found else 100000
    for content, path in (("x" * (size - 1000), "/tokenize"), ("x" * (size // 2), "/tokenize")):
        status, data = node.get(path, {"content": content})
        wrong += [] if status == 200 else [f"{path} of {len(content)} bytes: {status} {data[:200]}"]
    return wrong


with Folder() as f:
    for shape, changes in SHAPES.items():
        f.model = os.path.join(f.path, shape.replace(" ", "-"))
        talkative(f.make_model(*changes))
        for options in OPTIONS if shape == "tiny" else OPTIONS[1:3]:
            name = f"{shape} {' '.join(options)}".strip()
            least = least_memory(f.model, *options)
            if not ok(least, f"{name}: a refusal says what is needed"):
                continue
            r = subprocess.run([os.path.join(BIN, "penstock"), "run", f.model, "--socket", f.socket, "--memory", f"{least - 1}M", *options],
                               capture_output=True, text=True, timeout=60)
            ok(r.returncode == 4 and "not enough memory" in r.stderr, f"{name}: 1 MiB less than {least}M is refused with status 4", r.stderr)
            cgroup = Cgroup()
            node = Live(f.socket, f.model, "--memory", f"{least}M", *options, cgroup=cgroup)
            if ok(not node.failed, f"{name}: {least}M is enough to start", node.failed):
                wrong = load(node, int(options[options.index("--context") + 1]) if "--context" in options else 8192)
                ok(not wrong, f"{name}: and to answer", wrong)
                if cgroup.path:
                    peak = cgroup.peak() / (1 << 20)
                    ok(peak < least, f"{name}: the peak is below {least}M", f"{peak:.1f} MiB\n{node.output()}")
                    print(f"# peak {peak:.1f} MiB of {least}")
                else:
                    print(f"# no memory cgroup can be made here: the peak of {name} is not measured")
            node.stop()
            cgroup.close()
done()
