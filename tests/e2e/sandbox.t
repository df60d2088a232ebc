#!/usr/bin/env python3
"""What a server can do once it serves: its few system calls, no file, no network, no privilege, a user and namespaces of its own. Tried from inside
(confined.c enters the same sandbox and tries), seen from outside (/proc), as root, as an ordinary user, in a chroot, and where a part of it
cannot be had (a filter or a limit that takes it away)."""
import ctypes
import os
import re
import shutil
import signal
import struct
import subprocess

from node import BIN, ROOT, SANDBOX, SERVERS, Folder, Node, child_of, done, ok, runs_as, wait_until

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
    calls = confined("list", number)
    if "clock_gettime" in calls:
        ok(confined(number, "clock") == "done", f"{role}: what it needs it may do")
    print(f"# {role}: {calls}")
ok(confined(ROLES["mla"], "write") == sys_, "mla cannot write to any descriptor")
for thing in ("open", "create"):
    ok(confined("files", thing) == "Permission denied", f"Landlock alone stops it too: {thing}")
ok(confined("files", "mount") == "Operation not permitted", "a server of root has no capability left")

ENDED, WALLED = 1 << 16, 20  # evil.c
NAMESPACES = ("user", "mnt", "net", "ipc", "pid")


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(re.findall(r"^(\w+):\t(.*)$", f.read(), re.M))


def limits_of(pid):
    with open(f"/proc/{pid}/limits") as f:
        return {line[:26].strip(): line[26:].split()[:2] for line in f}


