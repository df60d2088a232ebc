#!/usr/bin/env python3
# time limit: 600 s
"""A booted node as it is on metal, and in other virtual machines. One has the model striped over two NVMe drives of its own, and for its host two other
ways than virtio-serial: a serial line, and vsock (whose device QEMU has not everywhere: a child of the guest asks over the kernel's loopback,
tests/e2e/vsock_guest.c); Debian's kernel and the node's initramfs without firmware. The other boots from UEFI a drive with nothing but the program, and
finds the model on a whole second drive: how 671 B parameters would lie."""
import glob
import os
import re
import subprocess
import tempfile

from machine import DEMO, NODE, PENSTOCK, Machine, Store, ask, initrd_with, metric, metrics, need_machine, run, said, start_ask, wait
from node import ROOT, done, ok


def main(folder):
    halves = [os.path.join(folder, n) for n in ("one", "two")]
    run("pack", DEMO, *halves)
    root = Store(halves[0]).root
    host_socket = os.path.join(folder, "h")
    host = subprocess.Popen([PENSTOCK, "run", ",".join(halves), "--socket", host_socket], stderr=subprocess.DEVNULL)
    want = ask(host_socket, "--max-tokens", "16") if wait(lambda: os.path.exists(host_socket), 20) else None
    host.terminate()
    host.wait()
    loopback = glob.glob(f"{NODE}/debian/lib/modules/*/kernel/net/vmw_vsock/vsock_loopback.ko")[0]
    initrd = initrd_with(os.path.join(folder, "initrd"), {"vsock_guest": os.path.join(ROOT, "build", "test", "vsock_guest"), "penstock": PENSTOCK,
                                                          "modules/vsock_loopback.ko": loopback})
    machine = Machine(os.path.join(folder, "a"), reversed(halves), f"penstock.root={root} penstock.uart=ttyS1 rdinit=/vsock_guest", initrd,
                      ("-chardev", "socket,id=u,path=uart,server=on,wait=off", "-serial", "chardev:u"), port="uart")
    try:
        ok(machine.wait_printed("the known answer has come", 60), "a store that lies in two halves on two drives is found and started",
           machine.printed()[-2000:])
        ok("nvme0n1" in machine.printed() or "nvme1n1" in machine.printed(), "the console names the drive")
        got = ask(machine.socket, "--max-tokens", "16")
        ok(want and got == want, "over a serial line the node answers what the host answers", f"{got!r}\n{want!r}\n{open(machine.relay_log).read()}{machine.printed()[-1500:]}")
        several = [start_ask(machine.socket, "--max-tokens", "16") for _ in range(3)]
        ok([said(p) for p in several] == [want] * 3, "three clients at once get the same")
        ok(wait(lambda: metric(metrics(machine.socket), "running") == 0, 20), "and the line is clear afterwards")
        ok(wait(lambda: machine.printed().count("vsock: ") >= 2, 60), "over vsock it answers too", machine.printed()[-1500:])
        heard = re.findall(r"vsock: (.*?)\s*$", machine.printed(), re.M)
        ok([" ".join(h.split()) for h in heard] == [" ".join((want or "").split())] * 2, "and what the host answers", heard)
        listed = machine.node("list").stdout
        ok("/dev/ttyS1" in listed and "SHA-256" in listed, "what it holds and runs comes over the serial line", listed[-1500:])
        p = machine.node("off")
        ok(p.returncode == 0 and machine.ended(40) == 0, "and so does its end", machine.printed()[-800:])
    finally:
        machine.end()
    separate(folder, want)
    done()


def separate(folder, want):
    program, store = (os.path.join(folder, n) for n in ("program", "store"))
    run("pack", DEMO, store)
    run("settings", store, "context=1024")
    made = run("image", "--separate", store, program, "--node", f"{NODE}/node.efi").stdout
    ok("penstock model" not in made and os.path.getsize(program) < 24e6, "a disk without the model is small", made)
    machine = Machine(os.path.join(folder, "b"), [store, program])
    try:
        ok(machine.wait_printed("the known answer has come", 100), "a program on one drive starts the model that is a whole other drive",
           machine.printed()[-2000:])
        ok("context 1024" in machine.printed(), "with the settings of that drive", machine.printed()[-1500:])
        got = ask(machine.socket, "--max-tokens", "16")
        ok(want and got == want, "and answers as ever", f"{got!r}\n{want!r}")
    finally:
        machine.end()


need_machine(firmware=True)
with tempfile.TemporaryDirectory(prefix="penstock.") as scratch:
    main(scratch)
