"""Driving a node of real servers over its Unix socket: requests, streams, counters, deaths. For the tests in this folder and in tests/bench."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from node import BIN, SERVERS, Node, wait_until


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
    r = subprocess.run([os.path.join(BIN, "penstock"), "run", model, "--memory", "1M", *options], capture_output=True, text=True, timeout=60)
    found = re.search(r"Raise --memory to (\d+)M", r.stderr)
    return int(found[1]) if found and r.returncode == 4 else None


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


class Live(Node):
    """`penstock run` on a model; ready when this returns, or `failed` says why not."""

    def __init__(self, path, model, *options, seconds=60):
        if os.path.exists(path):
            os.unlink(path)
        super().__init__(BIN, model, "--socket", path, *options)
        self.path = path
        self.failed = None if self.wait_for("penstock: ready", seconds) else self.output()
        if not self.failed:
            self.failed = None if wait_until(lambda: set(SERVERS) <= set(self.children()), 10) else "servers are missing"

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
