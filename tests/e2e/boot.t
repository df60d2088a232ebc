#!/usr/bin/env python3
# time limit: 900 s
"""A machine that boots our disk: UEFI firmware in QEMU (emulated, so slow), an NVMe drive, the relay on this side. It answers what this host
answers, survives a killed server, falls back from a new program that does not answer, obeys its power button. tests/e2e/boot_flip.t has damage,
tests/e2e/boot_ways.t other drives and other ways out."""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from machine import DEMO, NODE, PENSTOCK, QUESTION, Machine, ask, kernel, metric, metrics, need_machine, run, said, start_ask, wait
from node import done, ok


def leave_in_the_middle(path):
    """A client that goes after its first bytes."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    body = json.dumps({"prompt": "1 2 3", "max_tokens": 2000, "stream": True, "temperature": 1}).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    s.recv(1000)
    s.close()


PROGRAMS = ("init", "loader", "gateway", "router", "mla", "experts", "scribe")


def check_list(listed):
    """`penstock node list`: what the image holds, what runs, what it has open."""
    files = dict(re.findall(r"^\d+ ([0-9a-f]{64}) (\S+)$", listed, re.M))
    names = sorted(files.values())
    print(f"# the image holds {len(names)} files")
    shipped = [n for n in names if n.startswith("/")]
    ok(sorted(n for n in shipped if not n.startswith("/modules/")) == sorted(f"/{p}" for p in PROGRAMS),
       "the image has our seven programs, and nobody to log in with", names)
    ok(len(names) == len(shipped) + 2 and all(n.endswith(".ko") or n == "/modules/order" for n in shipped if n.startswith("/modules/")),
       "else a kernel, its stub, and modules", names)
    nets = [m for m in shipped if glob.glob(f"{NODE}/debian/lib/modules/*/kernel/drivers/net/**/{os.path.basename(m)}", recursive=True)]
    ok(not nets, "none of the modules is a network's", nets)
    ok(all(subprocess.run(["sha256sum", f"{NODE}/root{n}"], capture_output=True, text=True).stdout.split()[0] in files for n in shipped),
       "their hashes are those of the files it was built from")
    processes = re.findall(r"^\d+ (\w+) \d+ \d+ ([0-9a-f]{16}) (yes|no)$", listed, re.M)
    ok({p[0] for p in processes} == set(PROGRAMS) - {"loader"}, "what runs is ours alone", processes)
    ok(all(p[2] == "yes" and (p[0] == "init" or int(p[1], 16) == 0) for p in processes),
       "every process has its system calls filtered, and none but init a capability", processes)
    ok("socket:" not in re.sub(r"^\d+ init .*?(?=^\d+ )", "", listed, flags=re.M | re.S), "no server has a socket", listed[-3000:])
    private = int(re.search(r"private memory of all processes: (\d+) kB", listed)[1])
    ok(private <= 64 << 10, "the processes have at most 64 MB of their own", f"{private} kB")
    print(f"# private memory of all processes: {private / 1024:.1f} MiB")


def main(folder):
    disk, again = os.path.join(folder, "disk"), os.path.join(folder, "again", "disk")
    os.mkdir(os.path.dirname(again))
    made = run("image", DEMO, disk, "--node", f"{NODE}/node.efi").stdout
    larger = os.path.join(folder, "larger")
    shutil.copy(disk, larger)
    os.truncate(larger, os.path.getsize(disk) + (64 << 20))  # as on a drive
    machine = Machine(os.path.join(folder, "a"), [larger])  # what follows does not need it yet
    try:
        whole(folder, disk, again, made, machine)
    finally:
        machine.end()


def whole(folder, disk, again, made, machine):
    run("image", DEMO, again, "--node", f"{NODE}/node.efi")
    ok(subprocess.run(["cmp", disk, again]).returncode == 0, "two images made in two folders are the same bytes")
    model_bytes = int(re.search(r"penstock model\s+(\d+) bytes", made)[1])
    root = re.search("root ([0-9a-f]{64})", made)[1]
    rest = os.path.getsize(disk) - model_bytes
    programs = sum(os.path.getsize(f"{NODE}/root/{p}") for p in PROGRAMS)
    ok(rest <= 24e6 and programs <= 4e6, "the image less the model has at most 24 MB, ours of it at most 4",
       f"{rest} and {programs} bytes")
    print(f"# image less model {rest / 1e6:.1f} MB with room for two programs; program {os.path.getsize(f'{NODE}/node.efi') / 1e6:.1f} MB: "
          f"kernel {os.path.getsize(kernel()) / 1e6:.1f}, our servers {programs / 1e6:.1f} (before compression)")
    if shutil.which("fsck.fat"):
        with open(disk, "rb") as f, open(os.path.join(folder, "esp"), "wb") as out:
            f.seek(1 << 20)
            out.write(f.read(int(re.search(r"penstock a\s+(\d+)", made)[1])))
        p = subprocess.run(["fsck.fat", "-n", os.path.join(folder, "esp")], capture_output=True, text=True)
        ok(p.returncode == 0, "the EFI partition is a sound FAT volume", p.stdout + p.stderr)

    store, host_socket = os.path.join(folder, "store"), os.path.join(folder, "h")
    run("pack", DEMO, store)
    p = run("run", store, "--root", "0" * 64, "--socket", os.path.join(folder, "none"), check=False)
    ok(p.returncode == 5 and root in p.stderr, "a store of another root is refused, with status 5", p.stderr)
    bad = os.path.join(folder, "bad")
    run("image", DEMO, bad, "--update", "--node", f"{NODE}/node.efi", "--arguments", "rdinit=/none panic=1")
    host = subprocess.Popen([PENSTOCK, "run", store, "--socket", host_socket], stderr=subprocess.DEVNULL)
    want = {n: ask(host_socket, "--max-tokens", str(n)) for n in (16, 40)} if wait(lambda: os.path.exists(host_socket), 20) else {}
    host.terminate()
    host.wait()

    ok(machine.wait_printed("the known answer has come", 100), "it boots from UEFI to the known answer", machine.printed()[-2000:])
    print(f"# after {time.time() - machine.started:.0f} s; " + "".join(re.findall("the known answer has come.*", machine.printed())[:1]))
    ok(wait(lambda: "the firmware starts this program from now on" in machine.printed(), 20), "and is first in the boot order then")
    s = machine.socket
    got = ask(s, "--max-tokens", "16")
    ok(got == want.get(16), "it answers over virtio-serial what the host answers", f"{got!r}\n{want.get(16)!r}")
    several = [start_ask(s, "--max-tokens", "16") for _ in range(3)]
    ok([said(p) for p in several] == [want.get(16)] * 3, "three clients at once get the same")
    leave_in_the_middle(s)
    ok(wait(lambda: metric(metrics(s), "running") == 0, 20), "a client that goes takes its request with it")
    long = start_ask(s, "--max-tokens", "40")
    time.sleep(1)
    for victim in ("experts", "gateway"):
        machine.node("kill", victim)
    text = said(long)
    ok(text == want.get(40) and metric(metrics(s), "restarts") == 2, "a reply goes on although two servers are killed", f"{text!r}")
    ok("nvme0n1 is larger than the image" in machine.printed(), "the partition table's copy goes to the end of the drive")
    check_list(machine.node("list").stdout)

    machine.node("update", bad)
    machine.node("restart")
    ok(machine.wait_printed("Kernel panic", 100), "a new program is started, once", machine.printed()[-1500:])
    ok(wait(lambda: machine.printed().count("the known answer has come") == 2, 120), "it does not answer, and the old one is back",
       machine.printed()[-1500:])
    got = ask(s, "--max-tokens", "16")
    ok(got == want.get(16), "the relay has found it again", got)
    ok(machine.printed().count("is larger than the image") == 1, "and the table is as it must be", machine.printed()[-800:])
    machine.press_power()
    ok(machine.ended(40) == 0 and "reboot: Power down" in machine.printed(), "the power button ends it cleanly", machine.printed()[-800:])
    done()


need_machine(firmware=True)
with tempfile.TemporaryDirectory(prefix="penstock.") as scratch:
    main(scratch)
