#!/usr/bin/env python3
"""`./build.sh install PREFIX`: an installed tree is whole. It runs from where it was put, reached through its link, with nothing of the source tree."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from node import BIN, SERVERS, Folder, Node, done, ok  # noqa: E402

with Folder() as f:
    prefix = os.path.join(f.path, "usr")
    r = subprocess.run([os.path.join(ROOT, "build.sh"), "install", prefix], capture_output=True, text=True, timeout=250)
    programs = os.path.join(prefix, "libexec", "penstock")
    ok(r.returncode == 0 and set(os.listdir(programs)) - {"node.efi"} == set(os.listdir(BIN)), "every program is installed", r.stderr)
    moved = os.path.join(f.path, "moved")
    shutil.move(prefix, moved)
    f.make_model()
    node = Node(os.path.join(moved, "bin"), f.model, "--socket", f.socket, "--memory", "400M", "--template", "v3")
    ok(node.wait_for("penstock: ready"), "the tree runs elsewhere too, through its link", node.output())
    r = subprocess.run([os.path.join(moved, "bin", "penstock"), "ask", "--socket", f.socket, "--max-tokens", "3", "Hello"],
                       capture_output=True, timeout=60)
    ok(r.returncode == 0 and r.stdout, "and answers", r.stderr)
    servers = node.children()
    ok(set(SERVERS) <= set(servers), "every server runs", servers)
    for program, pid in servers.items():
        path = os.readlink(f"/proc/{pid}/exe")
        ok(path.startswith(moved + "/"), f"{program} comes from there", path)
    ok(node.stop() == 0, "and stops")
done()
