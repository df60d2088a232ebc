"""Virtual machines that boot our disks, for the tests and measurements that need one: QEMU (emulated, so slow), NVMe drives, the relay on this
side. Needs what `./build.sh boot` installs; need_machine says so where it is missing.

Waits end as soon as what is waited for has come; their limits are those of a machine on which six others work (PATIENCE)."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from node import BIN, ROOT

PENSTOCK = os.path.join(BIN, "penstock")
NODE = os.path.join(ROOT, "build", "node")
DEMO = os.path.join(ROOT, "images", "demo")
CODE, VARS = (f"/usr/share/OVMF/OVMF_{name}_4M.fd" for name in ("CODE", "VARS"))
QUESTION = "What is Penstock?"
PATIENCE = 4
# what a kernel that QEMU loads itself is told: as the image's own line, but a panic ends the machine
LINE = "console=ttyS0 loglevel=5 printk.devkmsg=on panic=-1 oops=panic"


def need_machine(firmware=False):
    """Skips the whole test where no machine can be started."""
    missing = None
    if not shutil.which("qemu-system-x86_64") or firmware and not os.path.exists(CODE):
        missing = "no QEMU with OVMF here: `./build.sh boot` installs them where apt may"
    elif not os.path.exists(f"{NODE}/node.efi"):
        missing = "build/node/node.efi is not there: `./build.sh image` makes it where apt can fetch Debian's kernel"
    elif not glob.glob(f"{DEMO}/*.safetensors"):
        missing = "images/demo has no weights"
    if missing:
        print(f"1..0 # SKIP {missing}")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def kernel():
    return glob.glob(f"{NODE}/debian/boot/vmlinuz-*")[0]


def run(*args, timeout=60, check=True, **more):
    return subprocess.run([PENSTOCK, *args], capture_output=True, text=True, timeout=timeout * PATIENCE, check=check, **more)


def start_ask(path, *options):
    return subprocess.Popen([PENSTOCK, "ask", "--socket", path, "--seed", "7", *options, QUESTION], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def said(asking, timeout=100):
    """What an `ask` that was started has printed in the end."""
    try:
        return asking.communicate(timeout=timeout * PATIENCE)[0].strip()
    except subprocess.TimeoutExpired:
        asking.kill()
        return asking.communicate()[0].strip() + " ... and no end"


def ask(path, *options, timeout=100):
    return said(start_ask(path, *options), timeout)


def wait(condition, seconds):
    end = time.time() + seconds * PATIENCE
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


class Machine:
    """QEMU and the relay. `disks` are its NVMe drives, which it does not change. With `line` Debian's kernel is booted without firmware, with
    this command line and the node's initramfs, or another; `more` are further arguments of QEMU; `port` is what the relay is given."""

    def __init__(self, folder, disks, line=None, initrd=None, more=(), port="port"):
        os.makedirs(folder)
        self.path = folder
        self.serial, self.socket, self.relay_log = (os.path.join(folder, n) for n in ("serial", "s", "relay"))
        # without erms: an emulated processor clears memory byte by byte where the kernel believes that to be fast
        args = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,erms=off,fsrm=off", "-smp", "2", "-m", "768",
                "-display", "none", "-nic", "none", "-serial", f"file:{self.serial}", "-qmp", "unix:qmp,server=on,wait=off"]
        for i, disk in enumerate(disks):
            args += ["-drive", f"if=none,id=d{i},format=raw,file={disk},snapshot=on", "-device", f"nvme,drive=d{i},serial=penstock{i}"]
        if port == "port":
            args += ["-device", "virtio-serial-pci", "-chardev", "socket,id=p,path=port,server=on,wait=off",
                     "-device", "virtserialport,chardev=p,name=penstock"]
        if line is not None:
            args += ["-kernel", kernel(), "-initrd", initrd or os.path.join(NODE, "initrd"), "-append", f"{LINE} {line}", "-no-reboot"]
        else:
            shutil.copy(VARS, os.path.join(folder, "vars"))
            args += ["-drive", f"if=pflash,format=raw,readonly=on,file={CODE}", "-drive", "if=pflash,format=raw,file=vars"]
        self.started = time.time()
        self.qemu = subprocess.Popen([*args, *more], cwd=folder, stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "qemu"), "w"))
        self.relay = port and subprocess.Popen([PENSTOCK, "relay", port, "--socket", self.socket], cwd=folder, stdout=subprocess.DEVNULL,
                                               stderr=open(self.relay_log, "w"))

    def printed(self):
        try:
            with open(self.serial, errors="replace") as f:
                return re.sub("\x1b\\[[0-9;=]*[A-Za-z]", "", f.read())
        except FileNotFoundError:
            return ""

    def wait_printed(self, text, seconds):
        wait(lambda: text in self.printed() or self.qemu.poll() is not None, seconds)
        return text in self.printed()

    def press_power(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(os.path.join(self.path, "qmp"))
        f = s.makefile("rw")
        f.readline()
        for command in ("qmp_capabilities", "system_powerdown"):
            f.write(json.dumps({"execute": command}) + "\n")
            f.flush()
            f.readline()
        s.close()

    def node(self, *args, **more):
        p = run("node", *args, "--socket", self.socket, check=False, **more)
        if p.returncode:
            print("# node", *args, "ends with", p.returncode, p.stderr.strip(), file=sys.stderr, flush=True)
        return p

    def ended(self, seconds):
        """Its exit status, once it has switched itself off; None."""
        try:
            return self.qemu.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            return None

    def end(self):
        for p in filter(None, (self.relay, self.qemu)):
            if p.poll() is None:
                p.kill()
            p.wait()


def metrics(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * PATIENCE)
    s.connect(path)
    s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = b""
    while piece := s.recv(65536):
        text += piece
    return text.decode()


def metric(text, name):
    """The sum of a counter over all that have it."""
    return sum(float(x) for x in re.findall(rf"^penstock_{name}(?:_total)?(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M))


# The header of a packed store (model/store/pack_format.h): magic, version, complete, sum; then the geometry: four u32, data_off, leaves, end,
# four areas of off, bytes, stride, count, first_leaf; then table, zeros; part, pad, root.
GEOMETRY, AREAS, AREA_BYTES, ROOT_OFF = 48, 48 + 40, 40, 48 + 280 + 8
SETTINGS_OFF, TOPS_OFF = 4096, 8192
HASHES, CATALOG, RESIDENT, EXPERTS = range(4)


class Store:
    """A packed store of one part at byte `off` of a file: where its bytes are."""

    def __init__(self, path, off=0):
        self.path, self.off = path, off
        with open(path, "rb") as f:
            f.seek(off)
            header = f.read(4096)
        self.data = off + struct.unpack_from("<Q", header, GEOMETRY + 16)[0]
        self.areas = [struct.unpack_from("<4Q", header, AREAS + i * AREA_BYTES) for i in range(4)]
        self.root = header[ROOT_OFF:ROOT_OFF + 32].hex()

    def flip(self, *places):
        """Flips a bit of each byte, counted from the store's begin."""
        flip(self.path, *(self.off + at for at in places))

    def middle(self, area, item=0):
        """The byte in the middle of an item."""
        begin, size, stride, _ = self.areas[area]
        return self.data - self.off + begin + item * stride + size // 2

    def items(self, area):
        return self.areas[area][3]


def flip(path, *places):
    with open(path, "r+b") as f:
        for at in places:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 4]))


def cpio(files):
    """An initramfs, to be put behind another one: {path: bytes or the path of a file}; all of it may be executed."""
    out = bytearray()
    folders = sorted({"/".join(p.split("/")[:i]) for p in files for i in range(1, p.count("/") + 1)})
    for path, data in [*((p, None) for p in folders), *files.items(), ("TRAILER!!!", b"")]:
        if isinstance(data, str):
            with open(data, "rb") as f:
                data = f.read()
        name = path.encode() + b"\0"
        mode = 0o40755 if data is None else 0o100755
        body = data or b""
        fields = (0, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name
        out += bytes(-len(out) % 4) + body
        out += bytes(-len(out) % 4)
    return bytes(out)


def initrd_with(path, files):
    """Writes the node's initramfs with more in it; returns the path."""
    with open(path, "wb") as out, open(os.path.join(NODE, "initrd"), "rb") as f:
        out.write(f.read())
        out.write(bytes(-out.tell() % 4))
        out.write(cpio(files))
    return path
