#!/usr/bin/env python3
"""`penstock relay` and init's port (ipc/frame.h): many clients over one stream, without a machine. A Unix socket stands for the virtio-serial
port, a gateway that echoes for the node; byte 4 is echoed and closes."""
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from node import BIN, ROOT, dial, done, ok, receive, wait_until

SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
print(f"# SEED={SEED} repeats this run")


def start(*args, log):
    return subprocess.Popen(args, stderr=open(log, "a"), stdout=subprocess.DEVNULL)


def end(p):
    p.kill()
    p.wait()


def stream(path, seed, size, failed, slow=False):
    """Sends `size` bytes without a 4 in odd pieces, reads them back meanwhile, then the end."""
    rng = random.Random(seed)
    data = bytes(rng.choice(b"abcdefghij") for _ in range(1000)) * (size // 1000)
    try:
        s = dial(path)
        s.settimeout(30)

        def send():
            at = 0
            while at < len(data):
                n = rng.randrange(1, 30000)
                s.sendall(data[at:at + n])
                at += n
            s.shutdown(socket.SHUT_WR)
        t = threading.Thread(target=send)
        t.start()
        got = bytearray()
        while piece := s.recv(random.randrange(1, 60000)):
            got += piece
            if slow:
                time.sleep(0.01)
        t.join()
        if bytes(got) != data:
            failed.append(f"stream {seed}: {len(got)} of {len(data)} bytes")
        s.close()
    except OSError as e:
        failed.append(f"stream {seed}: {e}")


def echoes(path, text=b"hello"):
    try:
        s = dial(path)
        s.sendall(text)
        got = receive(s, len(text))
        s.close()
        return got == text
    except OSError:
        return False


with tempfile.TemporaryDirectory(prefix="penstock.") as f:
    port, path, log = (os.path.join(f, n) for n in ("port", "s", "log"))
    echo_node = os.path.join(ROOT, "build", "test", "echo_node")
    relay = start(os.path.join(BIN, "penstock"), "relay", port, "--socket", path, log=log)
    early = None
    try:
        wait_until(lambda: os.path.exists(path))
        early = dial(path)
        early.settimeout(20)
        early.sendall(b"early")
        node = start(echo_node, port, log=log)
        ok(receive(early, 5) == b"early", "a client that came before the node waits for it, and is answered")
        early.close()

        failed = []
        threads = [threading.Thread(target=stream, args=(path, SEED + i, 400000 + 7000 * i, failed, i == 0)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ok(not failed, "sixteen streams at once, one read slowly: every byte comes back, in order", "\n".join(failed))

        stuck = dial(path)
        stuck.settimeout(1)
        sent = 0
        try:
            for _ in range(200):
                sent += stuck.send(b"z" * 65536)
        except OSError:
            pass
        ok(sent < 200 * 65536 and echoes(path), "one that never reads is stopped, and stops nobody else", sent)
        stuck.close()

        s = dial(path)
        s.sendall(b"abc\x04 and more that nobody reads")
        ok(receive(s, 100) == b"abc\x04", "the node closes: the client gets all of its answer, and the end")
        s.close()
        ok(all(echoes(path, b"%d" % i) for i in range(300)), "three hundred clients, one after the other")
        crowd = [dial(path) for _ in range(270)]
        for c in crowd:
            c.sendall(b"q")
        answered = sum(receive(c, 1) == b"q" for c in crowd[:256])
        for c in crowd[:100]:
            c.close()
        crowd[-1].settimeout(20)
        ok(answered == 256 and receive(crowd[-1], 1) == b"q", "256 at once; more wait until some have gone", answered)
        for c in crowd:
            c.close()

        held = dial(path)
        held.sendall(b"x")
        receive(held, 1)
        os.kill(node.pid, signal.SIGUSR1)
        ok(receive(held, 1) == b"" and wait_until(lambda: echoes(path), 20), "after noise on the stream they find each other again")
        held = dial(path)
        held.sendall(b"x")
        receive(held, 1)
        end(node)
        held.settimeout(20)
        ok(receive(held, 1) == b"", "the node restarts: its clients see the end")
        node = start(echo_node, port, log=log)
        ok(wait_until(lambda: echoes(path), 20), "and newcomers are answered")
        end(relay)
        relay = start(os.path.join(BIN, "penstock"), "relay", port, "--socket", path, log=log)
        ok(wait_until(lambda: echoes(path), 20), "so they are by a new relay")
        p = subprocess.run([os.path.join(BIN, "penstock"), "node", "list", "--socket", path], capture_output=True, text=True, timeout=20)
        ok(p.stdout == "echo\n" and p.returncode == 0, "a question to the node comes back with its answer", p.stdout + p.stderr)
        relay.send_signal(signal.SIGTERM)
        ok(relay.wait(10) == 0 and not os.path.exists(path), "SIGTERM ends the relay, and its sockets are gone")
    finally:
        for p in (relay, node):
            if p.poll() is None:
                end(p)

    # the socket of Firecracker and Cloud Hypervisor: a connection per client, opened by a line of text
    def hypervisor(listener):
        def serve(c):
            line = b""
            while not line.endswith(b"\n"):
                line += c.recv(1)
            if line != b"CONNECT 4000\n":
                c.close()
                return
            c.sendall(b"OK 1073741824\nfirst")
            while piece := c.recv(65536):
                c.sendall(piece)
            c.close()
        while True:
            c, _ = listener.accept()
            threading.Thread(target=serve, args=(c,), daemon=True).start()

    hybrid = os.path.join(f, "hybrid")
    relay = start(os.path.join(BIN, "penstock"), "relay", "hybrid:" + hybrid, "--socket", path, log=log)
    try:
        wait_until(lambda: os.path.exists(path))
        early = dial(path)
        early.sendall(b"early")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(hybrid)
        listener.listen(64)
        threading.Thread(target=hypervisor, args=(listener,), daemon=True).start()
        ok(receive(early, 10) == b"firstearly", "over a hypervisor's socket a client waits for the node too")
        early.shutdown(socket.SHUT_WR)
        ok(receive(early, 1) == b"", "and its half-close is answered by the end")
        clients = [dial(path) for _ in range(40)]
        data = random.Random(SEED).randbytes(300000)
        got = []

        def both(c):
            t = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
            t.start()
            got.append(receive(c, len(data) + 6) == b"first" + data)
            t.join()
        threads = [threading.Thread(target=both, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ok(got == [True] * 40, "forty at once: every byte comes back", got)
        relay.send_signal(signal.SIGTERM)
        ok(relay.wait(10) == 0, "SIGTERM ends that relay too")
    finally:
        if relay.poll() is None:
            end(relay)

    # a serial line, which loses and changes bytes: a terminal's two ends, and between one of them and the node somebody who does that
    def carry(read, write, harm):
        rng = random.Random(SEED + read)
        try:
            while piece := os.read(read, 4096):
                piece = bytearray(piece)
                if harm and noisy and rng.random() < 0.05:
                    at = rng.randrange(len(piece))
                    kind = rng.randrange(3)
                    if kind == 0:
                        piece[at] ^= 1 << rng.randrange(8)
                    elif kind == 1:
                        del piece[at:at + rng.randrange(1, 60)]
                    else:
                        piece.clear()
                while piece:
                    del piece[:os.write(write, piece[:1] if slowly else piece)]
                    if slowly:
                        time.sleep(0.001)
        except OSError:
            pass

    def prefix(seed, failed):
        data = random.Random(seed).randbytes(150000).replace(b"\x04", b"\x05")
        got = bytearray()
        try:
            s = dial(path)
            s.settimeout(30)
            t = threading.Thread(target=lambda: send_all(s, data), daemon=True)
            t.start()
            while len(got) < len(data) and (piece := s.recv(65536)):
                got += piece
        except OSError:
            pass
        if not data.startswith(bytes(got)):
            failed.append(seed)
        return len(got)

    def send_all(s, data):
        try:
            s.sendall(data)
        except OSError:
            pass

    try:
        master, slave = pty.openpty()
    except OSError as e:
        ok(True, f"a terminal is a port too # SKIP no terminals here ({e.strerror or e})")
        done()
    os.unlink(port)
    node = start(echo_node, port, "serial", log=log)
    wait_until(lambda: os.path.exists(port))
    line = dial(port)
    line.settimeout(None)
    relay = start(os.path.join(BIN, "penstock"), "relay", os.ttyname(slave), "--socket", path, log=log)
    noisy = slowly = False
    for ends in ((master, line.fileno()), (line.fileno(), master)):
        threading.Thread(target=carry, args=(*ends, True), daemon=True).start()
    try:
        wait_until(lambda: os.path.exists(path))
        ok(wait_until(lambda: echoes(path), 20), "a terminal is a port too")
        failed = []
        whole = prefix(SEED, failed)
        ok(whole == 150000 and not failed, "every byte value goes over it", whole)
        slowly = True
        time.sleep(16)  # longer than a frame may take
        held = dial(path)
        held.sendall(b"slow")
        ok(receive(held, 4) == b"slow", "after a pause too, although the bytes come one by one")
        held.close()
        slowly = False
        noisy = True
        failed, end_at, rounds, got = [], time.time() + 8, 0, []
        while time.time() < end_at:
            got.append(prefix(SEED + rounds, failed))
            rounds += 1
        ok(not failed and min(got) < 150000, f"it loses and changes bytes: {rounds} clients get what is right, or an end", failed)
        noisy = False
        ok(wait_until(lambda: echoes(path), 40), "and when it is quiet again they find each other again")
    finally:
        for p in (relay, node):
            if p.poll() is None:
                end(p)
done()
