"""Driving a node of real servers over its Unix socket: requests, streams, counters, deaths. For the tests in this folder and in tests/bench."""
import atexit
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from node import BIN, SANDBOX, SERVERS, Node, wait_until


def talkative(model):
    """Makes replies of a synth model reach their limit: its end token becomes an id that no text has, so it is never sampled."""
    path = os.path.join(model, "generation_config.json")
    with open(path) as f:
        config = json.load(f)
    with open(os.path.join(model, "config.json")) as f:
        config["eos_token_id"] = json.load(f)["vocab_size"] - 1
    with open(path, "w") as f:
        json.dump(config, f)
    return model


def least_memory(model, *options):
    """MiB that a refused node says it needs with these options."""
    r = subprocess.run([os.path.join(BIN, "penstock"), "run", model, "--memory", "1M", *options, *SANDBOX], capture_output=True, text=True, timeout=60)
    found = re.search(r"Raise --memory to (\d+)M", r.stderr)
    return int(found[1]) if found and r.returncode == 4 else None


def drive_bytes(path):
    """Bytes that the drive below a path has read since boot, by the kernel's count; None if the path lies on no drive."""
    dev = os.stat(path).st_dev
    try:
        with open(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}/stat") as f:
            return int(f.read().split()[2]) * 512
    except OSError:
        return None


class Connection(http.client.HTTPConnection):
    def __init__(self, path, seconds=120):
        super().__init__("penstock", timeout=seconds)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    """What a client sees of a completion, less what differs between any two requests (id, time, which tokens were cached)."""

    def __init__(self, text, finish, usage, raw=b""):
        self.text, self.finish, self.raw = text, finish, raw
        self.prompt_tokens, self.tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        self.cached = usage.get("prompt_tokens_details", {}).get("cached_tokens")

    def __eq__(self, other):
        return (self.text, self.finish, self.tokens) == (other.text, other.finish, other.tokens)

    def __repr__(self):
        return f"<{self.finish}, {self.tokens} tokens, {self.cached} of {self.prompt_tokens} cached, {self.text[:60]!r}>"


class Stream(threading.Thread):
    """A streamed completion, read by a thread of its own. `reply` is there after join(); `error` if the stream broke."""

    def __init__(self, path, body):
        super().__init__(daemon=True)
        self.path, self.body = path, dict(body, stream=True, stream_options={"include_usage": True})
        self.events, self.times, self.reply, self.error = [], [], None, None
        self.start()

    def run(self):
        try:
            self.read()
        except (OSError, ValueError, http.client.HTTPException) as e:
            self.error = f"{type(e).__name__}: {e}"

    def read(self):
        c = Connection(self.path)
        c.request("POST", "/v1/completions", json.dumps(self.body), {"Content-Type": "application/json"})
        r = c.getresponse()
        if r.status != 200:
            raise ValueError(f"status {r.status}: {r.read()[:300]}")
        raw = b""
        while line := r.readline():
            if line.startswith(b":"):
                r.readline()  # a comment and its empty line, which a busy machine sees more of
                continue
            raw += line
            if line.startswith(b"data: {"):
                self.times.append(time.monotonic())
                self.events.append(json.loads(line[6:]))
        c.close()
        errors = [e["error"] for e in self.events if "error" in e]
        if errors or not raw.endswith(b"data: [DONE]\n\n"):
            raise ValueError(f"{errors or 'no [DONE]'}")
        choices = [e["choices"][0] for e in self.events if e["choices"]]
        raw = re.sub(rb'"created":\d+', b"", re.sub(rb'"cmpl-[^"]*"', b"", re.sub(rb'"cached_tokens":\d+', b"", raw)))
        self.reply = Reply("".join(x["text"] for x in choices), choices[-1]["finish_reason"], self.events[-1]["usage"], raw)

    def wait_for_events(self, n, seconds=60):
        """Whether n events have come while the stream goes on."""
        return wait_until(lambda: len(self.events) >= n or not self.is_alive(), seconds) and len(self.events) >= n

    def result(self, seconds=120):
        self.join(seconds)
        if self.is_alive():
            self.error = f"stuck after {len(self.events)} events"
        return self.reply


