"""The parameters: their table, their FP32 masters in shared memory, and the BF16 copies the model computes with.

The copies are what the checkpoint will hold: matrices that are published as FP8 are put through their own 128x128
quantisation in every step, so the model is trained against it and the FP8 checkpoint loses nothing. The gradient passes
to the master unchanged. Gate and up of a SwiGLU are stacked as [2, M, d], experts as [E, ...].
"""

import math
from dataclasses import dataclass

import torch

from config import CONFIG, FP8_BLOCK, MTP_LAYER
from model import MAIN_LAYERS, MOE_LAYERS

FP8_MAX = 448.0


@dataclass(frozen=True)
class Parameter:
    name: str
    shape: tuple
    fp8: bool
    scale: float  # standard deviation of the initial values; 0 for a norm, which starts at 1

    @property
    def size(self):
        return math.prod(self.shape)


def parameter_table():
    """All parameters, in the order of the layers."""
    c, table = CONFIG, []
    residual_gain = (2 * c.num_hidden_layers) ** -0.5  # what is added to the residual starts small

    def norm(name, width):
        table.append(Parameter(name, (width,), False, 0.0))

    def matrix(name, *shape, fp8=True, gain=1.0):
        table.append(Parameter(name, shape, fp8, 0.5 * gain * shape[-1] ** -0.5))

    def swiglu(prefix, width, *stack):
        matrix(prefix + "gate_up", *stack, 2, width, c.hidden_size)
        matrix(prefix + "down", *stack, c.hidden_size, width, gain=residual_gain)

    matrix("embed", c.vocab_size, c.hidden_size, fp8=False)
    for layer in (*MAIN_LAYERS, MTP_LAYER):
        prefix, heads = f"layers.{layer}.", c.num_attention_heads
        norm(prefix + "input_norm", c.hidden_size)
        matrix(prefix + "attention.q_a", c.q_lora_rank, c.hidden_size)
        norm(prefix + "attention.q_a_norm", c.q_lora_rank)
        matrix(prefix + "attention.q_b", heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), c.q_lora_rank)
        matrix(prefix + "attention.kv_a", c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size)
        norm(prefix + "attention.kv_a_norm", c.kv_lora_rank)
        matrix(prefix + "attention.kv_b", heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank)
        matrix(prefix + "attention.o", c.hidden_size, heads * c.v_head_dim, gain=residual_gain)
        norm(prefix + "ffn_norm", c.hidden_size)
        if layer not in MOE_LAYERS:
            swiglu(prefix, c.intermediate_size)
            continue
        matrix(prefix + "experts.gate", c.n_routed_experts, c.hidden_size, fp8=False)
        swiglu(prefix + "experts.", c.moe_intermediate_size, c.n_routed_experts)
        swiglu(prefix + "experts.shared.", c.n_shared_experts * c.moe_intermediate_size)
    norm("norm", c.hidden_size)
    matrix("head", c.vocab_size, c.hidden_size, fp8=False)
    prefix = f"layers.{MTP_LAYER}."
    for name in ("enorm", "hnorm", "head_norm"):
        norm(prefix + name, c.hidden_size)
    matrix(prefix + "eh_proj", c.hidden_size, 2 * c.hidden_size, fp8=False)
    return table


# ---- FP8 -------------------------------------------------------------------------------------------------------


