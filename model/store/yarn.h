/*
 * Rotary frequencies and the constants of YaRN from config.json (specification 4.3 step 6, and 5).
 * Called by config_parse.
 */
#ifndef MODEL_STORE_YARN_H
#define MODEL_STORE_YARN_H

#include "model/config.h"
#include "runtime/err.h"

#include <yyjson.h>

/* What the configuration asks for, before anything is computed. */
struct yarn {
	double theta; /* base of the frequencies, above 1 */
	bool scaled;  /* false: plain RoPE, and nothing below counts */
	double factor, original, beta_fast, beta_slow, mscale, mscale_all_dim;
	double attention_factor; /* overrides the multiplier of cosine and sine; 0: none given */
};

/*
 * Reads rope_theta, rope_scaling or rope_parameters of the object `root` and fills rope_freq,
 * rope_mu and softmax_scale of *c, whose head widths are set. Refuses other types by name. Status
 * 3.
 */
MUST_CHECK int yarn_read(yyjson_val *root, struct model_config *c, struct err *e);

/*
 * Fills rope_freq[0 .. qk_rope_head_dim / 2), rope_mu and softmax_scale. The head widths must be in
 * their limits.
 */
void yarn_compute(const struct yarn *y, struct model_config *c);

#endif
