#!/usr/bin/env python3
"""A server that no longer moves is found by its deadline, killed and replaced, whether it was in a step or asleep: the reply goes on with the same
bytes. The shortest deadline is 3 s (boot/hang.h)."""
# time limit: 300 s
import os
import re
import signal
import time

from live import Live, talkative
from node import SERVERS, Folder, done, ok, wait_until

LEAST, LATE = 3.0, 2.0  # seconds; a busy machine is granted some
SHORT = {"prompt": "hello world", "max_tokens": 200, "seed": 7, "temperature": 1}


def hung(node, server):
    found = re.search(rf'penstock_restarts_total{{server="{server}",cause="hung"}} (\d+)', node.get("/metrics")[1].decode())
    return int(found[1]) if found else None


def stop(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return time.monotonic()


def gone(pids):
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


with Folder() as f:
    talkative(f.make_model())
    node = Live(f.socket, f.model, "--memory", "200M", "--context", "1024", "--chunk", "32")
    if not ok(not node.failed, "a node starts", node.failed):
        done()
    calm = node.stream(**SHORT).result()
    ok(calm and calm.tokens == 200, "a reply without a hang", calm)
    for group in [[s] for s in SERVERS] + [SERVERS]:
        name = " and ".join(group)
        s = node.stream(**SHORT)
        ok(s.wait_for_events(20), f"{name}: a reply has begun", s.error)
        pids = [node.children()[p] for p in group]
        begin = stop(pids)
        ok(wait_until(lambda: gone(pids), 20), f"{name}, stopped in a reply: found", node.output())
        took = time.monotonic() - begin
        ok(LEAST - 0.3 <= took <= LEAST + LATE, f"{name}: by the deadline, not before", f"{took:.2f} s")
        print(f"# {took:.3f} s")
        s.result(30)
        ok(s.reply and s.reply.raw == calm.raw, f"{name}: the reply goes on with the same bytes", s.error or s.reply)
    for server in SERVERS:
        ok(hung(node, server) == 2, f"{server}: the cause is counted", hung(node, server))
    time.sleep(4)
    pids = [node.children()[p] for p in ("router", "gateway")]
    stop(pids)
    time.sleep(4)
    ok(not gone(pids[:1]) and not gone(pids[1:]), "nobody is killed while there is nothing to do")
    s = node.stream(**SHORT)
    s.result(30)
    ok(s.reply and s.reply.raw == calm.raw, "a request to servers that had stopped before is answered", s.error or s.reply)
    s = node.stream(**dict(SHORT, max_tokens=1, prompt=[7] * 900))
    s.result(60)
    ok(s.reply and sum(hung(node, x) for x in SERVERS) == 10, "a long prompt is no hang", [hung(node, x) for x in SERVERS])
    ok(node.stop() == 0, "the node ends", node.output())
done()