def blocks(matrix):
    """A view of [..., rows, columns] as [..., row blocks, rows, column blocks, columns], zero-padded where ragged."""
    rows, columns = matrix.shape[-2:]
    padding = (0, -columns % FP8_BLOCK, 0, -rows % FP8_BLOCK)
    padded = torch.nn.functional.pad(matrix, padding) if any(padding) else matrix
    shape = (padded.shape[-2] // FP8_BLOCK, FP8_BLOCK, padded.shape[-1] // FP8_BLOCK, FP8_BLOCK)
    return padded.unflatten(-1, shape[2:]).unflatten(-3, shape[:2])


def quantise(matrix):
    """(codes as E4M3, scale FP32 [..., row blocks, column blocks]) of an FP32 matrix or a stack of them."""
    rows, columns = matrix.shape[-2:]
    blocked = blocks(matrix)
    scale = (blocked.abs().amax((-3, -1)) / FP8_MAX).clamp(min=1e-12)
    codes = (blocked / scale[..., :, None, :, None]).to(torch.float8_e4m3fn)
    return codes.flatten(-2).flatten(-3, -2)[..., :rows, :columns], scale


def dequantise(codes, scale):
    rows, columns = codes.shape[-2:]
    spread = scale.repeat_interleave(FP8_BLOCK, -2)[..., :rows, :].repeat_interleave(FP8_BLOCK, -1)[..., :columns]
    return codes.float() * spread


# ---- storage ---------------------------------------------------------------------------------------------------


class Weights:
    """All parameters of a run, shared between `ranks` processes.

    Each rank owns a contiguous part of every flat buffer and alone updates it; within a part the matrices, which are
    decayed, come first. master, first, second: FP32, the optimiser's; compute: BF16, what the model reads;
    grads [ranks]: BF16, one for each rank's share of the batch.
    """

    def __init__(self, ranks):
        self.table = parameter_table()
        parts = [[] for _ in range(ranks)]
        for parameter in sorted(self.table, key=lambda p: -p.size):
            min(parts, key=lambda part: sum(p.size for p in part)).append(parameter)
        self.place, self.owned, offset = {}, [], 0
        for part in parts:
            begin = offset
            for parameter in sorted(part, key=lambda p: len(p.shape) == 1):
                self.place[parameter.name] = slice(offset, offset + parameter.size)
                offset += parameter.size
            decayed = sum(p.size for p in part if len(p.shape) > 1)
            self.owned.append((slice(begin, begin + decayed), slice(begin + decayed, offset), part))
        self.master, self.first, self.second = (torch.zeros(offset).share_memory_() for _ in range(3))
        self.compute = torch.zeros(offset, dtype=torch.bfloat16).share_memory_()
        self.grads = [torch.zeros(offset, dtype=torch.bfloat16).share_memory_() for _ in range(ranks)]
        self.biases = torch.zeros(len(MOE_LAYERS), CONFIG.n_routed_experts).share_memory_()

    def view(self, flat, parameter):
        return flat[self.place[parameter.name]].view(parameter.shape)

    def initialise(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.table:
            values = self.view(self.master, parameter)
            if parameter.scale:
                values.normal_(0, parameter.scale, generator=generator)
            else:
                values.fill_(1)
        for rank in range(len(self.owned)):
            self.refresh(rank)

    def refresh(self, rank):
        """Makes the BF16 copies of a rank's parameters from their masters."""
        for parameter in self.owned[rank][2]:
            master = self.view(self.master, parameter)
            if parameter.fp8:
                master = dequantise(*quantise(master))
            self.view(self.compute, parameter).copy_(master)

    def leaves(self, rank):
        """The BF16 copies by name, as leaves whose gradients gather in this rank's buffer."""
        leaves = {}
        for parameter in self.table:
            leaf = self.view(self.compute, parameter).detach().requires_grad_()
            leaf.grad = self.view(self.grads[rank], parameter)
            leaves[parameter.name] = leaf
        return leaves

    def copies(self):
        """The BF16 copies by name, for inference."""
        return {parameter.name: self.view(self.compute, parameter) for parameter in self.table}

    STATE = ("master", "first", "second", "biases")

    def state(self):
        place = {name: (part.start, part.stop) for name, part in self.place.items()}
        return {name: getattr(self, name) for name in self.STATE} | {"place": place}

    def load(self, state):
        """Takes over a saved state, also one of another number of ranks."""
        for parameter in self.table:
            saved = slice(*state["place"][parameter.name])
            for name in self.STATE[:3]:
                getattr(self, name)[self.place[parameter.name]] = state[name][saved]
        self.biases.copy_(state["biases"])
        for rank in range(len(self.owned)):
            self.refresh(rank)
