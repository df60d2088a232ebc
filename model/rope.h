/*
 * Rotary position embedding (specification 4.4, 5; arithmetic 7): the cosines
 * and sines of one position. There is no table in memory: a row's 32 pairs cost
 * less than fetching them. Called by model/attention.c and tests.
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/config.h"

#include <stdint.h>

/* cs[2i] = cos, cs[2i + 1] = sin of pair i at `position`, times rope_mu,
 * rounded once; qk_rope_head_dim floats. */
void rope_angles(const struct model_config *c, uint32_t position, float *cs);

#endif
