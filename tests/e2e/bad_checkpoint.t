#!/usr/bin/env python3
"""Damaged, lying and unsupported checkpoints: each is refused with a fixed exit status and a message that names file and
tensor or field, and their harmless neighbours are accepted. Every case is made from a golden checkpoint here.

    tests/e2e/bad_checkpoint.t [WORD]      only the cases whose name contains WORD
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import checkpoint as ck  # noqa: E402

PENSTOCK = os.path.join(ROOT, "build", "bin", "penstock")
V3 = ck.read(os.path.join(ROOT, "tests", "golden", "models", "v3"))
MOON = ck.read(os.path.join(ROOT, "tests", "golden", "models", "moonlight"))
INDEX = "model.safetensors.index.json"
ONE = "model.safetensors"
SHARDS = [n for n in V3 if n.endswith(".safetensors")]

cases = []  # (name, files, command, status, words that the message must have)


def case(name, files, words=(), status=3, command="info"):
    cases.append((name, files, command, status, [words] if isinstance(words, str) else list(words)))


def good(name, files, words=(), command="info"):
    case(name, files, words, 0, command)


def changed(base, **new):
    out = dict(base)
    for key, value in new.items():
        key = {"config": "config.json", "generation": "generation_config.json", "index": INDEX, "one": ONE}[key]
        if value is None:
            del out[key]
        else:
            out[key] = value
    return out


# ---- the container (specification 2.1), on moonlight's one file

def raw(data):
    return changed(MOON, one=data)


def head(change):
    """The file with its header object changed; the data stay."""
    h, base = ck.header(MOON[ONE])
    h = change(h) or h
    return raw(ck.join(json.dumps(h).encode(), MOON[ONE][base:]))


def text(change):
    """The same for the header's text."""
    h, base = ck.header(MOON[ONE])
    return raw(ck.join(change(json.dumps(h).encode()), MOON[ONE][base:]))


NORM = "model.norm.weight"
N = len(MOON[ONE])


def entry(**new):
    def change(h):
        for key, value in new.items():
            if value is None:
                del h[NORM][key]
            else:
                h[NORM][key] = value
    return head(change)


def length(n):
    return raw(struct.pack("<Q", n) + MOON[ONE][8:])


def replaced(old, new):
    def change(t):
        assert old in t
        return t.replace(old, new, 1)
    return text(change)


