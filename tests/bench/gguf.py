"""Random models in GGUF with the shape of one of ours, for ik_llama.cpp: only the shape and the types of its tensors matter to a benchmark. Weights
are random bytes with sane scales. Gates differ from layer to layer and embeddings outweigh what the layers add, so that the experts of a token are
as random as those of a model of `penstock synth`: a cache hits what its size says."""
import json
import os
import random
import struct

# name: (number in GGUF, elements per block, bytes per block, {offset: bytes that may not be random}, bytes before each row)
TYPES = {
    "f32": (0, 1, 4, {}, b""),
    "q4_0": (2, 32, 18, {0: struct.pack("<e", 0.004)}, b""),
    "q8_0": (8, 32, 34, {0: struct.pack("<e", 0.0003)}, b""),
    "q4_k": (12, 256, 144, {0: struct.pack("<ee", 0.0001, 0.0008)}, b""),
    "iq4_nl": (20, 32, 18, {0: struct.pack("<e", 0.0003)}, b""),
    "iq4_xs": (23, 256, 136, {0: struct.pack("<e", 0.00001)}, b""),
    "bf16": (30, 1, 2, {}, b""),
    "iq4_k": (139, 256, 144, {0: struct.pack("<e", 0.00001)}, b""),
    "iq4_ks": (144, 256, 136, {}, struct.pack("<f", 0.000005)),
}
U32, F32, BOOL, STRING = 4, 6, 7, 8
PATTERN = 4 << 20


def _string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def _value(v):
    if isinstance(v, bool):
        return struct.pack("<IB", BOOL, v)
    if isinstance(v, int):
        return struct.pack("<II", U32, v)
    if isinstance(v, float):
        return struct.pack("<If", F32, v)
    return struct.pack("<I", STRING) + _string(v)


def _rows(type_, n_in, rows):
    """Bytes of `rows` different rows."""
    _, block, size, fixed, head = TYPES[type_]
    blocks = n_in // block
    assert blocks * block == n_in, f"{type_} needs rows that are a multiple of {block}"
    if type_ == "f32":
        return struct.pack(f"<{n_in * rows}f", *(random.uniform(-0.03, 0.03) for _ in range(n_in * rows)))
    data = bytearray(random.randbytes(blocks * rows * size))
    if type_ == "bf16":  # about 0.02 and less
        data[1::2] = bytes(0x3c | (b & 0x80) for b in data[1::2])
    for off, value in fixed.items():
        for i, byte in enumerate(value):
            data[off + i::size] = bytes([byte]) * (blocks * rows)
    if not head:
        return bytes(data)
    return b"".join(head + data[r * blocks * size:(r + 1) * blocks * size] for r in range(rows))


