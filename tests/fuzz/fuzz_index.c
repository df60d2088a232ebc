/*
 * An index from another process against arbitrary bytes (model/index.h): what index_open accepts is
 * then walked as a server would. The seed corpus cannot hold a valid index (its layout is the
 * compiler's), so the target makes one from a tiny model and lets the input say which bytes to
 * overwrite: records of 4 bytes offset and 8 bytes value.
 */
#include "model/index.h"
#include "model/tensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	LAYERS = 2,
	EXPERTS = 4,
	BYTES = 16384
};

static void *at(struct index *ix, struct index_span *s, uint64_t *end, uint64_t count, size_t size)
{
	s->off = (*end + 63) & ~(uint64_t)63;
	s->count = count;
	*end = s->off + count * size;
	return (char *)ix + s->off;
}

static uint64_t tensor(struct index_tensor *t, uint32_t kind, uint32_t n_out, uint32_t n_in,
		       uint64_t *resident)
{
	uint64_t bytes = (uint64_t)n_out * n_in * (kind == TENSOR_VECTOR ? 4 : 2);

	*t = (struct index_tensor){.off = *resident,
				   .n_out = n_out,
				   .n_in = n_in,
				   .type = kind == TENSOR_VECTOR ? INDEX_F32 : INDEX_BF16};
	*resident = (*resident + bytes + 63) & ~(uint64_t)63;
	return bytes;
}

static void make(struct index *ix)
{
	static const struct model_config c = {.family = FAMILY_V3,
					      .vocab_size = 64,
					      .hidden_size = 32,
					      .intermediate_size = 32,
					      .moe_intermediate_size = 16,
					      .num_hidden_layers = LAYERS,
					      .num_attention_heads = 2,
					      .q_lora_rank = 16,
					      .kv_lora_rank = 16,
					      .qk_nope_head_dim = 8,
					      .qk_rope_head_dim = 8,
					      .v_head_dim = 8,
					      .n_routed_experts = EXPERTS,
					      .n_shared_experts = 1,
					      .num_experts_per_tok = 2,
					      .n_group = 2,
					      .topk_group = 1,
					      .topk_method = TOPK_NOAUX_TC,
					      .scoring_func = SCORE_SIGMOID,
					      .first_k_dense_replace = 1,
					      .moe_layer_freq = 1,
					      .max_position_embeddings = 256,
					      .bos_token_id = UINT32_MAX,
					      .rms_norm_eps = 1e-6f,
					      .latent_norm_eps = 1e-6f,
					      .routed_scaling_factor = 1,
					      .softmax_scale = 1,
					      .rope_mu = 1,
					      .temperature = 1,
					      .top_p = 1};
	uint64_t end = sizeof(*ix);
	uint64_t resident = sizeof(struct resident_header);
	struct index_layer *layers;
	struct index_expert *experts;
	struct index_file *file;
	struct index_load *load;

	memset(ix, 0, BYTES);
	ix->config = c;
	layers = at(ix, &ix->layers, &end, LAYERS, sizeof(*layers));
	experts = at(ix, &ix->experts, &end, EXPERTS, sizeof(*experts));
	file = at(ix, &ix->files, &end, 1, sizeof(*file));
	load = at(ix, &ix->loads, &end, 1, sizeof(*load));
	memcpy(at(ix, &ix->names, &end, 2, 1), "t", 2);
	for (uint32_t l = 0; l < LAYERS; l++) {
		layers[l].is_moe = config_is_moe(&c, l);
		for (unsigned w = 0; w < LAYER_TENSORS; w++) {
			struct tensor_spec s;

			if (tensor_spec(&c, l, w, &s))
				tensor((struct index_tensor *)(void *)((char *)&layers[l] +
								       s.member),
				       s.kind, s.n_out, s.n_in, &resident);
		}
	}
	tensor(&ix->embed, TENSOR_PLAIN, c.vocab_size, c.hidden_size, &resident);
	tensor(&ix->norm, TENSOR_VECTOR, 1, c.hidden_size, &resident);
	ix->head = ix->embed;
	file->bytes = 1 << 20;
	*load = (struct index_load){.bytes = 64,
				    .off = sizeof(struct resident_header),
				    .stored = INDEX_BF16,
				    .widen = 1};
	for (unsigned i = 0; i < EXPERTS * EXPERT_PARTS; i++)
		experts[i / EXPERT_PARTS].part[i % EXPERT_PARTS].off = i * 1024;
	ix->magic = INDEX_MAGIC;
	ix->version = INDEX_VERSION;
	ix->bytes = end;
	ix->resident_bytes = resident;
	ix->load_bytes = 64;
	ix->expert_type = INDEX_BF16;
}

static uint64_t sum(const void *p, uint64_t n)
{
	uint64_t s = 0;

	for (uint64_t i = 0; i < n; i++)
		s += ((const uint8_t *)p)[i];
	return s;
}

/* Touches everything that offsets and counts lead to. */
static uint64_t walk(const struct index *ix)
{
	uint64_t s = sum((const char *)ix + ix->names.off, ix->names.count);

	s += sum((const char *)ix + ix->tokenizer.off, ix->tokenizer.count);
	s += sum((const char *)ix + ix->candidates.off, ix->candidates.count);
	for (uint32_t l = 0; l < config_layers(&ix->config); l++) {
		const struct index_layer *layer = index_layer(ix, l);

		if (layer->ready_after > ix->load_bytes)
			abort();
		for (uint32_t i = 0; layer->is_moe && i < ix->config.n_routed_experts; i++)
			for (unsigned p = 0; p < EXPERT_PARTS; p++) {
				const struct index_expert *x = index_expert(ix, l, i);
				const struct index_file *f = index_file(ix, x->part[p].file);

				if (x->part[p].off > f->bytes ||
				    index_part_bytes(ix, p) > f->bytes - x->part[p].off)
					abort();
				s += strlen(f->name);
			}
	}
	return s + strlen(ix->warnings) + strlen(ix->tokenizer_problem) +
	       strlen(ix->template_problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct index *ix = aligned_alloc(64, BYTES);
	const struct index *open;
	struct err e = {0};
	static volatile uint64_t sink; /* keeps walk's reads */
	uint64_t len;

	if (!ix)
		return 0;
	make(ix);
	len = ix->bytes;
	if (index_open(&open, ix, len, &e))
		abort(); /* the unharmed one must open */
	for (; size >= 12; data += 12, size -= 12) {
		uint32_t off;

		memcpy(&off, data, 4);
		memcpy((char *)ix + off % (len - 7), data + 4, 8);
	}
	if (index_open(&open, ix, len, &e)) {
		if (!e.code || !e.text[0] || !e.status)
			abort(); /* a refusal without a text */
	} else {
		sink = walk(open);
	}
	(void)sink;
	free(ix);
	return 0;
}
