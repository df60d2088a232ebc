#!/usr/bin/env python3
"""What a hostile or careless client may send, literally as api.md has it: fields and their values, stop strings, contexts, framing, limits,
deadlines, clients that leave, and a node that is the same after thousands of malformed requests."""
import json
import os
import re
import socket
import threading
import time

from live import Live, talkative
from node import Folder, dial, done, ok, wait_until

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HI = {CHAT: '"messages":[{"role":"user","content":"Hi"}],"max_tokens":1', COMPLETION: '"prompt":"Hi","max_tokens":1'}


def read_reply(s):
    """(status, head, body) of one reply with a length; status 0 if the node closed."""
    got = bytearray()
    while b"\r\n\r\n" not in got:
        part = s.recv(65536)
        if not part:
            return 0, bytes(got), b""
        got += part
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    body = bytearray(body)
    while length and len(body) < int(length[1]):
        part = s.recv(1 << 20)
        if not part:
            break
        body += part
    return int(head.split()[1]), head, bytes(body)


def send(path, data, shut=False, seconds=20):
    with dial(path) as s:
        s.settimeout(seconds)
        try:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before it was whole: the reply is there all the same
        return read_reply(s)


def request(target, body, *headers):
    body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return "\r\n".join([f"POST {target} HTTP/1.1", f"Content-Length: {len(body)}", *headers]).encode() + b"\r\n\r\n" + body


def post(path, target, body):
    status, _, reply = send(path, request(target, body))
    return status, json.loads(reply)


def verdict(path, target, body):
    """'200', or 'status param code'."""
    status, reply = post(path, target, body)
    e = reply.get("error", {})
    return "200" if status == 200 else f"{status} {e['param']} {e['code']}"


FIELDS = [  # field, values, what comes of them on both endpoints ("f" stands for the field's name)
    ("temperature", "null 0 -0 -0.0 2.5 1e308 5e-324 1e30", "200"),
    ("temperature", '-1 NaN -Infinity 1e999 true "1" [] {}', "400 f invalid_value"),
    ("top_p", "null 1 0.5 1e-320 5e-324", "200"),
    ("top_p", "0 -0 1.0001 2 NaN -1", "400 f invalid_value"),
    ("min_p", "null 0 1 0.5 -0", "200"),
    ("min_p", "1.01 -0.1 NaN", "400 f invalid_value"),
    ("top_k", "null 0 -0 1 9223372036854775808", "200"),
    ("top_k", '-1 1.5 99999999999999999999 "1"', "400 f invalid_value"),
    ("seed", "null 0 -0 9223372036854775807 -9223372036854775808", "200"),
    ("seed", '9223372036854775808 -9223372036854775809 1.5 "1" true', "400 f invalid_value"),
    ("stop", 'null [] "x" ["a","b"]', "200"),
    ("stop", '"" [""] [null] [1] 1 {} ' + json.dumps(["a"] * 17, separators=(",", ":")), "400 f invalid_value"),
    ("max_completion_tokens", "1", "200"),
    ("max_completion_tokens", '0 -1 2 1.0 "1"', "400 f invalid_value"),
    ("n", "null 1", "200"), ("n", "0 2 -1", "400 f unsupported_parameter"), ("n", '1.5 "1" true', "400 f invalid_value"),
    ("best_of", "null 1", "200"), ("best_of", "2", "400 f unsupported_parameter"),
    ("presence_penalty", "null 0 -0.0", "200"), ("presence_penalty", "0.1 -2", "400 f unsupported_parameter"),
    ("frequency_penalty", "null 0 0.0", "200"), ("frequency_penalty", "1e-300 2", "400 f unsupported_parameter"),
    ("logit_bias", 'null {} {"1":null}', "200"), ("logit_bias", '{"1":1} {"":1}', "400 f unsupported_parameter"),
    ("logit_bias", '[] 1 {"1":NaN}', "400 f invalid_value"),
    ("top_logprobs", "null 0", "200"), ("top_logprobs", "1", "400 f unsupported_parameter"),
    ("tools", "null []", "200"), ("tools", "[{}] [null]", "400 f unsupported_parameter"), ("tools", '{} "x"', "400 f invalid_value"),
    ("tool_choice", 'null "none" "auto"', "200"), ("tool_choice", '"required" {}', "400 f unsupported_parameter"),
    ("response_format", 'null {"type":"text"} {"type":"text","json_schema":null}', "200"),
    ("response_format", '{} {"type":"json_object"} {"type":"text","x":1}', "400 f unsupported_parameter"),
    ("suffix", "null", "200"), ("suffix", '"" "x"', "400 f unsupported_parameter"),
    ("store", "null false", "200"), ("store", "true", "400 f unsupported_parameter"), ("store", "0", "400 f invalid_value"),
    ("user", 'null "x" 1 {} []', "200"), ("metadata", 'null {"a":{"b":1}} 5', "200"),
    ("service_tier", '"auto" 1', "200"), ("parallel_tool_calls", "true false 1", "200"),
    ("stream_options", "null", "200"), ("stream_options", '{} {"include_usage":1} [] true', "400 f invalid_value"),
    ("stream_options", '{"x":1}', "400 f unknown_parameter"),
    ("thinking", 'null false {"type":"disabled"} {"type":"disabled","budget_tokens":null}', "200"),
    ("thinking", '1 "x" {} {"type":"x"} {"type":1}', "400 f invalid_value"),
    ("thinking", '{"type":"disabled","budget_tokens":1}', "400 f unknown_parameter"),
    ("chat_template_kwargs", 'null {} {"x":null} {"thinking":null} {"thinking":false}', "200"),
    ("chat_template_kwargs", '{"thinking":1} []', "400 f invalid_value"),
    ("chat_template_kwargs", '{"enable_thinking":true}', "400 f unknown_parameter"),
    ("model", "null", "200"), ("model", '"x" ""', "404 f model_not_found"), ("model", "1", "400 f invalid_value"),
    ("functions", "null", "200"), ("functions", "[] 1 NaN", "400 f unknown_parameter"),
]