def spaces_of(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def check_server(node, program, pid):
    """What can be seen of a server from outside."""
    status, limits = status_of(pid), limits_of(pid)
    ok(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0,
       f"{program}: filtered, without privileges", status)
    threads = [open(f"/proc/{pid}/task/{t}/status").read() for t in os.listdir(f"/proc/{pid}/task")]
    ok(all("Seccomp:\t2" in t for t in threads), f"{program}: in all its {len(threads)} threads")
    ok(status["NSpid"].split()[-1] == "1" and len(status["NSpid"].split()) > 1, f"{program}: sees no process but itself", status["NSpid"])
    ok(os.listdir(f"/proc/{pid}/root") == [], f"{program}: sees no file", os.listdir(f"/proc/{pid}/root"))
    with open(f"/proc/{pid}/net/dev") as f:
        ok([line.split(":")[0].strip() for line in f][2:] == ["lo"], f"{program}: has no network but a loopback of its own, which is down")
    want = {"Max core file size": ["1", "1"], "Max locked memory": ["0", "0"], "Max msgqueue size": ["0", "0"]}
    if program != "scribe":
        want["Max file size"] = ["0", "0"]
    ok({k: limits[k] for k in want} == want, f"{program}: limits", limits)
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    ok(int(limits["Max open files"][1]) <= highest + 1, f"{program}: can have no further descriptor", f"{limits} {highest}")


def check_apart(node, own_user):
    """Nobody shares a user or a namespace with anybody."""
    pids = list(node.children().values())
    for name in NAMESPACES:
        if name == "user" and not USER_NAMESPACES:
            continue
        spaces = {spaces_of(pid)[name] for pid in pids + [node.pid]}
        ok(len(spaces) == len(pids) + 1, f"no two processes share a namespace: {name}", spaces)
    users = {tuple(status_of(pid)[k] for k in ("Uid", "Gid", "Groups")) for pid in pids}
    if own_user:
        good = all(u[2].strip() == "" and not u[0].startswith("0") for u in users)
        ok(len(users) == len(pids) and good, "nor a user, and nobody has groups", users)


def remove_sockets(f):
    for path in (f.socket, f.socket + ".counters"):
        if os.path.exists(path):
            os.unlink(path)


def runs(pid):
    try:
        return status_of(pid)["State"][0] not in "ZX"
    except FileNotFoundError:
        return False


def evil_bin(f, name, programs):
    """Programs, some of which are evil.c."""
    folder = os.path.join(f.path, name)
    shutil.copytree(BIN, folder)
    for program in programs:
        shutil.copy(os.path.join(ROOT, "build", "test", "evil"), os.path.join(folder, program))
    return folder


def check_evil(role, ends):
    """How all that a server may not do ended, tried in its place."""
    walls, sandbox = ends.get("walls", {}), ends.get("sandbox", {})
    ok(len(walls) > 20 and len(walls) == len(sandbox), f"{role}: tried from inside a node: {', '.join(sandbox)}", ends)
    ok(all(walls.values()), f"{role}: the walls of init alone stop what they are for", {k: v for k, v in walls.items() if not v})
    ok(all(sandbox.values()), f"{role}: the sandbox stops everything", {k: v for k, v in sandbox.items() if not v})
    kept = {k: v for k, v in sandbox.items() if v not in (ENDED + signal.SIGSYS, ENDED + signal.SIGSEGV)}
    parses = role in ("SURVEY", "LOADER", "SCORE")
    ok(not kept or parses, f"{role}: and ends it at once", kept)
    print("# " + role + ": without its filter: " +
          ", ".join(f"{k}: {'signal ' + str(v - ENDED) if v >= ENDED else os.strerror(v)}" 
                    for k, v in list(walls.items())[:WALLED]))


def ends_in(text, role):
    ends = {}
    for where, thing, end in re.findall(rf"^{role}: (walls|sandbox): (.*): (\d+)$", text, re.M):
        ends.setdefault(where, {})[thing] = int(end)
    return ends


def evil_servers(f):
    """A node of servers that have all been taken over."""
    node = start(f, evil_bin(f, "evil", [*SERVERS, "scribe"]))
    ok(wait_until(lambda: len(ends_in(node.output(), "SCRIBE").get("sandbox", ())) == len(ends_in(node.output(), "SCRIBE").get("walls", (0, )))),
       "scribe has tried everything")
    scribe = ends_in(node.output(), "SCRIBE")
    check_evil("SCRIBE", scribe)
    names = [(where, thing) for where in ("walls", "sandbox") for thing in scribe["walls"]]
    for role, program in (("CLIENT", "gateway"), ("ROUTER", "router"), ("MLA", "mla"), ("EXPERTS", "experts")):
        pid = node.children()[program]
        log = [fd for fd in os.listdir(f"/proc/{pid}/fd") if f":LOG_{role} " in os.readlink(f"/proc/{pid}/fd/{fd}")][0]

        def counters(path=f"/proc/{pid}/fd/{log}"):
            with open(path, "rb") as at:
                return struct.unpack_from("<64Q", at.read(64 + 512), 64)[:len(names)]
        ok(wait_until(lambda: all(counters()), 20), f"{role}: has tried everything")
        ends = {}
        for (where, thing), end in zip(names, counters()):
            ends.setdefault(where, {})[thing] = end - 1
        check_evil(role, ends)
    ok(node.process.poll() is None, "the node still runs")
    node.process.kill()
    node.process.wait()


def evil_tasks(f):
    """Survey, loader and score, which end; the loader takes the survey's place once that has ended."""
    remove_sockets(f)
    command = ["penstock", "run", f.model, "--socket", f.socket, "--memory", "1G"]
    bin_ = evil_bin(f, "evil-survey", ["loader"])
    r = subprocess.run([os.path.join(bin_, command[0]), *command[1:]], capture_output=True, text=True)
    check_evil("SURVEY", ends_in(r.stderr, "SURVEY"))
    bin_ = evil_bin(f, "evil-loader", [])
    for _ in range(20):
        remove_sockets(f)
        shutil.copy(os.path.join(BIN, "loader"), bin_)
        p = subprocess.Popen([os.path.join(bin_, command[0]), *command[1:]], stderr=subprocess.PIPE, text=True)
        survey = child_of(p.pid, "loader", "survey")
        os.kill(p.pid, signal.SIGSTOP)
        caught = survey and runs_as(survey, "loader", "survey")
        if caught:
            wait_until(lambda pid=survey: not runs(pid))
            with open(os.path.join(ROOT, "build", "test", "evil"), "rb") as new, open(os.path.join(bin_, "loader"), "wb") as old:
                shutil.copyfileobj(new, old)
        os.kill(p.pid, signal.SIGCONT)
        said = p.communicate()[1] if caught else stop_and_read(p)
        if "LOADER: sandbox" in said:
            break
    check_evil("LOADER", ends_in(said, "LOADER"))
    prompts = os.path.join(f.path, "prompts")
    with open(prompts, "w") as out:
        out.write('{"prompts": [[3, 4, 5]]}')
    bin_ = evil_bin(f, "evil-score", ["score"])
    r = subprocess.run([os.path.join(bin_, "penstock"), "score", f.model, prompts, "--memory", "1G"], capture_output=True, text=True)
    check_evil("SCORE", ends_in(r.stderr, "SCORE"))


def stop_and_read(p):
    p.kill()
    return p.communicate()[1]


def start(f, bin_, *options, **popen):
    remove_sockets(f)
    node = Node(bin_, f.model, "--socket", f.socket, "--memory", "1G", *options, **popen)
    ok(node.wait_for("ready") and wait_until(lambda: len(node.children()) == 5), "a node starts", node.output())
    return node


def stop(node):
    ok(node.stop() == 0, "and ends well", node.output())


def wrapped(f, name, script):
    """A folder with a `penstock` that is started by a script, which has the real one's folder as $bin."""
    folder = os.path.join(f.path, name)
    os.mkdir(folder)
    with open(os.path.join(folder, "penstock"), "w") as out:
        out.write(f"#!/bin/sh\nbin={BIN}\n{script}\n")
    os.chmod(os.path.join(folder, "penstock"), 0o755)
    return folder


def ordinary(f):
    """The same as an ordinary user: namespaces without any privilege."""
    os.chmod(f.path, 0o777)
    bin_ = os.path.join(f.path, "bin")
    shutil.copytree(BIN, bin_)
    # few slots: locked memory is limited
    node = start(f, wrapped(f, "ordinary", f'exec setpriv --reuid 64321 --regid 64321 --clear-groups {bin_}/penstock "$@"'), "--slots=8")
    ok(status_of(node.pid)["Uid"].split()[0] == "64321", "init is an ordinary user")
    for program, pid in sorted(node.children().items()):
        check_server(node, program, pid)
    check_apart(node, False)
    os.kill(node.children()["mla"], signal.SIGKILL)
    ok(wait_until(lambda: len(node.children()) == 5), "a dead server has a successor")
    pids = list(node.children().values())
    os.kill(node.pid, signal.SIGKILL)
    node.process.wait()
    ok(wait_until(lambda: not any(map(runs, pids)), 1), "when init is killed nothing is left behind")


def in_chroot(f):
    """In a chroot that is no mount, where the kernel refuses user namespaces."""
    root = os.path.join(f.path, "root")
    for folder in ("proc", "dev", "tmp"):
        os.makedirs(os.path.join(root, folder))
    shutil.copytree(BIN, os.path.join(root, "bin"))
    shutil.copytree(f.model, os.path.join(root, "model"))
    script = (f'cd {root}; mount --make-rprivate / && mount -t proc proc proc && mount --bind /dev dev && '
              'exec chroot . /bin/penstock run /model --socket /tmp/s --memory 1G')
    node = start(f, wrapped(f, "chroot", f"exec unshare -m sh -c '{script}'"))
    for program, pid in sorted(node.children().items()):
        ok(os.listdir(f"/proc/{pid}/root") == [], f"in a chroot: {program} sees no file")
    stop(node)


def without(f, space, what):
    """Where there is one kind of namespace less."""
    limit = f'unshare -U -r sh -c \'echo 0 >/proc/sys/user/max_{space}_namespaces && exec "$@"\' sh'
    folder = wrapped(f, f"no-{space}", f'exec {limit} $bin/penstock "$@"')
    remove_sockets(f)
    r = subprocess.run([os.path.join(folder, "penstock"), "run", f.model, "--socket", f.socket, "--memory", "1G"], capture_output=True, text=True)
    ok(r.returncode == 4 and f"cannot have {what}, so" in r.stderr and "--sandbox=best-effort" in r.stderr,
       f"without {what} the node refuses and says how to go on", f"{r.returncode} {r.stderr}")
    node = start(f, folder, "--slots=8", "--sandbox=best-effort")
    ok(wait_until(lambda: f"without {what}, which" in node.output()), f"best-effort starts it, and says that it has not {what}", node.output())
    stop(node)


USER_NAMESPACES = subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode == 0
if SANDBOX:
    ok(True, "walls around servers # SKIP none can be built here: CAP_SYS_ADMIN lacks, and no user namespace can be made")
    done()

with Folder() as f:
    f.make_model()
    node = start(f, BIN)
    for program, pid in sorted(node.children().items()):
        check_server(node, program, pid)
    check_apart(node, os.geteuid() == 0)
    stop(node)
    evil_tasks(f)
    if os.geteuid() == 0:
        evil_servers(f)
        if USER_NAMESPACES:
            ordinary(f)
        in_chroot(f)
    else:
        print("# not root: nothing is tried as another user, nor in a chroot")
    if USER_NAMESPACES:
        without(f, "net", "a network namespace")
        without(f, "user", "a user")
    else:
        ok(True, "an ordinary user's node # SKIP no user namespaces can be made here (a chroot?)")

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
