#!/usr/bin/env python3
# time limit: 300 s
"""A machine that boots our disk: UEFI firmware in QEMU (emulated, so slow), an NVMe drive, the relay on this side. It answers what this host
answers, survives a killed server, falls back from a new program that does not answer, obeys its power button, never computes with a flipped
bit. Needs what `./build.sh boot` installs; says so where it is missing."""
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
import tempfile
import time

from node import BIN, ROOT, done, ok

PENSTOCK = os.path.join(BIN, "penstock")
NODE = os.path.join(ROOT, "build", "node")
DEMO = os.path.join(ROOT, "images", "demo")
CODE, VARS = (f"/usr/share/OVMF/OVMF_{name}_4M.fd" for name in ("CODE", "VARS"))
QUESTION = "What is Penstock?"


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def run(*args, timeout=60, check=True, **more):
    return subprocess.run([PENSTOCK, *args], capture_output=True, text=True, timeout=timeout, check=check, **more)


def ask(path, *options, timeout=100):
    p = subprocess.run([PENSTOCK, "ask", "--socket", path, "--seed", "7", *options, QUESTION], capture_output=True, text=True, timeout=timeout)
    return p.stdout.strip() or p.stderr.strip()


def wait(condition, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


class Machine:
    """QEMU and the relay. With `kernel` that is booted, without firmware."""

    def __init__(self, folder, disk, kernel=None, line=""):
        os.makedirs(folder)
        self.path = folder
        self.serial, self.socket, self.relay_log = (os.path.join(folder, n) for n in ("serial", "s", "relay"))
        args = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768",
                "-display", "none", "-nic", "none", "-serial", f"file:{self.serial}", "-qmp", "unix:qmp,server=on,wait=off",
                "-drive", f"if=none,id=d,format=raw,file={disk},snapshot=on", "-device", "nvme,drive=d,serial=penstock",
                "-device", "virtio-serial-pci", "-chardev", "socket,id=p,path=port,server=on,wait=off",
                "-device", "virtserialport,chardev=p,name=penstock"]
        if kernel:
            args += ["-kernel", kernel, "-initrd", os.path.join(NODE, "initrd"), "-append", "console=ttyS0 loglevel=5 printk.devkmsg=on panic=-1 " + line, "-no-reboot"]
        else:
            shutil.copy(VARS, os.path.join(folder, "vars"))
            args += ["-drive", f"if=pflash,format=raw,readonly=on,file={CODE}", "-drive", "if=pflash,format=raw,file=vars"]
        self.qemu = subprocess.Popen(args, cwd=folder, stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "qemu"), "w"))
        self.relay = subprocess.Popen([PENSTOCK, "relay", "port", "--socket", self.socket], cwd=folder, stdout=subprocess.DEVNULL,
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
        return run("node", *args, "--socket", self.socket, **more)

    def end(self):
        for p in (self.relay, self.qemu):
            if p.poll() is None:
                p.kill()
            p.wait()


def metric(path, name):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = b""
    while piece := s.recv(65536):
        text += piece
    return sum(float(x) for x in re.findall(rf"^penstock_{name}(?:_total)?(?:{{[^}}]*}})? ([0-9.e+]+)$".encode(), text, re.M))


def leave_in_the_middle(path):
    """A client that goes after its first bytes."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    body = json.dumps({"prompt": "1 2 3", "max_tokens": 2000, "stream": True, "temperature": 1}).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    s.recv(1000)
    s.close()


def flip_experts(disk, off):
    """One bit in each expert of the store that begins at byte `off`."""
    with open(disk, "r+b") as f:
        f.seek(off)
        header = f.read(4096)
        # magic, version, complete, sum; then the geometry: four u32, data_off, leaves, end, four areas of five u64
        data_off = struct.unpack_from("<Q", header, 48 + 16)[0]
        begin, bytes_, stride, count = struct.unpack_from("<4Q", header, 48 + 40 + 3 * AREA_BYTES)
        for i in range(count):
            at = off + data_off + begin + i * stride + bytes_ // 2
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 4]))


AREA_BYTES = 40


def main(folder):
    disk, again = os.path.join(folder, "disk"), os.path.join(folder, "again", "disk")
    os.mkdir(os.path.dirname(again))
    made = run("image", DEMO, disk, "--node", f"{NODE}/node.efi").stdout
    run("image", DEMO, again, "--node", f"{NODE}/node.efi")
    ok(subprocess.run(["cmp", disk, again]).returncode == 0, "two images made in two folders are the same bytes")
    model_bytes, model_off = map(int, re.search(r"penstock model\s+(\d+) bytes at (\d+)", made).groups())
    root = re.search("root ([0-9a-f]{64})", made)[1]
    rest = os.path.getsize(disk) - model_bytes
    kernel = glob.glob(f"{NODE}/debian/boot/vmlinuz-*")[0]
    programs = sum(os.path.getsize(f"{NODE}/root/{p}") for p in ("init", "loader", "gateway", "router", "mla", "experts", "scribe"))
    ok(rest <= 24e6 and programs <= 4e6, "the image less the model has at most 24 MB, ours of it at most 4",
       f"{rest} and {programs} bytes")
    print(f"# image less model {rest / 1e6:.1f} MB with room for two programs; program {os.path.getsize(f'{NODE}/node.efi') / 1e6:.1f} MB: "
          f"kernel {os.path.getsize(kernel) / 1e6:.1f}, our servers {programs / 1e6:.1f} (before compression)")
    if shutil.which("fsck.fat"):
        with open(disk, "rb") as f, open(os.path.join(folder, "esp"), "wb") as out:
            f.seek(1 << 20)
            out.write(f.read(int(re.search(r"penstock a\s+(\d+)", made)[1])))
        p = subprocess.run(["fsck.fat", "-n", os.path.join(folder, "esp")], capture_output=True, text=True)
        ok(p.returncode == 0, "the EFI partition is a sound FAT volume", p.stdout + p.stderr)

    store = os.path.join(folder, "store")
    run("pack", DEMO, store)
    p = run("run", store, "--root", "0" * 64, "--socket", os.path.join(folder, "none"), check=False)
    ok(p.returncode == 5 and root in p.stderr, "a store of another root is refused, with status 5", p.stderr)
    bad = os.path.join(folder, "bad")
    run("image", DEMO, bad, "--update", "--node", f"{NODE}/node.efi", "--arguments", "rdinit=/none panic=1")

    machine = Machine(os.path.join(folder, "a"), disk)
    host = subprocess.Popen([PENSTOCK, "run", store, "--socket", os.path.join(folder, "h")], stderr=subprocess.DEVNULL)
    want = {n: ask(os.path.join(folder, "h"), "--max-tokens", str(n)) for n in (16, 40)} \
        if wait(lambda: os.path.exists(os.path.join(folder, "h")), 20) else {}
    host.terminate()
    host.wait()
    try:
        ok(machine.wait_printed("the known answer has come", 150), "it boots from UEFI to the known answer", machine.printed()[-2000:])
        print("# " + "".join(re.findall("the known answer has come.*", machine.printed())[:1]))
        ok(wait(lambda: "the firmware starts this program from now on" in machine.printed(), 20), "and is first in the boot order then")
        s = machine.socket
        got = ask(s, "--max-tokens", "16")
        ok(got == want.get(16), "it answers over virtio-serial what the host answers", f"{got!r}\n{want.get(16)!r}")
        several = [subprocess.Popen([PENSTOCK, "ask", "--socket", s, "--seed", "7", "--max-tokens", "16", QUESTION], stdout=subprocess.PIPE,
                                    text=True) for _ in range(3)]
        ok([p.communicate(timeout=60)[0].strip() for p in several] == [want.get(16)] * 3, "three clients at once get the same")
        leave_in_the_middle(s)
        ok(wait(lambda: metric(s, "running") == 0, 20), "a client that goes takes its request with it")
        long = subprocess.Popen([PENSTOCK, "ask", "--socket", s, "--seed", "7", "--max-tokens", "40", QUESTION], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        for victim in ("experts", "gateway"):
            machine.node("kill", victim)
        text = long.communicate(timeout=60)[0].strip()
        ok(text == want.get(40) and metric(s, "restarts") == 2, "a reply goes on although two servers are killed", f"{text!r}")
        listed = machine.node("list").stdout
        private = int(re.search(r"private memory of all processes: (\d+) kB", listed)[1])
        ok(private <= 64 << 10, "the processes have at most 64 MB of their own", f"{private} kB")
        print(f"# private memory of all processes: {private / 1024:.1f} MiB")
        ok("socket:" not in re.sub(r"^\d+ init .*?(?=^\d+ )", "", listed, flags=re.M | re.S), "no server has a socket", listed[-3000:])
        ok(all(re.search(rf" {h.split()[0]} /", listed) for h in
               (subprocess.run(["sha256sum", f"{NODE}/root/{p}"], capture_output=True, text=True).stdout for p in ("init", "router", "experts"))),
           "the list of the image has the hashes of the programs in it")

        machine.node("update", bad)
        machine.node("restart")
        ok(machine.wait_printed("Kernel panic", 100), "a new program is started, once", machine.printed()[-1500:])
        ok(wait(lambda: machine.printed().count("the known answer has come") == 2, 120), "it does not answer, and the old one is back",
           machine.printed()[-1500:])
        got = ask(s, "--max-tokens", "16")
        ok(got == want.get(16), "the relay has found it again", got)
        machine.press_power()
        try:
            machine.qemu.wait(40)
        except subprocess.TimeoutExpired:
            pass
        ok(machine.qemu.poll() == 0 and "reboot: Power down" in machine.printed(), "the power button ends it cleanly", machine.printed()[-800:])
    finally:
        machine.end()

    flip_experts(disk, model_off)
    machine = Machine(os.path.join(folder, "b"), disk, kernel, "penstock.root=" + root)
    try:
        machine.wait_printed("penstock: ready", 60)
        got = ask(machine.socket, "--max-tokens", "16", timeout=40)
        ok("expert" in got and machine.wait_printed("damaged: its hash", 10), "a flipped bit is found, named, and not computed with",
           got + "\n" + machine.printed()[-1500:])
    finally:
        machine.end()
    done()


if not shutil.which("qemu-system-x86_64") or not os.path.exists(CODE):
    skip("no QEMU with OVMF here: `./build.sh boot` installs them where apt may")
if not os.path.exists(f"{NODE}/node.efi"):
    skip("build/node/node.efi is not there: `./build.sh image` makes it where apt can fetch Debian's kernel")
if not glob.glob(f"{DEMO}/*.safetensors"):
    skip("images/demo has no weights")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
with tempfile.TemporaryDirectory(prefix="penstock.") as scratch:
    main(scratch)