def test_fields(path):
    for field, values, want in FIELDS:
        for target in (CHAT, COMPLETION):
            bad = [(v, got) for v in values.split() if
                   (got := verdict(path, target, '{%s,"%s":%s}' % (HI[target], field, v))) != want.replace(" f ", f" {field} ")]
            ok(not bad, f"{target[4:8]} {field}: {values[:60]} is {want}", bad)
    base = HI[CHAT].split(',"max')[0]
    for body, want in [(f"{base},\"logprobs\":false", "200"), (f"{base},\"logprobs\":true", "400 logprobs unsupported_parameter"),
                       (f"{base},\"echo\":false", "400 echo unknown_parameter"),
                       (f"{base},\"unknown\":1,\"n\":\"x\"", "400 n invalid_value"),
                       (f"{base},\"max_tokens\":0", "400 max_tokens invalid_value"),
                       (f"{base},\"max_tokens\":18446744073709551615", "400 messages context_length_exceeded")]:
        got = verdict(path, CHAT, "{%s%s}" % (body, "" if '"max_tokens"' in body else ',"max_tokens":1'))
        ok(got == want, f"{body[len(base) + 1:]} is {want}", got)
    for body, want in [('"logprobs":null', "200"), ('"logprobs":0', "400 logprobs unsupported_parameter"), ('"echo":false', "200"),
                       ('"echo":true', "400 echo unsupported_parameter"),
                       ('"thinking":true', "400 thinking unsupported_parameter"),
                       ('"chat_template_kwargs":{"thinking":true}', "400 chat_template_kwargs unsupported_parameter")]:
        got = verdict(path, COMPLETION, "{%s,%s}" % (HI[COMPLETION], body))
        ok(got == want, f"{body} of a completion is {want}", got)


