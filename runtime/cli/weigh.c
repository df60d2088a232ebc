/* Sums over the index; see weigh.h. */
#include "runtime/cli/weigh.h"

#include "model/tensors.h"

#include <string.h>

static uint64_t tensor_bytes(const struct index_tensor *t)
{
	const uint64_t n = (uint64_t)t->n_out * t->n_in;

	switch (t->type) {
	case INDEX_F32:
		return 4 * n;
	case INDEX_BF16:
		return 2 * n;
	case INDEX_FP8:
		return n + 4 * tensor_blocks(t->n_out) * tensor_blocks(t->n_in);
	default:
		return 0;
	}
}

static void add(struct weight_sum *s, const struct index_tensor *t)
{
	s->bytes += tensor_bytes(t);
	s->params += t->type == INDEX_ABSENT ? 0 : (uint64_t)t->n_out * t->n_in;
}

static enum weights_part part_of(unsigned which, bool moe)
{
	switch (which) {
	case LAYER_MLP_GATE:
	case LAYER_MLP_UP:
	case LAYER_MLP_DOWN:
		return moe ? WEIGHTS_SHARED : WEIGHTS_DENSE;
	case LAYER_GATE:
	case LAYER_CORRECTION_BIAS:
		return WEIGHTS_GATES;
	case LAYER_Q_A:
	case LAYER_Q_B:
	case LAYER_KV_A:
	case LAYER_KV_B:
	case LAYER_O:
		return WEIGHTS_ATTENTION;
	default:
		return WEIGHTS_NORMS;
	}
}

static void add_layer(struct weights *w, const struct index *ix, uint32_t l, uint64_t expert_scales)
{
	const struct model_config *c = &ix->config;
	const struct index_layer *layer = index_layer(ix, l);
	const uint64_t scales = layer->is_moe ? c->n_routed_experts * expert_scales : 0;
	const bool mtp = l >= c->num_hidden_layers;

	for (unsigned which = 0; which < LAYER_TENSORS; which++) {
		struct tensor_spec spec;

		if (!tensor_spec(c, l, which, &spec))
			continue;
		add(&w->part[mtp ? WEIGHTS_MTP : part_of(which, layer->is_moe)],
		    (const struct index_tensor *)(const void *)((const char *)layer + spec.member));
	}
	*(mtp ? &w->part[WEIGHTS_MTP].bytes : &w->expert_scales) += scales;
	w->moe_layers += !mtp && layer->is_moe;
}

void weigh(struct weights *w, const struct index *ix)
{
	const struct model_config *c = &ix->config;
	uint64_t scales = 0;

	memset(w, 0, sizeof(*w));
	/* a packed store has them in the extents */
	for (unsigned part = 0;
	     ix->expert_type == INDEX_FP8 && !ix->pack.parts && part < EXPERT_PARTS; part++) {
		uint32_t n_out;
		uint32_t n_in;

		tensor_expert_shape(c, part, &n_out, &n_in);
		scales += 4 * tensor_blocks(n_out) * tensor_blocks(n_in);
	}
	add(&w->part[WEIGHTS_EMBEDDING], &ix->embed);
	if (!c->tie_word_embeddings)
		add(&w->part[WEIGHTS_HEAD], &ix->head);
	add(&w->part[WEIGHTS_NORMS], &ix->norm);
	for (uint32_t l = 0; l < config_layers(c); l++)
		add_layer(w, ix, l, scales);
	w->n_experts = ix->experts.count;
	if (c->n_routed_experts) {
		w->expert.bytes = index_expert_bytes(ix) + scales;
		w->expert.params =
			(uint64_t)EXPERT_PARTS * c->hidden_size * c->moe_intermediate_size;
	}
	w->routed = w->n_experts * index_expert_bytes(ix);
	w->kv_token_bytes =
		config_layers(c) * (uint64_t)(c->kv_lora_rank + c->qk_rope_head_dim) * 2;
}

/* The tensor that a checkpoint would have. */
static struct index_tensor imagine(uint32_t kind, uint32_t n_out, uint32_t n_in, bool fp8)
{
	return (struct index_tensor){.type = kind == TENSOR_VECTOR          ? INDEX_F32
					     : fp8 && kind == TENSOR_MATRIX ? INDEX_FP8
									    : INDEX_BF16,
				     .n_out = n_out,
				     .n_in = n_in};
}

void weigh_config(struct weights *w, const struct model_config *c, bool fp8)
{
	const struct index_tensor table = imagine(TENSOR_PLAIN, c->vocab_size, c->hidden_size, fp8);
	const struct index_tensor norm = imagine(TENSOR_VECTOR, 1, c->hidden_size, fp8);
	uint64_t matrices = 0, scales = 0;

	memset(w, 0, sizeof(*w));
	for (unsigned part = 0; c->n_routed_experts && part < EXPERT_PARTS; part++) {
		uint32_t n_out, n_in;

		tensor_expert_shape(c, part, &n_out, &n_in);
		matrices += (uint64_t)n_out * n_in * (fp8 ? 1 : 2);
		scales += fp8 ? 4 * tensor_blocks(n_out) * tensor_blocks(n_in) : 0;
		w->expert.params += (uint64_t)n_out * n_in;
	}
	w->expert.bytes = matrices + scales;
	add(&w->part[WEIGHTS_EMBEDDING], &table);
	if (!c->tie_word_embeddings)
		add(&w->part[WEIGHTS_HEAD], &table);
	add(&w->part[WEIGHTS_NORMS], &norm);
	for (uint32_t l = 0; l < config_layers(c); l++) {
		bool moe = config_is_moe(c, l), mtp = l >= c->num_hidden_layers;

		for (unsigned which = 0; which < LAYER_TENSORS; which++) {
			struct tensor_spec spec;
			struct index_tensor t;

			if (!tensor_spec(c, l, which, &spec))
				continue;
			t = imagine(spec.kind, spec.n_out, spec.n_in, fp8);
			add(&w->part[mtp ? WEIGHTS_MTP : part_of(which, moe)], &t);
		}
		if (!moe)
			continue;
		w->moe_layers += !mtp;
		w->n_experts += c->n_routed_experts;
		*(mtp ? &w->part[WEIGHTS_MTP].bytes : &w->expert_scales) +=
			c->n_routed_experts * scales;
	}
	w->routed = w->n_experts * matrices;
	w->kv_token_bytes =
		config_layers(c) * (uint64_t)(c->kv_lora_rank + c->qk_rope_head_dim) * 2;
}
