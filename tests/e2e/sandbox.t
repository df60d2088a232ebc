#!/usr/bin/env python3
"""What a server can do once it serves: its few system calls, no file, no network, no privilege. Tried from inside (confined.c enters the same
sandbox and tries), seen from outside (/proc), and on kernels that lack a part of it (a filter that hides it)."""
import ctypes
import os
import re
import signal
import struct
import subprocess

from node import BIN, ROOT, Folder, Node, done, ok

CONFINED = os.path.join(ROOT, "build", "test", "confined")
ROLES = {"survey": 1, "loader": 2, "gateway": 3, "router": 4, "mla": 5, "experts": 6, "scribe": 7, "score": 8}
FORBIDDEN = ["open", "create", "socket", "exec", "fork", "ptrace", "kill", "code", "memfd", "uring", "mount"]


def confined(*args):
    return subprocess.run([CONFINED, *map(str, args)], capture_output=True, text=True, check=True).stdout.strip()


def hide(call):
    """From now on the system call does not exist for this process: what an older kernel says."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)]
    filters = b"".join(struct.pack("HBBI", *c) for c in code)
    keep = ctypes.create_string_buffer(filters)
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(keep))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0):
        os._exit(99)


if confined("files", "open") == "done" or confined(ROLES["mla"], "clock") != "done":
    print("1..0 # SKIP this kernel has no Landlock or no seccomp")
    raise SystemExit(0)

sys_ = f"signal {int(signal.SIGSYS)}"
for role, number in ROLES.items():
    ends = {thing: confined(number, thing) for thing in FORBIDDEN}
    ok(set(ends.values()) == {sys_}, f"{role}: is ended when it tries to {', '.join(FORBIDDEN)}", ends)
    ok(confined(number, "clock") == "done", f"{role}: what it needs it may do")
    print(f"# {role}: {confined('list', number)}")
ok(confined(ROLES["mla"], "write") == sys_, "mla cannot write to any descriptor")
for thing in ("open", "create"):
    ok(confined("files", thing) == "Permission denied", f"Landlock alone stops it too: {thing}")
ok(confined("files", "mount") == "Operation not permitted", "a server of root has no capability left")

with Folder() as f:
    f.make_model()
    node = Node(BIN, f.model, "--socket", f.socket, "--memory", "1G")
    ok(node.wait_for("ready"), "a node starts", node.output())
    for program, pid in sorted(node.children().items()):
        with open(f"/proc/{pid}/status") as s:
            status = dict(re.findall(r"^(\w+):\t(.*)$", s.read(), re.M))
        ok(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0,
           f"{program}: filtered, without privileges", status)
        threads = [open(f"/proc/{pid}/task/{t}/status").read() for t in os.listdir(f"/proc/{pid}/task")]
        ok(all("Seccomp:\t2" in t for t in threads), f"{program}: in all its {len(threads)} threads")
    ok(node.stop() == 0, "the node ends", node.output())

    for call, what in ((444, "Landlock"), (317, "seccomp")):
        args = [os.path.join(BIN, "penstock"), "run", f.model, "--socket", f.socket, "--memory", "1G"]
        r = subprocess.run(args, capture_output=True, text=True, preexec_fn=lambda c=call: hide(c), timeout=60)
        ok(r.returncode == 4 and what in r.stderr and "--sandbox=best-effort" in r.stderr, f"without {what} the node refuses and says how to go on",
           f"{r.returncode} {r.stderr}")
        with subprocess.Popen(args + ["--sandbox", "best-effort"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              preexec_fn=lambda c=call: hide(c)) as p:
            lines = []
            for line in p.stdout:
                lines.append(line)
                if "ready" in line or len(lines) > 40:
                    break
            p.terminate()
            p.communicate()
            ok("ready" in lines[-1] and any(f"without {what}" in x for x in lines), f"best-effort starts it, and says that it has no {what}", "".join(lines))
            ok(p.returncode == 0, "and it ends well")
done()