class Cgroup:
    """A memory cgroup below our own, for one node: the kernel's peak of everything it is charged for. `path` is None where none can be made."""

    def __init__(self):
        self.path = None
        with open("/proc/self/cgroup") as f:
            lines = [line.rstrip("\n").split(":", 2) for line in f]
        for root, peak, own in [("/sys/fs/cgroup", "memory.peak", [x[2] for x in lines if x[0] == "0"]),
                                ("/sys/fs/cgroup/memory", "memory.max_usage_in_bytes", [x[2] for x in lines if x[1] == "memory"])]:
            for folder in own:
                path = os.path.join(root + folder, f"penstock-test-{os.getpid()}")
                try:
                    os.mkdir(path)
                except OSError:
                    continue
                if os.path.exists(os.path.join(path, peak)):
                    self.path, self.peak_file = path, os.path.join(path, peak)
                    return
                os.rmdir(path)

    def enter(self):
        if self.path:
            with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
                f.write(str(os.getpid()))

    def peak(self):
        with open(self.peak_file) as f:
            return int(f.read())

    def close(self):
        """Pages of files that were charged to it move to its parent."""
        if self.path and wait_until(lambda: not open(os.path.join(self.path, "cgroup.procs")).read(), 5):
            os.rmdir(self.path)


class PssPeak(threading.Thread):
    """The largest sum of Pss over a node's processes, looked at ten times a second."""

    def __init__(self, node, period=0.1):
        super().__init__(daemon=True)
        self.node, self.period, self.peak, self.stopped = node, period, 0, False
        self.start()

    def now(self):
        total = 0
        for pid in [self.node.pid, *self.node.children().values()]:
            try:
                with open(f"/proc/{pid}/smaps_rollup") as f:
                    total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
            except OSError:
                pass
        return total

    def run(self):
        while not self.stopped and self.node.process.poll() is None:
            self.peak = max(self.peak, self.now())
            time.sleep(self.period)

    def stop(self):
        self.stopped = True
        self.join()
        return self.peak


class Live(Node):
    """`penstock run` on a model; ready when this returns, or `failed` says why not. With a Cgroup the node runs in it."""

    def __init__(self, path, model, *options, seconds=60, cgroup=None):
        self.begin(path, model, *options, cgroup=cgroup)
        self.failed = None if self.wait_for("penstock: ready", seconds) else self.output()
        if not self.failed:
            self.failed = None if wait_until(lambda: set(SERVERS) <= set(self.children()), seconds) else "servers are missing"

    def begin(self, path, model, *options, cgroup=None):
        """Starts the node and waits for nothing."""
        if os.path.exists(path):
            os.unlink(path)
        Node.__init__(self, BIN, model, "--socket", path, *options, preexec_fn=cgroup.enter if cgroup else None)
        self.path = path
        atexit.register(lambda: self.process.poll() is None and self.process.kill())

    def get(self, path, body=None):
        """(status, bytes)"""
        c = Connection(self.path)
        try:
            if body is None:
                c.request("GET", path)
            else:
                c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def complete(self, prompt, max_tokens, **options):
        status, data = self.get("/v1/completions", dict(options, prompt=prompt, max_tokens=max_tokens))
        d = json.loads(data)
        if status != 200:
            return Reply(f"status {status}: {data[:300]}", "error", {})
        return Reply(d["choices"][0]["text"], d["choices"][0]["finish_reason"], d["usage"])

    def stream(self, prompt, max_tokens, **options):
        return Stream(self.path, dict(options, prompt=prompt, max_tokens=max_tokens))

    def metrics(self):
        """{counter: sum over roles}, names without penstock_ and _total."""
        total = {}
        for line in self.get("/metrics")[1].decode().splitlines():
            if m := re.match(r"penstock_(\w+?)(?:_total)?\{role=\"\w+\"\} (\d+)", line):
                total[m[1]] = total.get(m[1], 0) + int(m[2])
        return total

    def kill(self, *programs):
        """kill -9, all at once. The pids that were killed."""
        children = self.children()
        pids = [children[p] for p in programs if p in children]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return pids

    def io(self, program):
        """/proc/PID/io of a server."""
        with open(f"/proc/{self.children()[program]}/io") as f:
            return {key: int(value) for key, value in (line.split(": ") for line in f)}

    def zombies(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                if int(fields[1]) == self.pid and fields[0] == "Z":
                    found.append(int(pid))
            except (OSError, IndexError):
                pass
        return found

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def maps(self):
        with open(f"/proc/{self.pid}/maps") as f:
            return len(f.readlines())
