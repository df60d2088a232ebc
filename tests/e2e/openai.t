#!/usr/bin/env python3
"""The unmodified `openai` client over the Unix socket: chat, completions, streaming, errors. The client is installed under build/, at a
pinned version, by this test."""
import os
import subprocess
import sys

from node import BIN, ROOT, Folder, Node, done, ok

VERSION = "3.54.0"
PACKAGES = os.path.join(ROOT, "build", "openai-" + VERSION)


def install():
    """The reason why the client cannot be had here, or None."""
    if os.path.isdir(os.path.join(PACKAGES, "openai")):
        return None
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
           "--target", PACKAGES + ".new", "openai==" + VERSION]
    if subprocess.run(pip, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        return "pip cannot install openai " + VERSION
    os.rename(PACKAGES + ".new", PACKAGES)
    return None


def error_of(call):
    try:
        call()
    except openai.APIError as e:
        return e
    return None


def test_chat(client, model):
    ask = dict(model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=12, seed=7)
    whole = client.chat.completions.create(**ask)
    ok(whole.object == "chat.completion" and whole.id.startswith("chatcmpl-") and whole.model == model, "a chat answers")
    ok(whole.choices[0].message.role == "assistant" and whole.choices[0].finish_reason in ("stop", "length"),
       "with a message and a reason", whole)
    ok(0 < whole.usage.completion_tokens <= 12 and whole.usage.total_tokens ==
       whole.usage.prompt_tokens + whole.usage.completion_tokens, "and its usage", whole.usage)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    ok(chunks[0].choices[0].delta.role == "assistant", "a stream begins with the role")
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    ok(text == whole.choices[0].message.content, "and has the same text", [text, whole.choices[0].message.content])
    ok([c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] ==
       [whole.choices[0].finish_reason], "and the same reason, once")
    ok(not chunks[-1].choices and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, "and its usage at the end")
    ok(chunks[-1].usage.prompt_tokens_details.cached_tokens > 0, "a prompt that came before is not computed again")
    again = client.chat.completions.create(**dict(ask, seed=8))
    ok(again.choices[0].message.content != text, "another seed gives another text")
    ok(again.seed == 8, "the seed is returned")
    thinking = client.chat.completions.create(extra_body={"chat_template_kwargs": {"thinking": True}}, **ask)
    ok(thinking.choices[0].message.content is None and thinking.choices[0].message.reasoning_content,
       "a reply cut inside its reasoning has no content", thinking)


def test_completions(client, model):
    whole = client.completions.create(model=model, prompt="Hello", max_tokens=6, temperature=0)
    ok(whole.object == "text_completion" and whole.usage.prompt_tokens == 6, "a completion answers, with one BOS", whole)
    parts = list(client.completions.create(model=model, prompt="Hello", max_tokens=6, temperature=0, stream=True))
    ok("".join(c.choices[0].text for c in parts) == whole.choices[0].text, "and streams the same text")
    ids = client.completions.create(model=model, prompt=[0, 74, 103], max_tokens=3)
    ok(ids.usage.prompt_tokens == 3, "ids are taken as they are", ids)
    first = whole.choices[0].text[:1]
    cut = client.completions.create(model=model, prompt="Hello", max_tokens=6, temperature=0, stop=[whole.choices[0].text[1:3]])
    ok(cut.choices[0].text == first and cut.choices[0].finish_reason == "stop", "a stop string ends it", cut)


def test_errors(client, model):
    hello = [{"role": "user", "content": "Hello"}]
    e = error_of(lambda: client.chat.completions.create(model=model, messages=hello, max_tokens=10**6))
    ok(isinstance(e, openai.BadRequestError) and e.code == "context_length_exceeded", "too long is a BadRequestError", e)
    e = error_of(lambda: client.chat.completions.create(model=model, messages=hello, n=2))
    ok(isinstance(e, openai.BadRequestError) and e.param == "n" and e.code == "unsupported_parameter", "so is n = 2", e)
    e = error_of(lambda: client.chat.completions.create(model=model, messages=hello, temperature="x"))
    ok(isinstance(e, openai.BadRequestError) and e.param == "temperature" and e.code == "invalid_value", "and a wrong type", e)
    e = error_of(lambda: client.chat.completions.create(model="other", messages=hello))
    ok(isinstance(e, openai.NotFoundError) and e.code == "model_not_found", "another model is not found", e)
    e = error_of(lambda: client.models.retrieve("other"))
    ok(isinstance(e, openai.NotFoundError), "nor can it be retrieved", e)


why = install()
if why:
    print("1..0 # SKIP", why)
    sys.exit(0)
sys.path.insert(0, PACKAGES)
import httpx2 as httpx  # noqa: E402
import openai  # noqa: E402

with Folder() as f:
    node = Node(BIN, f.make_model(), "--socket", f.socket, "--memory", "400M", "--template", "v31", "--name", "deep/seek")
    if not ok(node.wait_for("penstock: ready"), "a node starts", node.output()):
        done()
    http = httpx.Client(transport=httpx.HTTPTransport(uds=f.socket))
    api = openai.OpenAI(base_url="http://penstock/v1", api_key="none", http_client=http, max_retries=0)
    models = list(api.models.list())
    ok([m.id for m in models] == ["deep/seek"] and models[0].max_model_len == 8192, "the model is listed", models)
    ok(api.models.retrieve("deep/seek").id == "deep/seek", "and can be retrieved")
    test_chat(api, "deep/seek")
    test_completions(api, "deep/seek")
    test_errors(api, "deep/seek")
    ok(node.stop() == 0, "the node ends with status 0", node.output())
done()