def test_bodies(path):
    broken = [b"", b"null", b"[]", b"1", b'"a"', b"{}x", b"{} {}", b"\xef\xbb\xbf{}", b'{"content":"\xff"}', b'{"content":"\\ud800"}',
              b'{"content":"\\udc00\\ud800"}', b'{"content":"a","content":"a"}', b'{"content":"a","c\\u006fntent":"b"}', b"{'content':'a'}",
              b'{"content":"a",}', b'{"content":"a"}//', b'{"content":"\n"}', b'{"content":"a"}\0', b'{"content":"\xed\xa0\x80"}',
              b'{"content":"\xc0\x80"}', b'{"content":"a"']
    with dial(path) as s:
        bad = []
        for b in broken:
            s.sendall(request("/tokenize", b))
            status, _, reply = read_reply(s)
            if status != 400 or json.loads(reply)["error"]["type"] != "invalid_request_error":
                bad.append((b, status, reply))
        ok(not bad, f"{len(broken)} bodies that are no JSON object are 400, on one connection", bad)
    for depth, want in ((64, "200"), (65, "400 None invalid_json")):
        for a, z in (("[", "]"), ('{"a":', "}")):
            value = a * (depth - 1) + "1" + z * (depth - 1)
            got = verdict(path, COMPLETION, '{%s,"metadata":%s}' % (HI[COMPLETION], value))
            ok(got == want, f"{depth} levels of {a} are {want}", got)
    for prompt, want in (("", "1"), ([""], "1"), ([[5]], "1"), (["a"], "2"), ([], "400"), ([[]], "400"), (["a", "b"], "400"), ([[5], [6]], "400"),
                         ([5, "a"], "400"), ([512], "400"), ([-1], "400"), ([1.5], "400"), ([None], "400"), ([[["a"]]], "400"), ({}, "400")):
        status, reply = post(path, COMPLETION, {"prompt": prompt, "max_tokens": 1})
        got = str(reply["usage"]["prompt_tokens"]) if status == 200 else f"{status}" if reply["error"]["param"] == "prompt" else reply
        ok(got == want, f"prompt {json.dumps(prompt)}: {want}", got)


def test_context(path, context):
    for n, wish, want in ((context - 1, 1, 200), (context - 1, 2, 400), (context, None, 400), (context, 1, 400), (3 * context, None, 400)):
        body = {"prompt": [5] * n}
        if wish:
            body["max_tokens"] = wish
        status, reply = post(path, COMPLETION, body)
        good = status == want
        if want == 400:
            text = reply["error"]["message"]
            good &= reply["error"]["code"] == "context_length_exceeded" and str(context) in text and str(n + (wish or 1)) in text
        ok(good, f"{n} tokens and {wish} of {context}: {want}, with both numbers", reply)


def stream(path, target, body):
    """Events of a stream (HTTP/1.0, so that the bytes are the events)."""
    text = json.dumps(dict(body, stream=True)).encode()
    with dial(path) as s:
        s.settimeout(60)
        s.sendall(f"POST {target} HTTP/1.0\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        got = bytearray()
        while part := s.recv(65536):
            got += part
    return bytes(got).partition(b"\r\n\r\n")[2].decode().split("\n\n")


def cut(text, stops):
    at = [text.find(x) for x in stops if x in text]
    return text[:min(at)] if at else text


def test_stops(path):
    ask = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 60, "temperature": 0}
    text = post(path, CHAT, ask)[1]["choices"][0]["message"]["content"]
    sets = [[text[i:i + n]] for i in (0, 3, 20, 40) for n in (1, 2, 7)]
    sets += [[text[5:12] + "\x01", text[7:9]], [text[5:12], text[7:9]], [text[30:33], text[28:38], text[29:31]], [text[-3:] + "x"], ["<th"], ["\x00"]]
    for stops in sets:
        whole = post(path, CHAT, dict(ask, stop=stops))[1]["choices"][0]["message"]["content"]
        events = stream(path, CHAT, dict(ask, stop=stops))
        pieces = [json.loads(e[6:])["choices"][0]["delta"].get("content") or "" for e in events if e.startswith("data: {")]
        ok(whole == cut(text, stops) == "".join(pieces), f"{json.dumps(stops)} cuts at its earliest start, streamed too",
           [whole, cut(text, stops), pieces])
    think = dict(ask, thinking=True)
    message = post(path, CHAT, think)[1]["choices"][0]["message"]
    again = post(path, CHAT, dict(think, stop=[message["reasoning_content"][2:4]]))[1]["choices"][0]["message"]
    ok(message == again and message["content"] is None, "stop strings do not end the reasoning", [message, again])


