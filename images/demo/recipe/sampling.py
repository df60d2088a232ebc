"""Generates replies with the training model itself, many at once, with a cache: for rejection sampling and GRPO.

Prompts are aligned to the right, so that all sequences have the same length at every step; what stands before a prompt
is masked. Rotary positions are relative, so the shift does no harm. Attention is the absorbed form on cached latents.
"""

import torch
import torch.nn.functional as F

from config import CONFIG
from model import MAIN_LAYERS, MOE_LAYERS, Experts, ffn, rms, rotate, route


class Sampler:
    def __init__(self, weights, biases, positions):
        self.w, self.biases, self.positions = weights, biases, positions
        heads = CONFIG.num_attention_heads
        self.absorbed = {}
        for layer in MAIN_LAYERS:
            both = weights[f"layers.{layer}.attention.kv_b"].view(heads, -1, CONFIG.kv_lora_rank)
            self.absorbed[layer] = both.split((CONFIG.qk_nope_head_dim, CONFIG.v_head_dim), 1)

    def attention(self, x, layer, begin, hidden_before):
        """x [B, n, d] at positions begin .. begin + n - 1; hidden_before [B, positions] are masked for everyone."""
        w, prefix, heads = self.w, f"layers.{layer}.attention.", CONFIG.num_attention_heads
        batch, n, _ = x.shape
        end = begin + n
        cos, sin = self.positions.at(slice(begin, end))
        q = F.linear(rms(F.linear(x, w[prefix + "q_a"]), w[prefix + "q_a_norm"]), w[prefix + "q_b"])
        q = q.view(batch, n, heads, -1)
        q_nope, q_pe = q.split((CONFIG.qk_nope_head_dim, CONFIG.qk_rope_head_dim), -1)
        c, k_pe = F.linear(x, w[prefix + "kv_a"]).split((CONFIG.kv_lora_rank, CONFIG.qk_rope_head_dim), -1)
        c, k_pe = rms(c, w[prefix + "kv_a_norm"]), rotate(k_pe, cos[:, 0], sin[:, 0])
        cache = self.cache[layer]
        cache[:, begin:end] = torch.cat((c, k_pe), -1)
        w_uk, w_uv = self.absorbed[layer]
        q_latent = torch.einsum("bnhd,hdr->bnhr", q_nope, w_uk)
        query = torch.cat((q_latent, rotate(q_pe, cos, sin)), -1)  # [B, n, heads, rank + rope]
        keys = cache[:, :end]
        scores = (query.flatten(1, 2) @ keys.transpose(1, 2)).float().view(batch, n, heads, end)
        later = torch.ones(n, end, dtype=torch.bool).triu(begin + 1)
        blind = hidden_before[:, None, None, :end] | later[None, :, None]
        p = (scores * self.positions.softmax_scale).masked_fill(blind, -1e30).softmax(-1).bfloat16()
        u = (p.flatten(1, 2) @ keys[..., : CONFIG.kv_lora_rank]).view(batch, n, heads, -1)
        o = torch.einsum("bnhr,hvr->bnhv", u, w_uv)
        return F.linear(o.flatten(2), w[prefix + "o"])

    def moe(self, x, layer):
        w, prefix = self.w, f"layers.{layer}.experts."
        flat = x.flatten(0, 1)
        scores = torch.sigmoid(F.linear(flat.float(), w[prefix + "gate"].float()))
        experts = route(scores, self.biases[MOE_LAYERS.index(layer)])
        weight = scores.gather(1, experts)
        weight = weight / weight.sum(-1, keepdim=True) * CONFIG.routed_scaling_factor
        y = Experts.apply(flat, weight, w[prefix + "gate_up"], w[prefix + "down"], experts)
        return y.view(x.shape) + ffn(x, w[prefix + "shared.gate_up"], w[prefix + "shared.down"])

    def step(self, tokens, begin, hidden_before):
        """tokens [B, n]; the logits after the last of them, [B, vocabulary] FP32."""
        h = self.w["embed"][tokens].float()
        for layer in MAIN_LAYERS:
            prefix = f"layers.{layer}."
            h = h + self.attention(rms(h, self.w[prefix + "input_norm"]), layer, begin, hidden_before)
            x = rms(h, self.w[prefix + "ffn_norm"])
            if layer in MOE_LAYERS:
                h = h + self.moe(x, layer)
            else:
                h = h + ffn(x, self.w[prefix + "gate_up"], self.w[prefix + "down"])
        return F.linear(rms(h[:, -1], self.w["norm"]), self.w["head"]).float()

    def start(self, prompts, room):
        """Empty caches for the prompts and `room` more tokens: (tokens [B, longest], what is masked [B, positions])."""
        longest = max(map(len, prompts))
        total = min(longest + room, len(self.positions.cos))
        tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
        hidden_before = torch.zeros(len(prompts), total, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            hidden_before[row, : longest - len(prompt)] = True
        width = CONFIG.kv_lora_rank + CONFIG.qk_rope_head_dim
        self.cache = {layer: torch.zeros(len(prompts), total, width, dtype=torch.bfloat16) for layer in MAIN_LAYERS}
        return tokens, hidden_before

    @torch.no_grad()
    def first_logits(self, prompts):
        """The logits of the token after each prompt, [B, vocabulary]."""
        tokens, hidden_before = self.start(prompts, 0)
        return self.step(tokens, 0, hidden_before)

    @torch.no_grad()
    def generate(self, prompts, eos, limit, temperature=0.0, generator=None):
        """prompts: lists of ids. Returns one list of new ids for each, without the end token; a reply that reached
        `limit` tokens has no end and is returned as None."""
        tokens, hidden_before = self.start(prompts, limit)
        replies, running = [[] for _ in prompts], torch.arange(len(prompts))
        finished, begin = [False] * len(prompts), 0
        while len(running) and begin + tokens.shape[1] < hidden_before.shape[1]:
            logits = self.step(tokens, begin, hidden_before)
            begin += tokens.shape[1]
            if temperature:
                chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                chosen = logits.argmax(-1)
            ended = chosen == eos
            for row, token, end in zip(running.tolist(), chosen.tolist(), ended.tolist(), strict=True):
                if end:
                    finished[row] = True
                else:
                    replies[row].append(token)
            running, tokens, hidden_before = running[~ended], chosen[~ended, None], hidden_before[~ended]
            self.cache = {layer: cache[~ended] for layer, cache in self.cache.items()}
        return [reply if end else None for reply, end in zip(replies, finished, strict=True)]
