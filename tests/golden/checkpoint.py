"""Reads and writes checkpoint directories whole, for tests that damage them. Standard library only.

    files = read("tests/golden/models/v3")       {name: bytes}, expect/ left out
    t = tensors(files["model.safetensors"])      {name: Tensor}, in the order of the header
    files["model.safetensors"] = pack(t)
"""
import json
import os
import struct
from dataclasses import dataclass, field


@dataclass
class Tensor:
    dtype: str
    shape: list
    data: bytes
    extra: dict = field(default_factory=dict)  # replaces or adds keys of the header's entry


def read(path):
    return {n: open(os.path.join(path, n), "rb").read()
            for n in sorted(os.listdir(path)) if os.path.isfile(os.path.join(path, n))}


def write(files, path):
    """Values may be bytes, or a function that makes the file at the path it is given."""
    os.makedirs(path)
    for name, data in files.items():
        target = os.path.join(path, name)
        if callable(data):
            data(target)
        else:
            with open(target, "wb") as f:
                f.write(data)


def header(data):
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + n]), 8 + n


def tensors(data):
    h, base = header(data)
    return {k: Tensor(v["dtype"], v["shape"], data[base + v["data_offsets"][0]:base + v["data_offsets"][1]])
            for k, v in h.items() if k != "__metadata__"}


def join(text, data):
    """A file from the header's bytes and the data."""
    return struct.pack("<Q", len(text)) + text + data


def entries(ts):
    """The header as an object, and the data."""
    h, data = {}, b""
    for name, t in ts.items():
        h[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [len(data), len(data) + len(t.data)], **t.extra}
        data += t.data
    return h, data


def pack(ts, metadata=None):
    h, data = entries(ts)
    if metadata is not None:
        h = {"__metadata__": metadata, **h}
    text = json.dumps(h, separators=(",", ":")).encode()
    return join(text + b" " * (-len(text) % 8), data)
