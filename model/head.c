/* Embedding, final norm and logits; see head.h. */
#include "model/head.h"

enum {
	/* rows of the head that stay in the L2 cache while all blocks of x pass by */
	VOCAB_TILE = 64,
	ROW_BLOCK = 64
};

void embed_rows(const struct model *m, const uint32_t *token, uint32_t rows, float *h,
		struct worker *w)
{
	const uint16_t *table = m->embed.data;
	size_t d = m->config->hidden_size, width = model_width(m->config), begin, end;

	worker_share(w, rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++)
		for (size_t i = 0; i < d; i++)
			h[r * width + i] = bf16_to_f32(table[token[r] * d + i]);
}

void head_norm(const struct model *m, uint32_t layer, const float *h, uint32_t rows,
	       float *norm_out, uint16_t *x, struct worker *w)
{
	size_t d = m->config->hidden_size, width = model_width(m->config), begin, end;
	const float *weight =
		layer < m->config->num_hidden_layers ? m->norm : m->layer[layer].shared_head_norm;

	worker_share(w, rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		m->kernels->rmsnorm(norm_out + r * width, h + r * width, weight, d,
				    m->config->rms_norm_eps);
		if (x)
			m->kernels->to_bf16(x + r * width, norm_out + r * width, d, width);
	}
}

void head_logits(const struct model *m, const uint16_t *x, uint32_t rows, float *logits, size_t ldl,
		 struct worker *w)
{
	size_t width = model_width(m->config), begin, end, tile;

	worker_share(w, m->config->vocab_size, VOCAB_TILE, &begin, &end);
	tile = rows > ROW_BLOCK ? VOCAB_TILE : end - begin;
	for (size_t v = begin; v < end; v += tile)
		for (size_t r = 0; r < rows; r += ROW_BLOCK)
			m->kernels->matmul(logits + r * ldl + v, ldl, &m->head, v,
					   end - v < tile ? end : v + tile, x + r * width, width,
					   rows - r < ROW_BLOCK ? rows - r : ROW_BLOCK);
}
