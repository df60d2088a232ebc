#!/usr/bin/env python3
"""tests/bench/boot.py [RUNS]: where the time of a booted node's start goes, beside what the machine alone costs.

Boots the demo model's disk RUNS times (5) in QEMU, without firmware, each time followed by the same machine with the same modules and drive and
tests/bench/boot_read.c in init's place, which only reads what a start reads. Prints medians: the kernel's own start with its longest steps; from
init to the known answer (a token through every server), step by step, with what of each is the kernel's (modules), the drive's (reading) and the
emulated processor's (hashes, looking through numbers, the model's arithmetic); what is left is ours. Needs ./build.sh image and build/test/boot_read."""
import os
import re
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from machine import DEMO, NODE, Machine, Store, initrd_with, metric, metrics, need_machine, run, wait
from node import ROOT

ARITHMETIC = ("attention", "gate", "expert", "shared", "head", "sample")


def one_node(folder, name, disk, root):
    """{step: seconds} of a node's start, and what its counters say of the known answer."""
    machine = Machine(os.path.join(folder, name), [disk], f"penstock.root={root}")
    try:
        if not machine.wait_printed("the known answer has come", 60):
            sys.exit(machine.printed()[-2000:])
        said = re.search(r"the known answer has come, ([0-9.]+) s.*: (.*)", machine.printed())
        times = {name.strip(): float(s) for name, s in re.findall(r"([a-z ]+) ([0-9.]+)", said[2])}
        wait(lambda: "penstock" in metrics(machine.socket), 20)
        text = metrics(machine.socket)
        times["arithmetic"] = sum(metric(text, f"{stage}_ns") for stage in ARITHMETIC) * 1e-9
        times["waiting for the drive"] = metric(text, "drive_wait_ns") * 1e-9
        times["experts"] = metric(text, "expert_misses")
        return times
    finally:
        machine.end()


def bare(folder, name, disk, root, initrd, experts):
    """{step: seconds} and {step: bytes} of a machine that only reads; the kernel's longest steps."""
    machine = Machine(os.path.join(folder, name), [disk], f"penstock.root={root} boot_read.experts={experts:.0f} rdinit=/boot_read", initrd, port="port")
    try:
        if not machine.wait_printed("boot_read end", 60):
            sys.exit(machine.printed()[-2000:])
        text = machine.printed()
        lines = re.findall(r"boot_read ([a-z_-]+) ([0-9.]+) (\d+)\s*$", text, re.M)
        return ({n: float(s) for n, s, _ in lines}, {n: int(b) for n, _, b in lines},
                re.findall(r"boot_read kernel ([0-9.]+) ([0-9.]+) (.*)", text))
    finally:
        machine.end()


def main(folder, runs):
    disk = os.path.join(folder, "disk")
    made = run("image", DEMO, disk, "--node", f"{NODE}/node.efi").stdout
    root = Store(disk, int(re.search(r"penstock model\s+\d+ bytes at (\d+)", made)[1])).root
    initrd = initrd_with(os.path.join(folder, "initrd"), {"boot_read": os.path.join(ROOT, "build", "test", "boot_read")})
    nodes, bares = [], []
    for i in range(runs):
        nodes.append(one_node(folder, f"n{i}", disk, root))
        bares.append(bare(folder, f"b{i}", disk, root, initrd, nodes[0]["experts"]))
    node = {k: statistics.median(n[k] for n in nodes) for k in nodes[0]}
    alone = {k: statistics.median(b[0][k] for b in bares) for k in bares[0][0]}
    size = bares[0][1]

    print(f"medians of {runs}; emulated machine, two processors\n")
    print(f"kernel's first line to init  {node['kernel']:6.3f} s, its longest steps (of one start; each ends with the next line of its log):")
    for seconds, at, line in bares[-1][2]:
        print(f"    {float(seconds):6.3f} at {float(at):6.3f}  {line}")
    table = (
        ("modules", alone["finit_module"], 0, 0),
        ("finding the model", 0, alone["header"], 0),
        ("index and plan", 0, alone["hashes"] + alone["catalog"], alone["hashing-hashes"] + alone["hashing-catalog"]),
        ("weights", 0, alone["resident"], alone["hashing-resident"] + alone["checking"]),
        ("servers and answer", 0, alone["experts"], alone["hashing-experts"] + node["arithmetic"]),
    )
    print(f"\n{'init to the known answer':28} {'all':>7} {'kernel':>7} {'reading':>8} {'arithmetic':>11} {'ours':>7}")
    sums = [0.0] * 5
    for name, kernel, reading, arithmetic in table:
        row = (node[name], kernel, reading, arithmetic, node[name] - kernel - reading - arithmetic)
        sums = [a + b for a, b in zip(sums, row)]
        print(f"    {name:24} " + "{:7.3f} {:7.3f} {:8.3f} {:11.3f} {:7.3f}".format(*row))
    print(f"    {'sum':24} " + "{:7.3f} {:7.3f} {:8.3f} {:11.3f} {:7.3f}".format(*sums))
    print(f"\nread: hashes {size['hashes']}, catalog {size['catalog']}, resident {size['resident']}, {node['experts']:.0f} experts {size['experts']} bytes; "
          "one 512 KiB read after the other, hashes by one thread")
    print(f"kernel and reading and arithmetic aside, ours: {sums[4]:.3f} s; with the kernel's work on modules: {sums[1] + sums[4]:.3f} s")


need_machine()
with tempfile.TemporaryDirectory(prefix="penstock.") as scratch:
    main(scratch, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
