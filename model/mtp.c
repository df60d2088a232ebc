/* The entrance of an MTP layer; see mtp.h. */
#include "model/mtp.h"

size_t mtp_scratch_bytes(const struct model_config *c, uint32_t rows)
{
	return scratch_round(rows * pad128(2 * (size_t)c->hidden_size) * sizeof(uint16_t));
}

void mtp_rows(const struct model *m, uint32_t layer, const uint32_t *token, const float *hidden,
	      const uint32_t *source, uint32_t rows, float *h_out, void *scratch, struct worker *w)
{
	const struct layer *l = &m->layer[layer];
	const struct cpu_kernels *k = m->kernels;
	const uint16_t *table = m->embed.data;
	size_t d = m->config->hidden_size, width = model_width(m->config), pair = pad128(2 * d);
	float eps = m->config->rms_norm_eps;
	uint16_t *x = scratch;
	size_t begin, end;

	worker_share(w, rows, 1, &begin, &end);
	for (size_t r = begin; r < end; r++) {
		float *h = h_out + r * width; /* room for a row until the product fills it */

		for (size_t i = 0; i < d; i++)
			h[i] = bf16_to_f32(table[token[r] * d + i]);
		k->rmsnorm(h, h, l->enorm, d, eps);
		k->to_bf16(x + r * pair, h, d, d);
		k->rmsnorm(h, hidden + source[r] * width, l->hnorm, d, eps);
		k->to_bf16(x + r * pair + d, h, d, pair - d);
	}
	worker_barrier(w);
	worker_share(w, d, 16, &begin, &end);
	if (begin < end)
		k->matmul(h_out + begin, width, &l->eh_proj, begin, end, x, pair, rows);
}