def test_stream_shape(path):
    ask = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
    events = stream(path, CHAT, dict(ask, stream_options={"include_usage": True}))
    ok(events[-2:] == ["data: [DONE]", ""], "a stream ends in [DONE]", events)
    chunks = [json.loads(e[6:]) for e in events[:-2]]
    ok(chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}, "its first delta has the role, and no text", chunks[0])
    ok(chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 4 and all(c["usage"] is None for c in chunks[:-1]),
       "usage comes last, null before", chunks[-1])
    ok(chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}, "behind the reason", chunks[-2])
    ok(len({(c["id"], c["created"], c["seed"], c["object"]) for c in chunks}) == 1, "all chunks have one id")


CHUNKED = b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b'{"content":"a"}'
FRAMES = [
    ("a chunk of 16 MiB and a byte, announced", CHUNKED + b"1000001\r\n", 413),
    ("a chunk of 2^64 - 16, announced", CHUNKED + b"FFFFFFFFFFFFFFF0\r\n", 413),
    ("a second chunk that is too much, announced", CHUNKED + b"f\r\n" + BODY + b"\r\nfffff2\r\n", 413),
    ("a chunk size that overflows", CHUNKED + b"FFFFFFFFFFFFFFFFF\r\n", 400),
    ("+f", CHUNKED + b"+f\r\n" + BODY + b"\r\n0\r\n\r\n", 400), ("0xf", CHUNKED + b"0xf\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    ("an empty size", CHUNKED + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    ("chunk ends in LF", CHUNKED + b"f\n" + BODY + b"\r\n0\r\n\r\n", 400),
    ("extension and trailer", CHUNKED + b'f;a=b;c="d"\r\n' + BODY + b"\r\n0;x\r\nX: y\r\n\r\n", 200),
    ("a coding behind 70 spaces", b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked" + b" " * 70 + b", chunked\r\n\r\n0\r\n\r\n", 501),
    ("chunked twice", b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    ("a coding in HTTP/1.0", b"POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("LF before the request", b"\nGET /health HTTP/1.1\r\n\r\n", 400), ("CRLF before the request", b"\r\nGET /health HTTP/1.1\r\n\r\n", 200),
    ("https://", b"GET https://h:1/health?x HTTP/1.1\r\n\r\n", 200), ("HTTP://", b"GET HTTP://H/health HTTP/1.1\r\n\r\n", 200),
    ("a type behind 60 spaces", request("/tokenize", BODY, "Content-Type: application/json" + " " * 60 + "x"), 415),
    ("a charset", request("/tokenize", BODY, "Content-Type: Application/JSON;charset=UTF-8"), 200),
    ("100 lines", b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n", 200),
    ("64 KiB of header", b"GET /health HTTP/1.1\r\nA: " + b"x" * (65536 - 29) + b"\r\n\r\n", 200),
    ("and a byte", b"GET /health HTTP/1.1\r\nA: " + b"x" * (65537 - 29) + b"\r\n\r\n", 431),
    ("16 MiB", request("/tokenize", b'{"content":"' + b"a" * ((16 << 20) - 14) + b'"}'), 200),
    ("16 MiB and a byte", request("/tokenize", b'{"content":"' + b"a" * ((16 << 20) - 13) + b'"}'), 413),
    ("half a header and the end", b"GET /hea", 400), ("half a body and the end", request("/tokenize", BODY)[:-1], 400),
]


def test_frames(path):
    for name, data, want in FRAMES:
        status, head, _ = send(path, data, shut="end" in name)
        ok(status == want, f"{name}: {want}", (status, head[:200]))
    for method, target, allow in (("PUT", "/health", "GET, HEAD, OPTIONS"), ("GET", "/tokenize", "POST, OPTIONS"), ("PATCH", "/v1/models/x", "GET, HEAD, OPTIONS")):
        status, head, _ = send(path, f"{method} {target} HTTP/1.1\r\n\r\n".encode())
        ok(status == 405 and f"Allow: {allow}\r\n".encode() in head + b"\r\n", f"{method} {target}: 405 and Allow: {allow}", head)
    for name in ("deep/seek", "deep%2Fseek", "deep%2fseek"):
        ok(send(path, f"GET /v1/models/{name} HTTP/1.1\r\n\r\n".encode())[0] == 200, f"the model is {name}")


class Deadline(threading.Thread):
    """Sends a beginning and says what comes and after how long."""

    def __init__(self, path, data):
        super().__init__(daemon=True)
        self.path, self.data = path, data
        self.start()

    def run(self):
        with dial(self.path) as s:
            s.settimeout(90)
            s.sendall(self.data)
            begin = time.monotonic()
            self.reply = read_reply(s)
            self.seconds = time.monotonic() - begin


def test_deadlines(waiting):
    for name, thread, status, seconds in waiting:
        thread.join(100)
        ok(not thread.is_alive() and thread.reply[0] == status and seconds - 1 <= thread.seconds <= seconds + 5,
           f"{name}: {status or 'closed'} after {seconds} s", getattr(thread, "reply", "no answer"))


def test_leaving(node):
    with dial(node.path) as s:
        s.sendall(request(COMPLETION, {"prompt": [7 + i % 400 for i in range(900)], "max_tokens": 100}))
        wait_until(lambda: node.metrics()["running"] == 1, 3)
    ok(wait_until(lambda: node.metrics()["running"] == 0, 5), "who leaves in prefill or just after it ends the request", node.metrics())


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


def test_flat(node):
    junk = [data for _, data, want in FRAMES if want >= 400 and len(data) < 1000] + [
        request(CHAT, "{%s,\"n\":2}" % HI[CHAT]), request(CHAT, "[" * 70), request("/detokenize", {"tokens": [99999]}), b"\x16\x03\x01\x02\x00"]

    def rounds(n):
        for i in range(n):
            send(node.path, junk[i % len(junk)], shut=True)

    pids = {"init": node.pid, "gateway": node.children()["gateway"]}
    rounds(500)
    before = {name: resident(pid) for name, pid in pids.items()}, node.descriptors()
    rounds(3000)
    after = {name: resident(pid) for name, pid in pids.items()}, node.descriptors()
    ok(all(after[0][k] <= before[0][k] + 256 for k in pids) and after[1] <= before[1] + 1,
       "3000 malformed requests leave memory and descriptors as they were", (before, after))
    ok(node.children()["gateway"] == pids["gateway"], "and the gateway has not died")


with Folder() as f:
    live = Live(f.socket, talkative(f.make_model()), "--memory", "1G", "--parallel", "2", "--context", "1024", "--threads", "1",
                "--template", "v31", "--name", "deep/seek")
    if not ok(not live.failed, "a node starts", live.failed):
        done()
    slow = [("half a header", Deadline(f.socket, b"GET /health HT"), 408, 10),
            ("a body that stalls", Deadline(f.socket, request("/tokenize", BODY)[:-1]), 408, 30),
            ("an idle connection", Deadline(f.socket, b""), 0, 60)]
    test_fields(f.socket)
    test_bodies(f.socket)
    test_context(f.socket, 1024)
    test_stops(f.socket)
    test_stream_shape(f.socket)
    test_frames(f.socket)
    test_leaving(live)
    test_flat(live)
    test_deadlines(slow)
    ok(live.get("/health")[0] == 200, "the node is healthy after all that")
    ok(live.stop() == 0, "and ends with status 0", live.output())
done()
