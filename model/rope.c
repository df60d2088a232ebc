/* Rotary angles; see rope.h. */
#include "model/rope.h"

#include "drivers/cpu/math.h"

void rope_angles(const struct model_config *c, uint32_t position, float *cs)
{
	for (uint32_t i = 0; i < c->qk_rope_head_dim / 2; i++) {
		double sine, cosine;

		sincos_f64(position * c->rope_freq[i], &sine, &cosine);
		cs[2 * i] = (float)(cosine * c->rope_mu);
		cs[2 * i + 1] = (float)(sine * c->rope_mu);
	}
}