def _louder(pattern, type_):
    """The same numbers, a hundred times as large."""
    data, size = bytearray(pattern), TYPES[type_][2]
    if type_ == "bf16":
        data[1::2] = bytes((b & 0x80) | 0x3f for b in data[1::2])
    for off, value in TYPES[type_][3].items():
        for i, byte in enumerate(struct.pack("<e", 100 * struct.unpack("<e", value)[0])):
            data[off + i::size] = bytes([byte]) * (len(data) // size)
    return bytes(data)


def _tensors(c, experts, rest):
    """[(name, dimensions with the innermost first, type)]"""
    h, heads, lora, rope = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"], c["qk_rope_head_dim"]
    q, nope, v, e, m = c["q_lora_rank"], c["qk_nope_head_dim"], c["v_head_dim"], c["n_routed_experts"], c["moe_intermediate_size"]
    out = [("token_embd", [h, c["vocab_size"]], rest), ("output_norm", [h], "f32"), ("output", [h, c["vocab_size"]], rest)]
    for i in range(c["num_hidden_layers"]):
        layer = [("attn_norm", [h], "f32"), ("attn_q_a_norm", [q], "f32"), ("attn_kv_a_norm", [lora], "f32"), ("ffn_norm", [h], "f32"),
                 ("attn_q_a", [h, q], rest), ("attn_q_b", [q, heads * (nope + rope)], rest), ("attn_kv_a_mqa", [h, lora + rope], rest),
                 ("attn_kv_b", [lora, heads * (nope + v)], rest), ("attn_output", [heads * v, h], rest)]
        if i < c["first_k_dense_replace"]:
            d = c["intermediate_size"]
            layer += [("ffn_gate", [h, d], rest), ("ffn_up", [h, d], rest), ("ffn_down", [d, h], rest)]
        else:
            s = m * c["n_shared_experts"]
            layer += [("ffn_gate_inp", [h, e], "f32"), ("exp_probs_b", [e], "f32"),
                      ("ffn_gate_exps", [h, m, e], experts), ("ffn_up_exps", [h, m, e], experts), ("ffn_down_exps", [m, h, e], experts),
                      ("ffn_gate_shexp", [h, s], rest), ("ffn_up_shexp", [h, s], rest), ("ffn_down_shexp", [s, h], rest)]
        out += [(f"blk.{i}.{name}", dims, t) for name, dims, t in layer]
    return [(name + (".bias" if name.endswith("probs_b") else ".weight"), dims, t) for name, dims, t in out]


def _size(dims, type_):
    _, block, size, _, head = TYPES[type_]
    rows = 1
    for n in dims[1:]:
        rows *= n
    return rows * (len(head) + dims[0] // block * size)


def _keys(c):
    k = {"general.architecture": "deepseek2", "general.name": "random", "tokenizer.ggml.model": "no_vocab"}
    for key, value in {
            "vocab_size": c["vocab_size"], "context_length": 4096, "embedding_length": c["hidden_size"], "block_count": c["num_hidden_layers"],
            "feed_forward_length": c["intermediate_size"], "leading_dense_block_count": c["first_k_dense_replace"],
            "attention.head_count": c["num_attention_heads"], "attention.head_count_kv": c["num_attention_heads"],
            "attention.layer_norm_rms_epsilon": 1e-6, "attention.q_lora_rank": c["q_lora_rank"], "attention.kv_lora_rank": c["kv_lora_rank"],
            "attention.key_length": c["qk_nope_head_dim"] + c["qk_rope_head_dim"], "attention.value_length": c["v_head_dim"],
            "rope.dimension_count": c["qk_rope_head_dim"], "rope.freq_base": float(c["rope_theta"]),
            "expert_count": c["n_routed_experts"], "expert_used_count": c["num_experts_per_tok"], "expert_shared_count": c["n_shared_experts"],
            "expert_feed_forward_length": c["moe_intermediate_size"], "expert_weights_scale": float(c["routed_scaling_factor"]),
            "expert_weights_norm": True, "expert_gating_func": 2}.items():
        k["deepseek2." + key] = value
    return k


def write(path, model, experts, rest):
    """Writes `path` in the shape of the checkpoint folder `model`: routed experts of one type, all other matrices of another."""
    if os.path.exists(path):
        return
    with open(os.path.join(model, "config.json")) as f:
        c = json.load(f)
    random.seed(1)
    tensors, keys = _tensors(c, experts, rest), _keys(c)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, value in keys.items():
        head += _string(key) + _value(value)
    at = 0
    for name, dims, t in tensors:
        head += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[t][0], at)
        at += (_size(dims, t) + 31) // 32 * 32
    patterns = {}
    with open(path + ".part", "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for name, dims, t in tensors:
            left = _size(dims, t)
            pad = -left % 32
            if name.endswith("norm.weight"):
                f.write(struct.pack("<f", 1.0) * dims[0])
                continue
            row = _size(dims[:1], t)
            key = (t, dims[0], name if t == "f32" else "")
            if key not in patterns:
                patterns[key] = _rows(t, dims[0], max(1, min(PATTERN, left) // row))
            pattern = patterns[key]
            if name == "token_embd.weight":
                pattern = _louder(pattern, t)
            begin = random.randrange(len(pattern) // row) * row  # no two matrices are alike
            pattern = pattern[begin:] + pattern[:begin]
            while left:
                f.write(pattern[:left])
                left -= min(left, len(pattern))
            f.write(bytes(pad))
    os.rename(path + ".part", path)
