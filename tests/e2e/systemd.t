#!/usr/bin/env python3
"""A node as a service (boot/systemd): what `./build.sh install` puts there is right by systemd's own check, and a real systemd, as the first process
of a PID namespace of its own, starts it with the first client, hears that it is ready, keeps it confined, and stops it cleanly."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess

from node import ROOT, Folder, dial, done, ok, wait_until

SYSTEMD = "/lib/systemd/systemd"
TARGET = """[Unit]
DefaultDependencies=no
Requires=penstock.socket
"""
# Units of a machine that boots wait for it; this one does not. Locked memory is what the test may have; its folder is in /tmp, which is private.
ALONE = "[Unit]\nDefaultDependencies=no\n"
SERVICE = """[Service]
LimitMEMLOCK={lock}
BindReadOnlyPaths={folder}
Environment=PENSTOCK_MODEL={model} "PENSTOCK_OPTIONS=--memory 1G --slots 8 --verbose"
StandardError=append:{log}
"""
START = """set -e
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/systemd/system
cp -r {units}/. /run/systemd/system/
mount -t cgroup2 none /sys/fs/cgroup
mount --bind {run} {run}
export container=penstock
exec {systemd} --system --unit=test.target --log-target=null --show-status=no
"""


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def ask(path):
    """A reply by way of the socket that systemd listens on; a node that is just starting has the time it needs."""
    body = json.dumps({"prompt": [3, 4, 5], "max_tokens": 5}).encode()
    s = dial(path)
    s.settimeout(60)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    got = b""
    try:
        while part := s.recv(65536):
            got += part
    except OSError:
        pass
    return got


def stat_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(re.findall(r"^(\w+):\t(.*)$", f.read(), re.M))


def under(pid):
    """{name: pid} of all processes that stem from this one."""
    parents = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/cmdline") as f:
                parents[int(p)] = (int(stat_of(p)[1]), os.path.basename(f.read().split("\0")[0]))
        except (OSError, IndexError):
            pass
    found, new = {}, {pid}
    while new:
        new = {p for p, (parent, _) in parents.items() if parent in new}
        found.update({parents[p][1]: p for p in new})
    return found


def check_files(f, usr):
    r = subprocess.run([os.path.join(ROOT, "build.sh"), "install", usr], capture_output=True, text=True, timeout=250)
    units = glob.glob(os.path.join(usr, "lib", "systemd", "system", "*"))
    ok(r.returncode == 0 and len(units) == 2, "the units are installed", r.stderr)
    r = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ok(r.returncode == 0 and "penstock" not in r.stderr, "systemd finds nothing wrong with them", r.stderr)
    service = os.path.join(usr, "lib", "systemd", "system", "penstock.service")
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", service], capture_output=True, text=True)
    ok(r.returncode == 0, "and finds it confined: " + r.stdout.strip().splitlines()[-1][2:].encode("ascii", "ignore").decode(), r.stdout[-2000:])


def try_them(f, usr):
    log = os.path.join(f.path, "log")
    units = os.path.join(f.path, "units")
    shutil.copytree(os.path.join(usr, "lib", "systemd", "system"), units)
    write(os.path.join(units, "test.target"), TARGET)
    lock = subprocess.run(["sh", "-c", "ulimit -H -l"], capture_output=True, text=True, check=True).stdout.strip()
    lock = "infinity" if lock == "unlimited" else str(int(lock) * 1024)
    write(os.path.join(units, "penstock.socket.d", "test.conf"), ALONE + f"[Socket]\nListenStream=\nListenStream={f.socket}\n")
    write(os.path.join(units, "penstock.service.d", "test.conf"), ALONE + SERVICE.format(lock=lock, folder=f.path, model=f.model, log=log))
    script = START.format(units=units, run=f.path, systemd=SYSTEMD)
    p = subprocess.Popen(["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc", "--kill-child", "sh", "-c", script])

    def state():
        """What systemd thinks of the service."""
        init = under(p.pid).get("systemd")
        if not init:
            return ""
        r = subprocess.run(["nsenter", f"--target={init}", "--mount", "--pid", "systemctl", "show", "penstock.service", "--property",
                            "ActiveState,SubState,StatusText,Result,ExecMainStatus"], capture_output=True, text=True)
        return " ".join(r.stdout.split()) + r.stderr

    try:
        if not ok(wait_until(lambda: os.path.exists(f.socket), 30), "systemd listens"):
            return
        ok("scribe" not in under(p.pid), "nothing runs before there is a client")
        got = ask(f.socket)
        ok(b"200 OK" in got and b'"text"' in got, "the first client starts the node and has its reply", f"{got} {state()}")
        ok(wait_until(lambda: "ActiveState=active" in state()) and "StatusText=ready" in state(), "systemd has heard that it is ready", state())
        servers = under(p.pid)
        if not ok({"gateway", "router", "mla", "experts", "scribe"} <= set(servers), "all servers run", servers):
            return
        main = int(stat_of(servers["scribe"])[1])
        status = status_of(main)
        ok(int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0 and status["Uid"].split()[0] != "0" and status["Seccomp"] == "2",
           "init has no privilege and a filter", status)
        ok(all(os.listdir(f"/proc/{servers[s]}/root") == [] for s in ("gateway", "mla")), "and its servers see no file")
        os.kill(servers["mla"], signal.SIGKILL)
        ok(b"200 OK" in ask(f.socket), "a dead server has a successor there too", state())
        os.kill(main, signal.SIGTERM)
        ok(wait_until(lambda: "ActiveState=inactive" in state(), 20) and "Result=success" in state(), "and it ends well", state())
        ok(b"200 OK" in ask(f.socket), "the next client starts it again", state())
    finally:
        p.kill()
        p.wait()
        if os.path.exists(log):
            with open(log) as at:
                print("# " + at.read()[-1500:].replace("\n", "\n# "))


def main():
    for tool in ("systemd-analyze", "unshare", "nsenter", SYSTEMD):
        if not shutil.which(tool):
            print(f"1..0 # SKIP no {tool} here")
            return
    with Folder() as f:
        usr = os.path.join(f.path, "usr")
        check_files(f, usr)
        os.chmod(f.path, 0o755)
        f.make_model()
        space = "mount -t cgroup2 none /sys/fs/cgroup"
        if os.geteuid() == 0 and not subprocess.run(["unshare", "--pid", "--fork", "--mount", "--cgroup", "sh", "-c", space],
                                                    capture_output=True).returncode:
            try_them(f, usr)
        else:
            print("# here systemd cannot be tried: not root, or no PID, mount or cgroup namespace")
    done()


main()
