"""Asks a running node over its Unix socket, with OpenAI's API and nothing but Python's library."""

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOCKET = "/run/penstock/penstock.sock"
MAX_TOKENS = 400
PLACES = 8  # requests a node runs at once by default
TIMEOUT_SECONDS = 600
START_SECONDS = 60


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def messages_of(sample):
    messages = []
    for question, answer in sample.history:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": sample.question}]


def post(path, endpoint, body):
    """The node's reply to a POST. Raises OSError, or RuntimeError with the node's own words."""
    connection = UnixConnection(path)
    try:
        connection.request("POST", endpoint, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        reply = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{endpoint}: status {response.status}: {reply}")
    return reply


def ask(path, sample, thinking, max_tokens):
    """The content of the node's greedy reply, "" for one that was cut off."""
    body = {"messages": messages_of(sample), "temperature": 0, "max_tokens": max_tokens, "thinking": thinking}
    choice = post(path, "/v1/chat/completions", body)["choices"][0]
    return choice["message"]["content"] or "" if choice["finish_reason"] == "stop" else ""


def ask_all(path, samples, thinking, max_tokens=MAX_TOKENS, places=PLACES):
    """The replies in the samples' order, asked `places` at once. Raises OSError or RuntimeError for the first request
    that failed."""
    with ThreadPoolExecutor(places) as pool:
        return list(pool.map(lambda sample: ask(path, sample, thinking, max_tokens), samples))


@contextlib.contextmanager
def running(penstock, model, *options):
    """A node of the program `penstock` on a model, for as long as the block lasts; its value is the socket."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "node.sock"
        command = [penstock, "run", model, "--socket", path, *options]
        node = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            begin = time.monotonic()
            while not path.exists() and node.poll() is None and time.monotonic() - begin < START_SECONDS:
                time.sleep(0.05)
            yield str(path)
        finally:
            node.terminate()
            node.wait()
