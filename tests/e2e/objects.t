#!/usr/bin/env python3
"""What each process of a node has open and mapped is what ipc/graph.h says, and nothing else: /proc is compared with the table."""
import fcntl
import mmap
import os

from node import Folder, Node, done, graph, ok, wait_until

O_ACCMODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
SEALS = {"SEAL": 1, "SHRINK": 2, "GROW": 4, "WRITE": 8, "FUTURE_WRITE": 16}
FD_BELL, FD_URING, FD_OBJECT = 3, 4, 16


def descriptors(pid):
    """{number: (target, may write)}"""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{number}")
        with open(f"/proc/{pid}/fdinfo/{number}") as f:
            flags = int([line.split()[1] for line in f if line.startswith("flags:")][0], 8)
        found[int(number)] = (target, flags & O_ACCMODE != os.O_RDONLY)
    return found


def maps(pid):
    """{object: may write} of all objects mapped; an object mapped twice may write if one map may."""
    found = {}
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            if "memfd:penstock:" in line:
                name = line.split("memfd:penstock:")[1].split()[0]
                found[name] = found.get(name, False) or "w" in line.split()[1]
    return found


def expected(role, objects):
    want = {}
    for number, (name, writer, readers) in enumerate(objects):
        if name == "BELLS" or writer == role:
            want[FD_OBJECT + number] = (name, True)
        elif role in readers:
            want[FD_OBJECT + number] = (name, False)
    return want


def check_server(role, program, pid, objects):
    have = descriptors(pid)
    want = expected(role, objects)
    for number in (0, 1) + ((2,) if program != "scribe" else ()):
        ok(have.pop(number, None) and os.stat(f"/proc/{pid}/fd/{number}").st_rdev == os.makedev(1, 3),
           f"{program}: descriptor {number} is /dev/null")
    have.pop(2, None)
    if program == "gateway":
        ok("eventfd" in have.pop(FD_BELL, ("",))[0], "gateway has the bell of init")
    if program == "experts":
        ok("io_uring" in have.pop(FD_URING, ("",))[0], "experts has an io_uring")
    got = {n: (t.replace("/memfd:penstock:", "").split()[0], w) for n, (t, w) in have.items()}
    ok(got == want, f"{program}: has the objects of the table with their rights, and nothing else", f"{got}\n{want}")
    ok(maps(pid) == {name: w for name, w in want.values()}, f"{program}: maps them so", maps(pid))
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    ok(status["NoNewPrivs"].strip() == "1", f"{program}: cannot gain privileges")
    ok(os.getsid(pid) == pid, f"{program}: has a session of its own")
    with open(f"/proc/{pid}/environ") as f:
        ok(f.read() == "", f"{program}: has no environment")
    with open(f"/proc/{pid}/limits") as f:
        ok([line.split()[4] for line in f if line.startswith("Max core")] == ["1"], f"{program}: dumps no core")


def check_weights(pid):
    """Nobody can write what was loaded, not even root by a new description of init's own object."""
    for number, (target, _) in descriptors(pid).items():
        name = target.split("memfd:penstock:")[-1].split()[0]
        if name not in ("INDEX", "RESIDENT", "SLOTS"):
            continue
        fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR)
        for what, act in (("written", lambda at=fd: os.pwrite(at, b"x", 4096)), ("mapped writable", lambda at=fd: mmap.mmap(at, 4096))):
            try:
                act()
                ok(False, f"{name} cannot be {what}")
            except PermissionError:
                ok(True, f"{name} cannot be {what}")
        os.close(fd)


def check_seals(pid, objects):
    """init's descriptors are reopened through /proc: the seals are the object's own."""
    seen = set()
    for number, (target, _) in descriptors(pid).items():
        if "memfd:penstock:" not in target:
            continue
        name = target.split("memfd:penstock:")[1].split()[0]
        fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY)
        seals = fcntl.fcntl(fd, 1034)
        mode = os.fstat(fd).st_mode & 0o777
        os.close(fd)
        want = SEALS["SEAL"] | SEALS["SHRINK"] | SEALS["GROW"]
        want |= SEALS["WRITE"] if name in ("INDEX", "RESIDENT") else 0
        want |= SEALS["FUTURE_WRITE"] if name == "SLOTS" else 0
        if name not in seen:
            ok(seals & want == want, f"{name} is sealed: nobody can resize it or change its seals", f"{seals} {want}")
            ok(mode == 0o400, f"{name} has mode 0400")
        seen.add(name)
    ok(seen == {name for name, _, _ in objects}, "init holds every object of the table", seen)


roles, objects = graph()
ok(len(roles) > 6 and len(objects) > 12, "the table is readable", f"{len(roles)} {len(objects)}")
with Folder() as f:
    node = Node(f.make_dummies(), f.make_model(), "--socket", f.socket, "--memory", "400M")
    if not ok(node.wait_for("penstock: ready"), "a node starts", node.output()):
        done()
    names = {program for role, program in roles if role not in ("INIT", "SURVEY", "LOADER", "CUDA")}  # no GPU here
    ok(wait_until(lambda: set(node.children()) == names), "the loader is gone, the servers are there", node.children())
    # the loader is sealed out before "ready", and the rings' maker has mapped what it wants
    for role, program in roles:
        if program in names:
            pid = node.children()[program]
            wait_until(lambda: maps(pid))
            check_server(role, program, pid, objects)
    init = maps(node.pid)
    for name, writer, readers in objects:
        allowed = "write" if writer == "INIT" or name in ("BELLS", "SLOTS") else "read" if "INIT" in readers else "none"
        got = {True: "write", False: "read"}.get(init.get(name), "none")
        ok(got == allowed or got == "none", f"init maps {name}: {got}, the table allows {allowed}")
    check_weights(node.pid)
    check_seals(node.pid, objects)
    ok(node.stop() == 0, "SIGTERM ends it with status 0", node.output())
done()
