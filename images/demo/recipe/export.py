"""Writes a training state as a checkpoint in DeepSeek's published format: FP8 E4M3 with 128x128 block scales.

Names, dtypes and shapes are those of DeepSeek-V3's own files. The MTP layer's copies of embedding and head are left
out (they would be a fifth of the files); engines share the main model's, as the report says.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from config import CONFIG, FIELDS, MTP_LAYER
from model import MAIN_LAYERS, MOE_LAYERS
from weights import Weights, quantise

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
GENERATION = {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.1, "top_p": 0.95}


def published_names():
    """Pairs (published name, our name, index into it or None); experts and swiglu halves are taken apart."""

    def swiglu(published, ours, *stack):
        yield f"{published}gate_proj", f"{ours}gate_up", (*stack, 0)
        yield f"{published}up_proj", f"{ours}gate_up", (*stack, 1)
        yield f"{published}down_proj", f"{ours}down", stack or None

    yield "model.embed_tokens", "embed", None
    yield "model.norm", "norm", None
    yield "lm_head", "head", None
    for layer in (*MAIN_LAYERS, MTP_LAYER):
        theirs, ours = f"model.layers.{layer}.", f"layers.{layer}."
        yield f"{theirs}input_layernorm", f"{ours}input_norm", None
        yield f"{theirs}post_attention_layernorm", f"{ours}ffn_norm", None
        attention = {
            "q_a_proj": "q_a", "q_a_layernorm": "q_a_norm", "q_b_proj": "q_b", "kv_a_proj_with_mqa": "kv_a",
            "kv_a_layernorm": "kv_a_norm", "kv_b_proj": "kv_b", "o_proj": "o",
        }  # fmt: skip
        for name, our_name in attention.items():
            yield f"{theirs}self_attn.{name}", f"{ours}attention.{our_name}", None
        if layer not in MOE_LAYERS:
            yield from swiglu(f"{theirs}mlp.", ours)
            continue
        yield f"{theirs}mlp.gate", f"{ours}experts.gate", None
        yield from swiglu(f"{theirs}mlp.shared_experts.", f"{ours}experts.shared.")
        for expert in range(CONFIG.n_routed_experts):
            yield from swiglu(f"{theirs}mlp.experts.{expert}.", f"{ours}experts.", expert)
    theirs, ours = f"model.layers.{MTP_LAYER}.", f"layers.{MTP_LAYER}."
    for name in ("enorm", "hnorm", "eh_proj"):
        yield theirs + name, ours + name, None
    yield theirs + "shared_head.norm", ours + "head_norm", None


def tensors(weights):
    """Every tensor of the checkpoint by its published name."""
    table = {parameter.name: parameter for parameter in weights.table}
    result = {}
    for published, ours, index in published_names():
        parameter, master = table[ours], weights.view(weights.master, table[ours])
        part = master if index is None else master[index]
        if parameter.fp8:
            codes, scale = quantise(part)
            result[published + ".weight"] = codes.contiguous()
            result[published + ".weight_scale_inv"] = scale.contiguous()
        else:
            result[published + ".weight"] = part.bfloat16()
    for index, layer in enumerate(MOE_LAYERS):
        result[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"] = weights.biases[index].clone()
    return result


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")


def export(state_file, directory):
    """`state_file` is a state.pt; the tokenizer is taken from beside it."""
    state_file, directory = Path(state_file), Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = torch.load(state_file)
    weights = Weights(ranks=1)
    weights.load(state["weights"])
    save_file(tensors(weights), directory / "model.safetensors", metadata={"format": "pt"})
    yarn = FIELDS["rope_scaling"] if state["place"]["stage"] != "pretrain" else None
    longest = CONFIG.max_position_embeddings if yarn else 512
    write_json(directory / "config.json", FIELDS | {"rope_scaling": yarn, "max_position_embeddings": longest})
    write_json(directory / "generation_config.json", GENERATION)
    for name in TOKENIZER_FILES:
        shutil.copy(state_file.parent / name, directory / name)
