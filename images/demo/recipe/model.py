"""DeepSeek-V3 at toy scale for training on a CPU: MLA, grouped sigmoid routing, one MTP module.

The forward pass is a function of a dict of BF16 weights (what the checkpoint will hold, see weights.py) and the gates'
correction biases. Residual stream, norms, gates and softmax are FP32; inputs of matrix products are BF16. T is the
number of tokens (rows * length), d the hidden size, E the number of experts, K those per token, M an expert's width.
"""

import math

import torch
import torch.nn.functional as F
from torch.autograd import Function

from config import CONFIG, MTP_LAYER

SEGMENT = 32  # experts' rows are padded to a multiple: a matrix product of a new size costs oneDNN a millisecond
LOSS_ROWS = 256  # rows of the loss computed at once
LATENT_EPS = 1e-6
MAIN_LAYERS = range(CONFIG.num_hidden_layers)
MOE_LAYERS = [*range(CONFIG.first_k_dense_replace, CONFIG.num_hidden_layers), MTP_LAYER]


# ---- positions -------------------------------------------------------------------------------------------------


def yarn_gain(yarn):
    return 0.1 * yarn["mscale_all_dim"] * math.log(yarn["factor"]) + 1


def rope_frequencies(yarn):
    dim, base = CONFIG.qk_rope_head_dim, CONFIG.rope_theta
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if yarn is None:
        return frequencies

    def correction(rotations):
        original = yarn["original_max_position_embeddings"]
        return dim * math.log(original / (2 * math.pi * rotations)) / (2 * math.log(base))

    low = max(math.floor(correction(yarn["beta_fast"])), 0)
    high = min(math.ceil(correction(yarn["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2) - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies / yarn["factor"] * ramp + frequencies * (1 - ramp)


class Positions:
    """Cosines and sines of positions 0 .. length - 1, and the scale of the softmax. `yarn` None: before extension."""

    def __init__(self, length, yarn):
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rope_frequencies(yarn)
        self.cos, self.sin = angle.cos().float(), angle.sin().float()
        gain = 1.0 if yarn is None else yarn_gain(yarn)
        self.softmax_scale = (CONFIG.qk_nope_head_dim + CONFIG.qk_rope_head_dim) ** -0.5 * gain * gain

    def at(self, index):
        """The same for chosen positions, [n, 1, dim / 2] each, ready to rotate [n, heads, dim]."""
        return self.cos[index][:, None], self.sin[index][:, None]


def rotate(x, cos, sin):
    """Adjacent pairs; x [..., dim], cos and sin broadcast to [..., dim / 2]."""
    x = x.float()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).bfloat16()


# ---- pieces ----------------------------------------------------------------------------------------------------


def rms(x, weight, eps=CONFIG.rms_norm_eps):
    """FP32 in, FP32 inside, BF16 out: every norm stands before a matrix product."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).bfloat16()


def swiglu(h):
    """h [..., 2 M]: gate and up side by side."""
    gate, up = h.chunk(2, -1)
    return F.silu(gate) * up


def ffn(x, gate_up, down):
    """gate_up [2, M, d], down [d, M]."""
    return F.linear(swiglu(F.linear(x, gate_up.flatten(0, 1))), down)


class Dispatch:
    """Where each (token, choice) lies in a buffer sorted by expert, each expert's segment padded to SEGMENT rows."""

    def __init__(self, experts, n_experts):
        flat = experts.flatten()
        counts = torch.bincount(flat, minlength=n_experts)
        padded = (counts + SEGMENT - 1) // SEGMENT * SEGMENT
        begin, first = padded.cumsum(0) - padded, counts.cumsum(0) - counts
        order = flat.argsort(stable=True)
        sorted_experts = flat[order]
        place = torch.empty_like(flat)
        place[order] = begin[sorted_experts] + torch.arange(len(flat)) - first[sorted_experts]
        self.place = place.view_as(experts)  # [T, K]
        self.rows = int(padded.sum())
        bounds = zip(begin.tolist(), padded.tolist(), strict=True)
        self.segments = [(e, b, b + n) for e, (b, n) in enumerate(bounds) if n]


class Experts(Function):
    """sum over k of weight[t, k] * ffn_e(x[t]), e = experts[t, k]; x [T, d] BF16, weight [T, K] FP32, result FP32.

    Written by hand because 32 experts through autograd are a thousand small nodes: here each layer is one, which loops
    over the experts' products and does everything element-wise at once.
    """

    @staticmethod
    def forward(ctx, x, weight, gate_up, down, experts):
        n_experts, _, width, hidden = gate_up.shape
        where = Dispatch(experts, n_experts)
        choices = experts.shape[1]
        inputs = x.new_zeros(where.rows, hidden)
        inputs[where.place.flatten()] = x.repeat_interleave(choices, 0)
        h = x.new_empty(where.rows, 2 * width)
        for e, begin, end in where.segments:
            torch.mm(inputs[begin:end], gate_up[e].flatten(0, 1).T, out=h[begin:end])
        a = swiglu(h)
        y = x.new_empty(where.rows, hidden)
        for e, begin, end in where.segments:
            torch.mm(a[begin:end], down[e].T, out=y[begin:end])
        chosen = y[where.place]
        ctx.save_for_backward(weight, gate_up, down, inputs, h, a, chosen)
        ctx.where = where
        return torch.bmm(weight[:, None], chosen.float())[:, 0]

    @staticmethod
    def backward(ctx, grad):
        weight, gate_up, down, inputs, h, a, chosen = ctx.saved_tensors
        where, width = ctx.where, gate_up.shape[2]
        weight_grad = torch.bmm(chosen.float(), grad[:, :, None])[:, :, 0]
        y_grad = inputs.new_zeros(where.rows, grad.shape[1])
        y_grad[where.place.flatten()] = (weight[:, :, None] * grad[:, None]).flatten(0, 1).bfloat16()
        a_grad, down_grad = torch.empty_like(a), torch.zeros_like(down)
        for e, begin, end in where.segments:
            torch.mm(y_grad[begin:end], down[e], out=a_grad[begin:end])
            torch.mm(y_grad[begin:end].T, a[begin:end], out=down_grad[e])
        gate, up = h.chunk(2, -1)
        sigmoid = torch.sigmoid(gate)
        h_grad = torch.empty_like(h)
        h_grad[:, :width] = a_grad * up * sigmoid * (1 + gate * (1 - sigmoid))
        h_grad[:, width:] = a_grad * gate * sigmoid
        x_grad, gate_up_grad = torch.empty_like(inputs), torch.zeros_like(gate_up)
        for e, begin, end in where.segments:
            torch.mm(h_grad[begin:end], gate_up[e].flatten(0, 1), out=x_grad[begin:end])
            torch.mm(h_grad[begin:end].T, inputs[begin:end], out=gate_up_grad[e].view(2 * width, -1))
        return x_grad[where.place].sum(1), weight_grad, gate_up_grad, down_grad, None


def route(scores, bias):
    """The chosen experts [T, K]: the best groups by the sum of their two best biased scores, then the best of those."""
    choice = scores + bias
    groups = choice.view(len(choice), CONFIG.n_group, -1)
    best = groups.topk(2, -1).values.sum(-1).topk(CONFIG.topk_group, -1).indices
    keep = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, best, True)
    limited = groups.masked_fill(~keep[:, :, None], -torch.inf).flatten(1)
    return limited.topk(CONFIG.num_experts_per_tok, -1).indices


class TokenLoss(Function):
    """Mean cross entropy of logits hidden @ head.T; the logits live only here, and their gradient is made at once.

    In pieces, because buffers of many megabytes are given back to the system and faulted in anew in every step.
    """

    @staticmethod
    def forward(ctx, hidden, head, targets):
        count = len(targets)
        padded = F.pad(hidden, (0, 0, 0, -count % LOSS_ROWS))
        hidden_grad, head_grad = torch.empty_like(padded), torch.zeros(head.shape)
        loss = torch.zeros(())
        for begin in range(0, count, LOSS_ROWS):
            piece, wanted = padded[begin : begin + LOSS_ROWS], targets[begin : begin + LOSS_ROWS]
            row = torch.arange(len(wanted))
            logits = F.linear(piece, head).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            slope = logits.sub_(normaliser)
            loss -= slope[row, wanted].sum()
            slope.exp_()
            slope[row, wanted] -= 1
            slope[len(wanted) :] = 0
            slope = slope.mul_(1 / count).bfloat16()
            torch.mm(slope, head, out=hidden_grad[begin : begin + LOSS_ROWS])
            head_grad += slope.T @ piece
        ctx.save_for_backward(hidden_grad[:count], head_grad.bfloat16())
        return loss / count

    @staticmethod
    def backward(ctx, grad):
        hidden_grad, head_grad = ctx.saved_tensors
        return hidden_grad * grad, head_grad * grad, None


# ---- the model -------------------------------------------------------------------------------------------------


class Pass:
    """One forward pass of a batch: the weights, the mask and what the balance needs to know afterwards.

    load [MoE layers, E] counts the tokens of each expert; balance_loss is the sequence-wise loss of the report (eq. 17).
    """

    def __init__(self, weights, biases, positions):
        self.weights, self.biases, self.positions = weights, biases, positions
        self.load = torch.zeros(len(MOE_LAYERS), CONFIG.n_routed_experts)
        self.balance_loss = 0.0

    def queries_and_latents(self, x, layer):
        """q [rows, n, heads, nope + rope], latent [rows, n, kv_lora_rank + rope] as it would be cached."""
        w, prefix = self.weights, f"layers.{layer}.attention."
        rows, n, _ = x.shape
        cos, sin = self.positions.at(slice(0, n))
        q = F.linear(rms(F.linear(x, w[prefix + "q_a"]), w[prefix + "q_a_norm"], LATENT_EPS), w[prefix + "q_b"])
        q_nope, q_pe = q.view(rows, n, CONFIG.num_attention_heads, -1).split(
            (CONFIG.qk_nope_head_dim, CONFIG.qk_rope_head_dim), -1
        )
        c, k_pe = F.linear(x, w[prefix + "kv_a"]).split((CONFIG.kv_lora_rank, CONFIG.qk_rope_head_dim), -1)
        c = rms(c, w[prefix + "kv_a_norm"], LATENT_EPS)
        return torch.cat((q_nope, rotate(q_pe, cos, sin)), -1), c, rotate(k_pe, cos[:, 0], sin[:, 0])

    def attention(self, x, layer, mask):
        """x [rows, n, d]; mask [rows, 1, n, n] is added to the scores."""
        w, prefix, heads = self.weights, f"layers.{layer}.attention.", CONFIG.num_attention_heads
        rows, n, _ = x.shape
        q, c, k_pe = self.queries_and_latents(x, layer)
        kv = F.linear(c, w[prefix + "kv_b"]).view(rows, n, heads, -1)
        k_nope, v = kv.split((CONFIG.qk_nope_head_dim, CONFIG.v_head_dim), -1)
        k = torch.cat((k_nope, k_pe[:, :, None].expand(-1, -1, heads, -1)), -1)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.transpose(-1, -2)).float() * self.positions.softmax_scale + mask
        o = scores.softmax(-1).bfloat16() @ v
        return F.linear(o.transpose(1, 2).flatten(2), w[prefix + "o"])

    def moe(self, x, layer):
        """x [rows, n, d] BF16; FP32 result."""
        w, prefix = self.weights, f"layers.{layer}.experts."
        rows, n, hidden = x.shape
        flat = x.flatten(0, 1)
        scores = torch.sigmoid(F.linear(flat.float(), w[prefix + "gate"].float()))
        index = MOE_LAYERS.index(layer)
        with torch.no_grad():
            experts = route(scores, self.biases[index])
            chosen = torch.zeros_like(scores).scatter_(1, experts, 1.0)
        self.load[index] += chosen.sum(0)
        # sequence-wise: how often an expert was chosen in a row, times its mean share of the scores
        frequency = chosen.view(rows, n, -1).mean(1) * CONFIG.n_routed_experts / CONFIG.num_experts_per_tok
        share = (scores / scores.sum(-1, keepdim=True)).view(rows, n, -1).mean(1)
        self.balance_loss = self.balance_loss + (frequency * share).sum(-1).mean()
        weight = scores.gather(1, experts)
        weight = weight / weight.sum(-1, keepdim=True) * CONFIG.routed_scaling_factor
        y = Experts.apply(flat, weight, w[prefix + "gate_up"], w[prefix + "down"], experts)
        return y.view(rows, n, hidden) + ffn(x, w[prefix + "shared.gate_up"], w[prefix + "shared.down"])

    def block(self, h, layer, mask):
        """One decoder layer on the FP32 residual h [rows, n, d]."""
        w, prefix = self.weights, f"layers.{layer}."
        h = h + self.attention(rms(h, w[prefix + "input_norm"]), layer, mask)
        x = rms(h, w[prefix + "ffn_norm"])
        return h + (self.moe(x, layer) if layer in MOE_LAYERS else ffn(x, w[prefix + "gate_up"], w[prefix + "down"]))

    def hidden(self, tokens, mask):
        """After the final norm, BF16: what both lm_head and the MTP module read."""
        h = self.weights["embed"][tokens].float()
        for layer in MAIN_LAYERS:
            h = self.block(h, layer, mask)
        return rms(h, self.weights["norm"])

    def mtp_hidden(self, next_tokens, hidden, mask):
        """Row i has hidden i and token i + 1, and predicts token i + 2; embedding first, as in the checkpoint."""
        w, prefix = self.weights, f"layers.{MTP_LAYER}."
        pair = rms(w["embed"][next_tokens], w[prefix + "enorm"]), rms(hidden, w[prefix + "hnorm"])
        z = F.linear(torch.cat(pair, -1), w[prefix + "eh_proj"]).float()
        return rms(self.block(z, MTP_LAYER, mask), w[prefix + "head_norm"])


def additive_mask(visible):
    """Booleans [rows, n, n] as what is added to scores, [rows, 1, n, n]."""
    return torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)[:, None]


def losses(forward, batch, with_mtp=True):
    """(loss of the next token, loss of the one after, both means over the answers' tokens) of a batch."""
    mask = additive_mask(batch.visible())
    hidden = forward.hidden(batch.tokens, mask)
    head = forward.weights["head"]
    targets, wanted = batch.targets(1)
    main = TokenLoss.apply(hidden[wanted], head, targets[wanted])
    if not with_mtp:
        return main, torch.zeros(())
    ahead, wanted_ahead = batch.targets(2)
    mtp_hidden = forward.mtp_hidden(targets, hidden, mask)
    return main, TokenLoss.apply(mtp_hidden[wanted_ahead], head, ahead[wanted_ahead])
