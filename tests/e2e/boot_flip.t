#!/usr/bin/env python3
# time limit: 900 s
"""A booted node whose drive has a flipped bit, wherever in the model's partition: it is found, named, and nothing is computed with it. Without
firmware (Debian's kernel in QEMU, the node's initramfs), one start per place that ends one."""
import os
import re
import shutil
import tempfile

from machine import CATALOG, DEMO, EXPERTS, HASHES, NODE, RESIDENT, ROOT_OFF, SETTINGS_OFF, TOPS_OFF, Machine, Store, ask, need_machine, run
from node import done, ok

# place in the store, what the console says
ENDS = (
    ("its geometry", lambda s: 80, r"nvme0n1p3: .*header is damaged"),
    ("the hashes of the hashes", lambda s: TOPS_OFF, r"nvme0n1p3: the hashes at byte 8192 are damaged"),
    ("the table of hashes", lambda s: s.middle(HASHES), r"nvme0n1p3: .*\(the table of hashes\) is damaged"),
    ("the catalog", lambda s: s.middle(CATALOG), r"nvme0n1p3: .*\(the catalog\) is damaged"),
    ("a resident weight", lambda s: s.middle(RESIDENT), r"nvme0n1p3: .*\(the resident tensors\) is damaged"),
)


def start(folder, name, root, *disks):
    return Machine(os.path.join(folder, name), disks, "penstock.root=" + root)


def no_node(machine, place, words):
    text = machine.printed()
    ok(re.search(words, text) and "penstock: ready" not in text and "the known answer has come" not in text,
       f"a flipped bit in {place} is found and named, and no node comes of it", text[-1500:])


def main(folder):
    disk = os.path.join(folder, "disk")
    made = run("image", DEMO, disk, "--node", f"{NODE}/node.efi").stdout
    off = int(re.search(r"penstock model\s+\d+ bytes at (\d+)", made)[1])
    root = Store(disk, off).root
    nameless, rootless = (os.path.join(folder, n) for n in ("nameless", "rootless"))
    for path, place in ((nameless, 0), (rootless, ROOT_OFF)):
        shutil.copy(disk, path)
        Store(path, off).flip(place)
    waits = start(folder, "waits", root, nameless, rootless)  # a minute, for drives that come late
    try:
        damage(folder, disk, off, root)
        ok(waits.wait_printed("the machine restarts", 60), "a machine without its model says so, and restarts", waits.printed()[-1500:])
        no_node(waits, "a root", r"no drive has the model .*there is one of root [0-9a-f]{16}")
        no_node(waits, "a magic number", r"no drive has the model .*the partition nvme\dn1p3 begins with no header")
    finally:
        waits.end()
    done()


def damage(folder, disk, off, root):
    bad = os.path.join(folder, "bad")
    for i, (place, where, words) in enumerate(ENDS):
        shutil.copy(disk, bad)
        store = Store(bad, off)
        store.flip(where(store))
        machine = start(folder, str(i), root, bad)
        try:
            machine.wait_printed("the machine restarts", 60)
            no_node(machine, place, words)
        finally:
            machine.end()

    shutil.copy(disk, bad)
    store = Store(bad, off)
    store.flip(SETTINGS_OFF + 40, *(store.middle(EXPERTS, i) for i in range(store.items(EXPERTS))))
    machine = start(folder, "experts", root, bad)
    try:
        machine.wait_printed("penstock: ready", 60)
        ok("settings on the model's partition are damaged and left out" in machine.printed(), "one in the settings is found, and they are left out",
           machine.printed()[-1500:])
        got = ask(machine.socket, "--max-tokens", "16", timeout=40)
        ok("expert" in got and machine.wait_printed("damaged: its hash", 10), "one in an expert is found when it is asked for: an error, and no token",
           got + "\n" + machine.printed()[-1500:])
        ok("the known answer has come" not in machine.printed(), "and the known answer does not come")
    finally:
        machine.end()


need_machine()
with tempfile.TemporaryDirectory(prefix="penstock.") as scratch:
    main(scratch)
