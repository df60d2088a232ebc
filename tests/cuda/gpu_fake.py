"""The stand-in for libcuda (fake.c) as tests use it: copies of the file with other settings (fake.h)."""
import os
import re
import shutil
import struct

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.path.join(ROOT, "build", "test", "libcuda.so.1")
MAGIC = b"a stand-in for libcuda: settings:"
FIELDS = ("devices", "fail_call", "fail_after", "fail_result", "no_register", "major", "blocks")
OUT_OF_MEMORY, NO_DEVICE, ILLEGAL_ADDRESS = 2, 100, 700

with open(os.path.join(ROOT, "drivers", "cuda", "driver.h")) as f:
    CALLS = re.findall(r"^\tX\((\w+), (\w+),", f.read(), re.M)


def library(folder, memory=None, **settings):
    """A copy of the stand-in in `folder`; its path."""
    path = os.path.join(folder, f"libcuda{len(os.listdir(folder))}.so")
    shutil.copy(LIBRARY, path)
    os.chmod(path, 0o755)
    with open(path, "r+b") as f:
        data = f.read()
        at = next(m.start() for m in re.finditer(re.escape(MAGIC), data) if data[m.start() + 33:m.start() + 40] == bytes(7)) + 40
        if memory is not None:
            f.seek(at)
            f.write(struct.pack("<Q", memory))
        for name, value in settings.items():
            f.seek(at + 8 + 4 * FIELDS.index(name))
            f.write(struct.pack("<I", value))
    return path


def call(field):
    """The number of a call, by its field in driver.h."""
    return [name for name, _ in CALLS].index(field) + 1