def container():
    case("an empty shard", raw(b""), [ONE, "too short"])
    case("a shard of 7 bytes", raw(b"1234567"), [ONE, "too short"])
    case("a header of no bytes", raw(struct.pack("<Q", 0)), ONE)
    case("a header longer than 100 MB", length(100000001), [ONE, "100000001"])
    case("a header longer than its file", length(N), [ONE, "header length"])
    case("a header that is one byte too long", length(N - 7), [ONE, "header length"])
    case("a header length of 2^64 - 1", length(2**64 - 1), [ONE, "header length"])
    case("a header length that wraps when 8 is added", length(2**64 - 8), [ONE, "header length"])
    case("a header length of 2^63", length(2**63), [ONE, "header length"])
    case("a header that begins with a space", text(lambda t: b" " + t), [ONE, "'{'"])
    case("a header that begins with a byte-order mark", text(lambda t: b"\xef\xbb\xbf" + t), [ONE, "'{'"])
    case("a header that is an array", text(lambda t: b"[" + t + b"]"), [ONE, "'{'"])
    case("a header that is not UTF-8", replaced(NORM.encode(), b"model.\xff\xfe"), [ONE, "JSON"])
    case("a header cut in its middle", text(lambda t: t[:len(t) // 2]), [ONE, "JSON"])
    case("a header with a comment", text(lambda t: t + b"// end"), [ONE, "JSON"])
    case("a header with a NUL behind it", text(lambda t: t + b"\0"), [ONE, "JSON"])
    case("a header with a second object behind it", text(lambda t: t + b"{}"), [ONE, "JSON"])
    case("a header with a trailing comma", text(lambda t: t[:-1] + b",}"), [ONE, "JSON"])
    case("a header with NaN for a number", replaced(b'"shape": [', b'"shape": [NaN, '), [ONE, "JSON"])
    case("an empty header", raw(ck.join(b"{}", b"")), [ONE, "model.embed_tokens.weight", "missing"])
    case("a tensor's name twice in a header",
         text(lambda t: t[:-1] + b', "' + NORM.encode() + b'": {"dtype":"BF16","shape":[0],"data_offsets":[0,0]}}'),
         [ONE, NORM, "twice"])
    case("a key twice in a tensor's entry", replaced(b'"dtype": "BF16"', b'"dtype": "BF16", "dtype": "BF16"'),
         [ONE, "dtype", "twice"])
    case("the same key once escaped, once not", replaced(b'"dtype": "BF16"', b'"dtype": "BF16", "d\\u0074ype": "BF16"'),
         [ONE, "dtype", "twice"])
    case("__metadata__ that is a string", head(lambda h: h.update(__metadata__="pt")), [ONE, "__metadata__"])
    case("__metadata__ with a number in it", head(lambda h: h.update(__metadata__={"a": 1})), [ONE, "__metadata__"])
    case("__metadata__ with an object in it", head(lambda h: h.update(__metadata__={"a": {}})), [ONE, "__metadata__"])
    case("__metadata__ twice", text(lambda t: t[:-1] + b', "__metadata__": {}}' if b"__metadata__" in t
                                    else t[:-1] + b', "__metadata__": {}, "__metadata__": {}}'), [ONE, "twice"])
    case("an entry that is a list", head(lambda h: h.update({NORM: []})), [ONE, NORM])
    case("an entry that is null", head(lambda h: h.update({NORM: None})), [ONE, NORM])
    for key in ("dtype", "shape", "data_offsets"):
        case(f"an entry without {key}", entry(**{key: None}), [ONE, NORM, key])
        case(f"an entry whose {key} is a number", entry(**{key: 7}), [ONE, NORM, key])
        case(f"an entry whose {key} is an object", entry(**{key: {}}), [ONE, NORM, key])
    case("an unknown dtype", entry(dtype="BF17"), [ONE, NORM, "BF17"])
    case("a dtype in small letters", entry(dtype="bf16"), [ONE, NORM, "bf16"])
    for dim in (-1, 1.5, 112.0, "112", None, True, [112], 2**53 + 1, 2**64, 1e300):
        case(f"a dimension {dim!r}", entry(shape=[dim]), [ONE, NORM, "shape"])
    case("a rank of nine", entry(shape=[1] * 8 + [112]), [ONE, NORM, "dimensions"])
    case("a shape whose product overflows", entry(shape=[2**40, 2**40]), [ONE, NORM, "overflow"])
    case("a shape whose product wraps to the right size", entry(shape=[2**52, 2**12, 112]), [ONE, NORM])
    case("a shape too small for its bytes", entry(shape=[111]), [ONE, NORM, "222", "224"])
    case("a shape too large for its bytes", entry(shape=[113]), [ONE, NORM, "226", "224"])
    case("a dtype too wide for its bytes", entry(dtype="F32"), [ONE, NORM])
    h, _ = ck.header(MOON[ONE])
    begin, end = h[NORM]["data_offsets"]
    for offsets in ([begin], [begin, end, end], [-1, end], [begin, -end], [begin + 0.5, end], [float(begin), float(end)],
                    [str(begin), str(end)], [begin, 2**63], [2**64, 2**64 + 224], [None, end]):
        case(f"data_offsets {offsets}", entry(data_offsets=offsets), [ONE, NORM, "data_offsets"])
    case("data_offsets in the wrong order", entry(data_offsets=[end, begin]), [ONE, NORM, "before they begin"])
    case("an overlap", entry(data_offsets=[begin - 2, end]), ONE)
    case("two tensors with the same bytes", entry(data_offsets=[begin - 224, begin]), ONE)
    case("a hole", head(lambda hh: hh.pop(NORM) and None), ONE)
    case("a shard cut by one byte", raw(MOON[ONE][:-1]), [ONE, "cut"])
    case("a shard cut in half", raw(MOON[ONE][:N // 2]), [ONE, "cut"])
    case("a shard cut inside its header", raw(MOON[ONE][:1000]), [ONE, "cut"])
    case("one byte behind the last tensor", raw(MOON[ONE] + b"\0"), [ONE, "appended"])

    def hole_first(hh):
        for name, e in hh.items():
            if name != "__metadata__":
                e["data_offsets"] = [x + 8 for x in e["data_offsets"]]
    hh, base = ck.header(MOON[ONE])
    hole_first(hh)
    case("a hole before the first tensor", raw(ck.join(json.dumps(hh).encode(), b"\0" * 8 + MOON[ONE][base:])),
         [ONE, "hole"])

    def renamed(name):
        return head(lambda x: x.update({name: x.pop(NORM)}))
    case("an empty tensor name", renamed(""), [ONE, "name is empty"])
    case("a name of 1025 bytes", renamed("n" * 1025), [ONE, "longer"])
    case("a name with a NUL", renamed("model.norm\0.weight"), [ONE, "NUL"])

    def besides(name):
        return raw(ck.pack({**ck.tensors(MOON[ONE]), name: ck.Tensor("U8", [1], b"x")}))
    case("a name with control characters, which the message escapes", besides("model.\x1b[31m\x7f\npenstock: \u009b\u202eweight"),
         [ONE, "model.\\x1b[31m\\x7f\\x0apenstock: \\xc2\\x9b\\xe2\\x80\\xaeweight"])
    case("a long unknown name, which the message cuts", besides("model." + "x" * 1000), [ONE, "model." + "x" * 194 + "..."])
    case("a header nested a hundred deep", text(lambda t: t[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}"),
         [ONE, "nested"])
    case("a header of a million brackets", text(lambda t: t[:-1] + b', "x": ' + b"[" * 1000000), ONE)

    good("spaces behind a header", text(lambda t: t + b" " * 77))
    good("a header without __metadata__", text(lambda t: json.dumps(
        {k: v for k, v in json.loads(t).items() if k != "__metadata__"}).encode()))
    good("a header in reverse order", text(lambda t: json.dumps(dict(reversed(json.loads(t).items()))).encode()))
    ts = ck.tensors(MOON[ONE])
    ts["model.layers.9.empty"] = ck.Tensor("BF16", [0, 7], b"")
    ts["model.layers.9.scalar"] = ck.Tensor("F32", [], b"\0" * 4)
    good("empty and rank-0 tensors", raw(ck.pack(ts)), "beyond")
    ts["model.layers.9.odd"] = ck.Tensor("U8", [3], b"abc")
    good("a file whose last tensors lie at odd bytes", raw(ck.pack({**{"model.layers.9.a": ck.Tensor("U8", [1], b"a")},
                                                                     **ts})), command="verify")


# ---- the index of shards (2.2)

def index_with(change):
    d = json.loads(V3[INDEX])
    d = change(d) or d
    return changed(V3, index=json.dumps(d).encode())


def shard_index():
    lm = "lm_head.weight"
    case("an index that is not JSON", changed(V3, index=b"{"), [INDEX, "JSON"])
    case("an index that is an array", changed(V3, index=b"[]"), INDEX)
    case("an empty index file", changed(V3, index=b""), INDEX)
    case("an index without weight_map", changed(V3, index=b"{}"), [INDEX, "weight_map"])
    case("an empty weight_map", index_with(lambda d: d.update(weight_map={})), [INDEX, "weight_map"])
    case("a weight_map that is a list", index_with(lambda d: d.update(weight_map=[])), [INDEX, "weight_map"])
    case("metadata that is a string", index_with(lambda d: d.update(metadata="x")), [INDEX, "metadata"])
    for name in ("../v3/" + SHARDS[0], "..", ".", "/etc/passwd", "sub/" + SHARDS[0], "", "./" + SHARDS[0]):
        case(f"an index that names the file {name!r}", index_with(lambda d, n=name: d["weight_map"].update({lm: n})),
             [INDEX, lm, "plain name"])
    case("a NUL in the name of a file", index_with(lambda d: d["weight_map"].update({lm: SHARDS[0] + "\0x"})), [INDEX, lm])
    for value in (1, None, [SHARDS[0]], {"file": SHARDS[0]}, True):
        case(f"an index with {value!r} for a file", index_with(lambda d, v=value: d["weight_map"].update({lm: v})),
             [INDEX, lm])
    case("an index that names a missing file", index_with(lambda d: d["weight_map"].update({lm: "model-00009.safetensors"})),
         [INDEX, lm, "model-00009.safetensors"])
    case("an index that names a shard with another ending", {**index_with(lambda d: d.update(weight_map={
        k: "weights.bin" if v == SHARDS[2] else v for k, v in d["weight_map"].items()})), "weights.bin": V3[SHARDS[2]]},
         [INDEX, "weights.bin", "*.safetensors"])
    case("a shard that is missing", {k: v for k, v in V3.items() if k != SHARDS[1]}, [INDEX, SHARDS[1]])
    case("an index that names config.json as a shard", index_with(lambda d: d["weight_map"].update({lm: "config.json"})),
         "config.json")
    case("an index that puts a tensor into another shard", index_with(lambda d: d["weight_map"].update({lm: SHARDS[0]})),
         [INDEX, lm, SHARDS[0]])
    case("an index that names a tensor that no shard has",
         index_with(lambda d: d["weight_map"].update({"model.extra": SHARDS[0]})), [INDEX, "model.extra"])
    case("a tensor in a shard that the index does not name", index_with(lambda d: d["weight_map"].pop(lm) and None),
         [SHARDS[2], lm, "not named"])
    two = ck.tensors(V3[SHARDS[0]])
    two[lm] = ck.tensors(V3[SHARDS[2]])[lm]
    case("a tensor in two shards", {**V3, SHARDS[0]: ck.pack(two)}, [SHARDS[0], SHARDS[2], lm, "two files"])
    case("a shard that the index does not name", {**V3, "model-extra.safetensors": V3[SHARDS[0]]}, "model-extra.safetensors")
    case("shards without an index", changed(V3, index=None), [INDEX])
    case("no weights at all", {"config.json": MOON["config.json"]}, [ONE])
    case("a single file beside an index that does not name it", {**V3, ONE: MOON[ONE]}, ONE)
    case("a tensor twice in the weight_map", changed(V3, index=V3[INDEX].replace(
        b'"weight_map": {', b'"weight_map": {"lm_head.weight": "x",', 1)), [INDEX, lm, "twice"])
    case("an index above 64 MiB", changed(V3, index=lambda p: sparse(p, (64 << 20) + 1)), [INDEX, "64 MiB"])
    for i, s in enumerate(SHARDS):
        case(f"shard {i + 1} of 3 cut", {**V3, s: V3[s][:-8]}, [s, "cut"])
    good("an index without metadata", index_with(lambda d: d.pop("metadata") and None))
    good("an index whose metadata is null", index_with(lambda d: d.update(metadata=None)))
    good("an index with an empty metadata", index_with(lambda d: d.update(metadata={})))
    good("an index with a wrong total_size", index_with(lambda d: d.update(metadata={"total_size": 1})))


def sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)


# ---- config.json (1.1)

def config_of(base, new):
    c = json.loads(base["config.json"])
    for key, value in new.items():
        if value is DELETE:
            c.pop(key, None)
        else:
            c[key] = value
    return changed(base, config=json.dumps(c).encode())


DELETE = object()


def config(name, new, words, base=V3):
    case(name, config_of(base, new), ["config.json"] + ([words] if isinstance(words, str) else list(words)))


def configs():
    cfg = V3["config.json"]
    case("no config.json", changed(V3, config=None), "config.json")
    case("an empty config.json", changed(V3, config=b""), "config.json")
    case("a config.json that is not JSON", changed(V3, config=b"model_type: deepseek_v3"), ["config.json", "JSON"])
    case("a config.json that is a list", changed(V3, config=b"[1]"), "config.json")
    case("a config.json that is not UTF-8", changed(V3, config=cfg.replace(b"silu", b"s\xfflu")), ["config.json", "JSON"])
    case("a config.json with a byte-order mark", changed(V3, config=b"\xef\xbb\xbf" + cfg), ["config.json"])
    case("a config.json above 1 MiB", changed(V3, config=cfg + b" " * (1 << 20)), ["config.json", "1048576"])
    case("a key twice in config.json", changed(V3, config=cfg.replace(b"{", b'{"hidden_size": 144,', 1)),
         ["config.json", "hidden_size", "twice"])
    case("a key twice in rope_scaling", changed(V3, config=cfg.replace(b'"factor": 40', b'"factor": 40, "factor": 40')),
         ["config.json", "factor", "twice"])
    case("a config.json nested a hundred deep", changed(V3, config=cfg.replace(b"{", b'{"x": ' + b"[" * 100 + b"]" * 100 + b",", 1)),
         ["config.json", "nested"])
    required = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads kv_lora_rank qk_nope_head_dim "
                "qk_rope_head_dim v_head_dim max_position_embeddings moe_intermediate_size num_experts_per_tok model_type "
                "architectures").split()
    for key in required:
        config(f"config.json without {key}", {key: DELETE}, key)
        config(f"{key} null", {key: None}, key)
    numbers = [k for k in required if k not in ("model_type", "architectures")] + \
        "n_routed_experts n_shared_experts n_group topk_group first_k_dense_replace moe_layer_freq num_nextn_predict_layers".split()
    for key in numbers:
        for value in (-1, 1.5, "3", [3], True, 2**33, 1e300):
            config(f"{key} = {value!r}", {key: value}, key)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "kv_lora_rank",
                "qk_rope_head_dim", "v_head_dim", "moe_intermediate_size", "num_experts_per_tok", "max_position_embeddings",
                "n_group", "topk_group", "moe_layer_freq"):
        config(f"{key} = 0", {key: 0}, key)
    for key, value in (("vocab_size", 1 << 23), ("hidden_size", 1 << 21), ("num_hidden_layers", 600), ("num_attention_heads", 2000),
                       ("n_routed_experts", 8192), ("qk_rope_head_dim", 512), ("max_position_embeddings", 1 << 25),
                       ("num_experts_per_tok", 65), ("n_shared_experts", 4097)):
        config(f"{key} = {value} is above its limit", {key: value, **({"num_key_value_heads": value} if "heads" in key else {})}, key)
    config("an odd rotary width", {"qk_rope_head_dim": 15}, "qk_rope_head_dim")
    for value in ("deepseek_v32", "llama", "deepseek", "", 3, "DEEPSEEK_V3"):
        config(f"model_type {value!r}", {"model_type": value}, "model_type")
    for value in (["LlamaForCausalLM"], [], "DeepseekV3ForCausalLM", [1], ["DeepseekV2ForCausalLM"], ["DeepseekV32ForCausalLM"]):
        config(f"architectures {value!r}", {"architectures": value}, "architectures")
    config("fewer key heads than heads", {"num_key_value_heads": 2}, "num_key_value_heads")
    for value in ("gelu", "relu", 1):
        config(f"hidden_act {value!r}", {"hidden_act": value}, "hidden_act")
    for key in ("norm_topk_prob", "attention_bias", "tie_word_embeddings"):
        for value in ("true", 1, []):
            config(f"{key} = {value!r}", {key: value}, key)
    config("rope_interleave false", {"rope_interleave": False}, "rope_interleave")
    for value in (0, -1e-6, 1, "1e-6", 1e-60):
        config(f"rms_norm_eps {value!r}", {"rms_norm_eps": value}, "rms_norm_eps")
    for value in (0, -2.5, "2.5", 1e300):
        config(f"routed_scaling_factor {value!r}", {"routed_scaling_factor": value}, "routed_scaling_factor")
    for value in ("softmax_topk", 2):
        config(f"scoring_func {value!r}", {"scoring_func": value}, "scoring_func")
        config(f"topk_method {value!r}", {"topk_method": value}, "topk_method")
    config("noaux_tc with softmax", {"scoring_func": "softmax"}, "scoring_func")
    config("greedy with sigmoid", {"topk_method": "greedy"}, "topk_method")
    config("groups that do not divide the experts", {"n_group": 7}, ["n_group", "7"])
    config("more groups kept than there are", {"topk_group": 9}, "topk_group")
    config("more experts per token than the kept groups have", {"topk_group": 1}, "num_experts_per_tok")
    config("more experts per token than experts", {"num_experts_per_tok": 33}, "num_experts_per_tok")
    config("groups of one expert", {"n_group": 32, "topk_group": 32}, "groups of one")
    for key, value in (("eos_token_id", 256), ("eos_token_id", -1), ("eos_token_id", "1"), ("eos_token_id", [1, 999]),
                       ("eos_token_id", list(range(17))), ("bos_token_id", 256), ("bos_token_id", "0")):
        config(f"{key} = {value!r}", {key: value}, [], changed(V3, generation=None))
    rope = json.loads(cfg)["rope_scaling"]
    for kind in ("linear", "dynamic", "llama3", "longrope", "mrope", 5):
        config(f"rope_scaling type {kind!r}", {"rope_scaling": {**rope, "type": kind}}, "rope_scaling")
    config("rope_scaling without a type", {"rope_scaling": {k: v for k, v in rope.items() if k != "type"}}, "type")
    config("rope_scaling with two types", {"rope_scaling": {**rope, "rope_type": "linear"}}, "type")
    config("rope_scaling that is a list", {"rope_scaling": [rope]}, "rope_scaling")
    config("rope_scaling and another rope_parameters", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters")
    new = {"rope_type": "yarn", "rope_theta": 10000.0, **{k: float(v) for k, v in rope.items() if k != "type"}}
    for value in ([], "yarn", 5, {}, {**new, "rope_type": "linear"}, {**new, "factor": "x"}, {**new, "mscale": -1}):
        config(f"rope_parameters {str(value)[:60]}", {"rope_scaling": DELETE, "rope_parameters": value}, "rope_parameters")
    config("rope_scaling and rope_parameters of another factor", {"rope_parameters": {**new, "factor": 39}}, "differ")
    config("rope_parameters of another theta", {"rope_parameters": {**new, "rope_theta": 5e4}}, "rope_theta")
    good("rope_scaling and rope_parameters that say the same", config_of(V3, {"rope_parameters": new}))
    config("truncate false", {"rope_scaling": {**rope, "truncate": False}}, "truncate")
    for key in ("factor", "original_max_position_embeddings"):
        config(f"rope_scaling without {key}", {"rope_scaling": {k: v for k, v in rope.items() if k != key}}, key)
    for key in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"):
        for value in (0, -1, "40", 1e300, []):
            config(f"rope_scaling {key} = {value!r}", {"rope_scaling": {**rope, key: value}}, key)
    config("rope_theta in two places that differ", {"rope_scaling": {**rope, "rope_theta": 5}}, "rope_theta")
    for value in (0, 1, -1e4, "10000", 1e300):
        config(f"rope_theta {value!r}", {"rope_theta": value}, "rope_theta")
    q = json.loads(cfg)["quantization_config"]
    for key, values in {"quant_method": ("gptq", "awq", "compressed-tensors", "bitsandbytes", None, 8), "fmt": ("e5m2", 4),
                        "activation_scheme": ("static",), "scale_fmt": ("e4m3",),
                        "weight_block_size": ([64, 64], [128], [128, 128, 1], None, 128, ["128", "128"], [128, 0])}.items():
        for value in values:
            config(f"quantization_config {key} = {value!r}", {"quantization_config": {**q, key: value}}, key)
    config("quantization_config that is a string", {"quantization_config": "fp8"}, "quantization_config")

    gen = "generation_config.json"
    case("a generation_config.json that is not JSON", changed(V3, generation=b"{"), gen)
    case("a generation_config.json that is a list", changed(V3, generation=b"[]"), gen)
    for key, value in (("eos_token_id", 256), ("eos_token_id", [1, -2]), ("eos_token_id", {}), ("temperature", -1), ("temperature", "0.6"),
                       ("top_p", 0), ("top_p", 1.01), ("top_p", "1"), ("bos_token_id", 256), ("bos_token_id", "0"), ("bos_token_id", -1)):
        case(f"generation_config {key} = {value!r}", changed(V3, generation=json.dumps({key: value}).encode()), [gen, key])

    good("numbers written as 40.0", config_of(V3, {"hidden_size": 144.0, "rope_scaling": {**rope, "factor": 40.0}}))
    good("no generation_config.json", changed(V3, generation=None))
    good("head_dim that means nothing", config_of(V3, {"head_dim": 16}))
    good("rope_type in place of type", config_of(V3, {"rope_scaling": {
        "rope_type": "yarn", **{k: v for k, v in rope.items() if k != "type"}}}))
    good("fields that nobody knows", config_of(V3, {"swiglu_limit": None, "ep_size": 8, "x": {"y": [1]}}))
    good("no gate fields, which the family's defaults fill", config_of(V3, {
        k: DELETE for k in ("topk_method", "scoring_func", "moe_layer_freq", "n_group", "topk_group", "norm_topk_prob")}))
    good("an MTP layer that is announced but absent", config_of(MOON, {"num_nextn_predict_layers": 1}), "MTP is absent")
    good("tensors of a layer beyond the last", config_of(V3, {"num_nextn_predict_layers": 0}), "beyond")


# ---- tensors against the config (2.3, api.md)

def edit(change, base=None):
    """v3 as one dict of tensors, changed, and written back into its shards and index."""
    base = base or V3
    names = [n for n in base if n.endswith(".safetensors")]
    shards = {n: ck.tensors(base[n]) for n in names}
    where = {t: n for n in names for t in shards[n]}

    class All(dict):
        def __setitem__(self, name, t):
            shards[where.setdefault(name, names[-1])][name] = t

        def __getitem__(self, name):
            return shards[where[name]][name]

        def __delitem__(self, name):
            del shards[where.pop(name)][name]
    change(All())
    out = {**base, **{n: ck.pack(shards[n]) for n in names}}
    if INDEX in base:
        out[INDEX] = json.dumps({"metadata": {}, "weight_map": where}).encode()
    return out


def tensor(name, change, words, **more):
    case(name, edit(change), words, **more)


def with_dtype(name, dtype, width):
    def change(a):
        count = 1
        for d in a[name].shape:
            count *= d
        a[name] = ck.Tensor(dtype, a[name].shape, b"\0" * (count * width))
    return change


def reshaped(name, shape):
    def change(a):
        a[name] = ck.Tensor(a[name].dtype, shape, a[name].data)
    return change


def removed(name):
    def change(a):
        del a[name]
    return change


def added(name, t):
    def change(a):
        a[name] = t
    return change


L = "model.layers.1."
QA = L + "self_attn.q_a_proj.weight"
EXPERT = L + "mlp.experts.7.up_proj.weight"
GATE = L + "mlp.gate.weight"
BIAS = L + "mlp.gate.e_score_correction_bias"


def weights():
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", L + "input_layernorm.weight", QA,
                 L + "self_attn.q_a_layernorm.weight", L + "self_attn.kv_b_proj.weight", GATE, BIAS, EXPERT,
                 L + "mlp.shared_experts.down_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.3.eh_proj.weight",
                 "model.layers.3.enorm.weight", "model.layers.3.shared_head.norm.weight"):
        tensor(f"{name} is missing", removed(name), [name, "missing"])
    for name in (QA, EXPERT, "model.layers.0.mlp.down_proj.weight"):
        scale = name + "_scale_inv"
        tensor(f"{scale} is missing", removed(scale), [scale, "missing"])
        tensor(f"{scale} in BF16", with_dtype(scale, "BF16", 2), [scale, "BF16", "expected F32"])
        tensor(f"{scale} in F8_E8M0", with_dtype(scale, "F8_E8M0", 1), [scale, "F8_E8M0"])
        tensor(f"{scale} with another shape", lambda a, s=scale: added(s, ck.Tensor("F32", [1, 1], b"\0" * 4))(a),
               [scale, "[1, 1]", "expected"])
        for dtype, width in (("F8_E4M3FNUZ", 1), ("F8_E5M2", 1), ("I8", 1), ("F16", 2), ("F32", 4)):
            tensor(f"{name} in {dtype}", with_dtype(name, dtype, width), [name, dtype, "expected"])
        tensor(f"{name} in BF16 beside its scales", with_dtype(name, "BF16", 2), [name, "BF16", scale])

    def transposed(a):
        t = a[QA + "_scale_inv"]
        a[QA + "_scale_inv"] = ck.Tensor("F32", [3, 1] if t.shape != [3, 1] else [1, 3], t.data[:12])
    tensor("scales with a transposed shape", transposed, QA + "_scale_inv")
    tensor("a transposed matrix", reshaped(QA, [144, 136]), [QA, "[144, 136]", "expected [136, 144]"])
    tensor("a matrix as a vector", reshaped(QA, [144 * 136]), [QA, "expected [136, 144]"])
    tensor("a norm as a matrix", reshaped(NORM, [1, 144]), [NORM, "[1, 144]", "expected [144]"])
    for name, dtype, width in (("model.embed_tokens.weight", "F32", 4), ("lm_head.weight", "F16", 2), (GATE, "F32", 4),
                               ("model.layers.3.eh_proj.weight", "F8_E4M3", 1), (NORM, "F16", 2), (NORM, "F64", 8), (BIAS, "I32", 4)):
        tensor(f"{name} in {dtype}", with_dtype(name, dtype, width), [name, dtype])
    bf16 = config_of(V3, {"quantization_config": DELETE})
    case("FP8 without quantization_config", bf16, ["F8_E4M3", "quantization_config", "model.layers.0."])
    case("FP8 with quantization_config null", config_of(V3, {"quantization_config": None}), ["F8_E4M3", "quantization_config"])

    def mixed(a):
        with_dtype(EXPERT, "BF16", 2)(a)
        del a[EXPERT + "_scale_inv"]
    tensor("one routed expert in BF16 among FP8", mixed, "model.layers.1.mlp.experts.")
    vector = ck.Tensor("BF16", [136], b"\0" * 272)
    tensor("a bias that the config does not know", added(L + "self_attn.q_a_proj.bias", vector), L + "self_attn.q_a_proj.bias")
    tensor("a tensor that nobody knows", added("model.layers.1.self_attn.indexer.wk.weight", vector), "indexer")
    tensor("a tensor beside the layers", added("model.visual.weight", vector), "model.visual.weight")
    tensor("a scale of the head", added("lm_head.weight_scale_inv", vector), "lm_head.weight_scale_inv")
    good("tensors outside the model's names", edit(added("visual.patch_\x1b\u009bembed", vector)),
         "1 tensors are no part of this model and are ignored, visual.patch_\\x1b\\xc2\\x9bembed")
    good("a scalar outside the model's names", edit(added("scale", ck.Tensor("F32", [], b"\0" * 4))), "ignored")
    good("an empty tensor that nobody knows", edit(added(L + "mlp.unknown", ck.Tensor("F32", [7, 0], b""))), "ignored")
    tensor("an expert beyond the last", lambda a: added(L + "mlp.experts.32.up_proj.weight", a[EXPERT])(a), "experts.32.")
    tensor("routed experts in a dense layer", lambda a: added("model.layers.0.mlp.experts.0.up_proj.weight", a[EXPERT])(a),
           "model.layers.0.mlp.experts.0.")

    def fused(a):
        for i in range(32):
            for part in ("gate_proj", "up_proj", "down_proj"):
                for suffix in ("", "_scale_inv"):
                    del a[f"{L}mlp.experts.{i}.{part}.weight{suffix}"]
        a[L + "mlp.experts.gate_up_proj"] = ck.Tensor("BF16", [32, 64, 144], b"\0" * (32 * 64 * 144 * 2))
        a[L + "mlp.experts.down_proj"] = ck.Tensor("BF16", [32, 144, 32], b"\0" * (32 * 144 * 32 * 2))
    tensor("experts fused into one tensor", fused, [L + "mlp.experts.gate_up_proj", "fused"])
    for key, value, name in (("hidden_size", 160, "model.embed_tokens.weight"), ("vocab_size", 300, "model.embed_tokens.weight"),
                             ("q_lora_rank", 128, "q_a_proj"), ("q_lora_rank", None, "q_proj.weight"), ("kv_lora_rank", 64, "kv_a_"),
                             ("v_head_dim", 32, "kv_b_proj"), ("num_hidden_layers", 4, "model.layers.3."),
                             ("moe_intermediate_size", 64, "mlp."), ("n_routed_experts", 64, "mlp.gate"), ("n_shared_experts", 2, "shared_experts"),
                             ("first_k_dense_replace", 0, "model.layers.0.mlp"), ("attention_bias", True, ".bias"),
                             ("n_shared_experts", None, "shared_experts")):
        case(f"{key} = {value!r} does not fit the weights", config_of(V3, {key: value}), name)
    case("tied embeddings said to be untied", config_of(MOON, {"tie_word_embeddings": False}), ["lm_head.weight", "missing"])
    good("tied embeddings with a head that is not used", config_of(V3, {"tie_word_embeddings": True}), "not used")
    good("norms and correction bias in F32 or BF16", edit(lambda a: [
        with_dtype(NORM, "F32", 4)(a), with_dtype(BIAS, "BF16", 2)(a)]))
    good("an old file's rotary table", edit(added(L + "self_attn.rotary_emb.inv_freq", ck.Tensor("F32", [8], b"\0" * 32))))

    def copies(a):
        a["model.layers.3.embed_tokens.weight"] = a["model.embed_tokens.weight"]
        a["model.layers.3.shared_head.head.weight"] = a["lm_head.weight"]
    good("MTP's own copies of embedding and head", edit(copies))

    def whole_bf16(a):
        mixed(a)
        for l in (1, 2, 3):
            for i in range(32):
                for part in ("gate_proj", "up_proj", "down_proj"):
                    n = f"model.layers.{l}.mlp.experts.{i}.{part}.weight"
                    if n != EXPERT:
                        with_dtype(n, "BF16", 2)(a)
                        del a[n + "_scale_inv"]
    good("all routed experts in BF16 in a quantised model", edit(whole_bf16))


# ---- numbers that are not finite: info reads no weights, verify finds them all

def poked(name, element, value):
    def change(a):
        t = a[name]
        width = len(value)
        at = element * width if element >= 0 else len(t.data) + element * width
        a[name] = ck.Tensor(t.dtype, t.shape, t.data[:at] + value + t.data[at + width:])
    return change


def numbers():
    nan16, inf16, nan32, inf32 = b"\xc0\x7f", b"\x80\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\xff"
    for name, value in ((GATE, nan16), (GATE, inf16), (BIAS, nan32), (BIAS, inf32), (NORM, nan16), (QA, b"\x7f"), (QA, b"\xff"),
                        (QA + "_scale_inv", nan32), (EXPERT, b"\x7f"), (EXPERT, b"\xff"), (EXPERT + "_scale_inv", inf32),
                        ("model.embed_tokens.weight", nan16), ("lm_head.weight", inf16), ("model.layers.3.eh_proj.weight", nan16)):
        for element in (0, 1, -1):
            files = edit(poked(name, element, value))
            case(f"{value.hex()} in element {element} of {name}", files, [".safetensors", name, "not a finite"], 3, "verify")
    files = edit(poked(EXPERT, 5, b"\x7f"))
    good("a damaged expert, of which info knows nothing", files)
    ts = {"model.layers.9.a": ck.Tensor("U8", [1], b"a"), **ck.tensors(MOON[ONE])}
    ts[NORM] = ck.Tensor("BF16", [112], ts[NORM].data[:220] + nan16 + ts[NORM].data[222:])
    case("a NaN in a tensor at an odd byte", raw(ck.pack(ts)), [ONE, NORM, "element 110"], 3, "verify")
    for name, value in ((GATE, nan16), (BIAS, inf32), (QA + "_scale_inv", nan32), (NORM, nan16), ("model.layers.3.eh_proj.weight", nan16)):
        case(f"score of {value.hex()} in {name}", edit(poked(name, 3, value)), [".safetensors", name, "not a finite"], 3, "score")
    for name, value in ((EXPERT, b"\x7f"), (EXPERT, b"\xff"), (L + "mlp.experts.31.down_proj.weight", b"\x7f")):
        for element in (0, 5, -1):
            case(f"score of {value.hex()} in element {element} of {name}", edit(poked(name, element, value)),
                 [".safetensors", "tensor " + name, "not finite"], 3, "score")
    case("score of weights so large that the sums overflow", edit(poked(L + "self_attn.o_proj.weight_scale_inv", 0, b"\xff\xff\x7f\x7f")),
         ["finite", "layer"], 3, "score")
    case("score of a cut shard", {**V3, SHARDS[0]: V3[SHARDS[0]][:-8]}, [SHARDS[0], "cut"], 3, "score")
    case("score of a config that lies", config_of(V3, {"hidden_size": 160}), "model.embed_tokens.weight", 3, "score")
    good("score of a good model", V3, command="score")
    case("verify of a cut shard", {**V3, SHARDS[0]: V3[SHARDS[0]][:-8]}, [SHARDS[0]], 3, "verify")
    good("verify of a good model", V3, command="verify")


# ---- files that are not files

def files_of_the_wrong_kind():
    fifo = os.mkfifo
    for name in ("config.json", ONE, "tokenizer.json", "generation_config.json", INDEX):
        case(f"{name} is a pipe", {**MOON, name: fifo}, [name, "not a regular file"])
        case(f"{name} is a directory", {**MOON, name: os.mkdir}, [name, "not a regular file"])
    case("a shard is a link to a device", {**MOON, ONE: lambda p: os.symlink("/dev/zero", p)}, [ONE, "not a regular file"])
    case("a shard is a link to nothing", {**MOON, ONE: lambda p: os.symlink("nowhere", p)}, [ONE])
    case("a shard is a link to itself", {**MOON, ONE: lambda p: os.symlink(os.path.basename(p), p)}, [ONE])
    case("a shard whose header is all zero", {**MOON, ONE: lambda p: sparse(p, 1 << 30)}, [ONE])

    def linked(path):
        real = os.path.join(os.path.dirname(os.path.dirname(path)), "real")
        with open(real, "wb") as f:
            f.write(MOON[ONE])
        os.symlink(real, path)
    good("a shard is a link to a file elsewhere", {**MOON, ONE: linked})
    good("files that have nothing to do with the model", {**MOON, "README.md": b"x", ".hidden.safetensors": b"x"})


def run(command, path):
    """For score: one prompt that meets every expert, and an output that must not be there after a failure."""
    arguments, out = [], path + ".logits"
    if command == "score":
        with open(path + ".prompts", "w") as f:
            json.dump({"prompts": [list(range(200))]}, f)
        arguments = [path + ".prompts", "--logits", out, "--memory", "300M", "--threads", "1"]
    p = subprocess.run([PENSTOCK, command, path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    left = sorted(os.listdir(os.path.dirname(path))) if command == "score" and p.returncode else []
    beside = [n for n in left if n.startswith("model.logits")]
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace") + "".join(f"\nleft: {n}" for n in beside)


def check(n, name, files, command, status, words):
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "model")
        ck.write(files, path)
        rc, out, err = run(command, path)
        shutil.rmtree(path)
    said = err if status else out + err
    missing = [w for w in words if w not in said] + ["no output"] * ("\nleft: " in err)
    ok = rc == status and not missing and (not status or err.startswith("penstock: ")) and \
        all(c == "\n" or c >= " " for c in err)
    verdict = "is accepted" if status == 0 else f"ends {command} with {status}"
    print(f"{'ok' if ok else 'not ok'} {n} - {name} {verdict}".replace("#", "\\#"))
    if not ok:
        print(f"# exit status {rc}, expected {status}; missing in the message: {missing}")
        print("# " + said.replace("\n", "\n# ").encode("ascii", "backslashreplace").decode()[:600])
    return ok


def main():
    container()
    shard_index()
    configs()
    weights()
    numbers()
    files_of_the_wrong_kind()
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    todo = [c for c in cases if word in c[0]]
    print(f"1..{len(todo) + 2}")
    good_so_far = all([check(i + 1, *c) for i, c in enumerate(todo)])
    n = len(todo)
    rc, _, err = run("info", "/nonexistent/model")
    ok1 = rc == 3 and "/nonexistent/model" in err
    print(f"{'ok' if ok1 else 'not ok'} {n + 1} - a missing directory ends info with 3")
    rc, _, err = run("info", os.path.join(ROOT, "build.sh"))
    ok2 = rc == 3 and "build.sh" in err
    print(f"{'ok' if ok2 else 'not ok'} {n + 2} - a file in place of the directory ends info with 3")
    return 0 if good_so_far and ok1 and ok2 else 1


sys.exit(main())
