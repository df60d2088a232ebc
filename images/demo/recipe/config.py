"""The shape of the demo model: the fields of its config.json, and nothing else."""

from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
TEMPLATE_FILE = HERE / "chat_template.jinja"  # DeepSeek-V3.1's, as published
FP8_BLOCK = 128
ORIGINAL_POSITIONS = 512  # what pre-training saw; YaRN stretches it
YARN = {
    "type": "yarn",
    "factor": 8,
    "original_max_position_embeddings": ORIGINAL_POSITIONS,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}

FIELDS = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "kv_lora_rank": 128,
    "max_position_embeddings": 8 * ORIGINAL_POSITIONS,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 96,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 32,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
    },
    "rms_norm_eps": 1e-6,
    "rope_scaling": YARN,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 64,
    "vocab_size": 4096,
}
CONFIG = SimpleNamespace(**FIELDS)
MTP_LAYER = CONFIG.num_hidden_layers
