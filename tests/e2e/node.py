"""Starting and looking at a node, for the tests in this folder: a node of real servers, or one whose servers are dummies (dummy_server.c), so
that a test of init needs nothing but init. Prints TAP."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(ROOT, "build", "bin")
SERVERS = ["gateway", "router", "mla", "experts"]



def _unconfined():
    """Options of a node where a server cannot be given a user and namespaces of its own: neither by CAP_SYS_ADMIN nor within a user namespace."""
    with open("/proc/self/status") as f:
        capable = int(re.search(r"CapEff:\s+(\w+)", f.read())[1], 16) >> 21 & 1
    try:
        possible = capable or subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode == 0
    except OSError:
        possible = False
    return [] if possible else ["--sandbox", "best-effort"]


SANDBOX = _unconfined()
_count = 0
_failed = 0


def ok(passed, name, detail=""):
    global _count, _failed
    _count += 1
    _failed += not passed
    print(("ok" if passed else "not ok"), _count, "-", name, flush=True)
    if not passed:  # on stderr, where prove shows it
        print(f"# failed: {name}\n#", str(detail)[:4000].replace("\n", "\n# "), file=sys.stderr, flush=True)
    return passed


def done():
    print(f"1..{_count}")
    sys.exit(1 if _failed else 0)


class Folder:
    """A folder of its own for one test: programs, a model, a socket."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="penstock.")
        self.model = os.path.join(self.path, "model")
        self.socket = os.path.join(self.path, "s")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def make_model(self, *options):
        subprocess.run([os.path.join(BIN, "penstock"), "synth", "v3-tiny", self.model, *options],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self.model

    def make_dummies(self):
        """Programs with dummies for the servers; returns the folder."""
        bin_ = os.path.join(self.path, "bin")
        os.mkdir(bin_)
        for program in ("penstock", "init", "loader", "scribe"):
            shutil.copy(os.path.join(BIN, program), bin_)
        for program in SERVERS:
            shutil.copy(os.path.join(ROOT, "build", "test", "dummy_server"), os.path.join(bin_, program))
        return bin_


class Node:
    def __init__(self, bin_, model, *options, env=None, **popen):
        # two descriptions: reading must not move where the node writes
        self.log = tempfile.NamedTemporaryFile("ab", prefix="penstock.log.")
        full = dict(os.environ, **(env or {}))
        self.process = subprocess.Popen([os.path.join(bin_, "penstock"), "run", model, *options, *SANDBOX], stderr=self.log,
                                        stdout=self.log, env=full, **popen)
        self.pid = self.process.pid

    def output(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def wait_for(self, text, seconds=60):
        """Whether the node has printed `text` before it ended or time was up; if it did neither, says where everybody waits."""
        if not wait_until(lambda: text in self.output() or self.process.poll() is not None, seconds):
            print(f"# no '{text}' within {seconds} s\n# " + "\n# ".join(self.waiting()), file=sys.stderr, flush=True)
        return text in self.output()

    def waiting(self):
        """A line for each thread of the node: its state, the kernel's function and the system call that it waits in."""
        lines = []
        for program, pid in [("init", self.pid), *self.children().items()]:
            for task in sorted(os.listdir(f"/proc/{pid}/task")):
                said = [program, task]
                for name in ("stat", "wchan", "syscall"):
                    try:
                        with open(f"/proc/{pid}/task/{task}/{name}") as f:
                            text = f.read().strip()
                        said.append(text.rsplit(")", 1)[1].split()[0] if name == "stat" else text)
                    except OSError as e:
                        said.append(e.strerror)
                lines.append(" ".join(said))
        return lines

    def stop(self, number=signal.SIGTERM, seconds=20):
        """Sends the signal and returns the exit status; None if it did not end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None

    def children(self):
        """{program: pid} of the servers, less their spares: of two processes of a program the one of the lower generation serves."""
        found = {}
        for program, generation, pid in sorted(self.processes(), reverse=True):
            found[program] = pid
        return found

    def processes(self):
        """[(program, generation, pid)] of the servers and their spares; a server without spares has generation 0."""
        return processes_of(self.pid)

    def cpu_ticks(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])


def processes_of(parent):
    """[(program, generation, pid)] of the living children of a process."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                stat = f.read()
            if int(stat.rsplit(")", 1)[1].split()[1]) == parent and stat.rsplit(")", 1)[1].split()[0] != "Z":
                with open(f"/proc/{pid}/cmdline") as f:
                    words = f.read().split("\0")
                found.append((os.path.basename(words[0]), int(words[1]) if words[1:] and words[1].isdigit() else 0, int(pid)))
        except (OSError, IndexError):
            pass
    return found


def runs_as(pid, name, argument):
    """Whether a process was started as program `name` with this first argument, and runs."""
    try:
        with open(f"/proc/{pid}/cmdline") as f, open(f"/proc/{pid}/stat") as state:
            return f.read().split("\0")[:2] == [name, argument] and state.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def child_of(init, name, argument, seconds=5):
    """The pid of init's short-lived child of that name and argument, at once; None if it was missed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open(f"/proc/{init}/task/{init}/children") as f:
                for pid in map(int, f.read().split()):
                    if runs_as(pid, name, argument):
                        return pid
        except OSError:
            return None
    return None


def crash(pid):
    """A fault of the process itself (a signal sent from outside does not reach the first process of a PID namespace): puts an instruction that
    does not exist where its first thread sleeps, and makes that go on. As root only."""
    words = ["running"]
    while words == ["running"]:
        with open(f"/proc/{pid}/syscall") as f:
            words = f.read().split()
    pc = int(words[-1], 16)
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as f:
        f.seek(pc - 2)  # the call itself is made again
        f.write(b"\x0f\x0b\x0f\x0b")
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(path)
    return s


def receive(s, n):
    """Exactly n bytes, or what came before the end."""
    got = b""
    while len(got) < n:
        part = s.recv(n - len(got))
        if not part:
            break
        got += part
    return got


def graph():
    """Roles and objects of ipc/graph.h: ([(role, program)], [(object, writer, {readers})])."""
    with open(os.path.join(ROOT, "ipc", "graph.h")) as f:
        text = f.read().replace("\\\n", " ")
    roles = re.findall(r'X\((\w+), "(\w+)",', text[text.index("define ROLE_LIST"):text.index("define ROLE_ENUM")])
    rows = text[text.index("define OBJECT_LIST"):text.index("define OBJECT_ENUM")]
    objects = [(name, writer, set(re.findall(r"BY\((\w+)\)", readers)))
               for name, writer, readers in re.findall(r'X\((\w+),\s*(\w+),\s*([^"]*?),\s*"', rows)]
    return roles, objects
