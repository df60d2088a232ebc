#!/usr/bin/env python3
"""Two hundred clients at once on a node with eight places and a queue of thirty-two, in the smallest memory it runs in and in more: whoever is served gets its own reply,
the others 429 with Retry-After, and memory stays within the budget, looked at fifty times a second while it happens."""
# time limit: 300 s
import collections
import http.client
import json
import threading

from live import Cgroup, Connection, Live, PssPeak, least_memory, talkative
from node import Folder, done, ok, wait_until

CLIENTS, PLACES, QUEUE = 200, 8, 32
OPTIONS = ["--parallel", str(PLACES), "--context", "1024", "--chunk", "64", "--slots", "40"]
MIB = 1 << 20
BODIES = [{"prompt": f"{i} hello " + "over and over " * (i % 4), "max_tokens": 24 + i % 9, "seed": i, "temperature": 1, "stream": i % 3 == 0}
          for i in range(16)]


def text_of(data):
    """Of a whole reply or a stream: its text, and why it ended."""
    events = [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: {")] if data.startswith(b"data: ") or b"\ndata: " in data \
        else [json.loads(data)]
    choices = [e["choices"][0] for e in events if e.get("choices")]
    return "".join(c["text"] for c in choices), choices[-1]["finish_reason"] if choices else None


def burst(path):
    """[(status, Retry-After, body)] of all clients, who begin together."""
    got, begin = [None] * CLIENTS, threading.Barrier(CLIENTS)

    def ask(i):
        c = Connection(path, 200)
        begin.wait()
        try:
            c.request("POST", "/v1/completions", json.dumps(BODIES[i % len(BODIES)]), {"Content-Type": "application/json"})
            r = c.getresponse()
            got[i] = r.status, r.getheader("Retry-After"), r.read()
        except (OSError, http.client.HTTPException) as e:
            got[i] = 0, None, str(e).encode()
        c.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return got


def trial(f, name, mib, least_served):
    cgroup = Cgroup()
    node = Live(f.socket, f.model, *OPTIONS, "--memory", f"{mib}M", cgroup=cgroup)
    if not ok(not node.failed, f"{name}: a node of {PLACES} places starts", node.failed):
        return
    want = [text_of(node.get("/v1/completions", b)[1]) for b in BODIES]
    lived = node.children()
    watch = PssPeak(node, 0.02)
    got = burst(f.socket)
    peak = watch.stop()
    status = collections.Counter(g[0] for g in got)
    print(f"# {name}: {dict(status)}; peak {peak / MIB:.0f} MiB of {mib}, as the kernel counts {cgroup.peak() / MIB if cgroup.path else 0:.0f}")
    ok(status[200] >= least_served and status[200] + status[429] == CLIENTS, f"{name}: some are served, the others told to come again",
       f"{status} {[g for g in got if g[0] not in (200, 429)][:3]}")
    ok(all(g[1] and g[1].isdigit() and int(g[1]) > 0 for g in got if g[0] == 429), "with Retry-After in whole seconds", [g for g in got if g[0] == 429][:3])
    mixed = [i for i, g in enumerate(got) if g[0] == 200 and text_of(g[2]) != want[i % len(BODIES)]]
    ok(not mixed, "no reply is another's", [(i, got[i][2][:200]) for i in mixed[:3]])
    ok(0 < peak <= mib * MIB, "memory was within the budget all the time", f"{peak / MIB:.1f} of {mib} MiB")
    if cgroup.path:
        ok(cgroup.peak() <= mib * MIB, "by the kernel's count too", f"{cgroup.peak() / MIB:.1f} of {mib} MiB")
    else:
        ok(True, "by the kernel's count too # SKIP no memory cgroup can be made here")
    ok(wait_until(lambda: node.metrics()["running"] == node.metrics()["queued"] == 0), "nothing is left in the queue", node.metrics())
    ok(node.children() == lived and [text_of(node.get("/v1/completions", b)[1]) for b in BODIES] == want, "and the node answers as before")
    ok(node.stop() == 0, "and ends", node.output())
    cgroup.close()


with Folder() as f:
    talkative(f.make_model())
    least = least_memory(f.model, *OPTIONS)
    if ok(least, "the smallest memory is known", least):
        trial(f, "smallest memory", least, QUEUE + 1)  # pages of one sequence
        trial(f, "every place has its pages", 2 * least, QUEUE + PLACES)
done()
