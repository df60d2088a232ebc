/*
 * Draws tokens (arithmetic 12): a pure function of logits, options and
 * position, so a token can be drawn again after a crash, and a drafted one is
 * drawn as any other. Called by router's leader, one row at a time, and by
 * tests. Allocates nothing.
 */
#ifndef MODEL_SAMPLER_H
#define MODEL_SAMPLER_H

#include "runtime/err.h"

#include <stddef.h>
#include <stdint.h>

/* A request's options; neutral: {1, 0, 1, 0}. The gateway checked their ranges.
 */
struct sampler_options {
	double temperature; /* >= 0, finite; rounded to FP32 here; below 2^-20: argmax */
	uint32_t top_k;     /* 0: off */
	uint32_t pad;
	double top_p; /* (0, 1]; 1: off */
	double min_p; /* [0, 1]; 0: off */
	int64_t seed;
};

/* 64-byte aligned memory for one draw; its contents are of no interest. */
size_t sampler_scratch_bytes(uint32_t vocab);

/*
 * candidates: bit id % 8 of byte id / 8 is set where the tokenizer has id
 * (index.candidates); NULL: every id below vocab. position: of the token being
 * drawn (the prompt's first token has 0). Returns 0; -EDOM with a text if a
 * candidate's logit is not finite; -ENOENT if there is no candidate.
 */
MUST_CHECK int sampler_draw(const struct sampler_options *o, const float *logits, uint32_t vocab,
			    const uint8_t *candidates, uint64_t position, void *scratch,
			    uint32_t *token, struct err *e);

/*
 * Log-probabilities, for `score` and token logs: lp(id) = (logit - max) -
 * log(sum over candidates, ascending, of exp(logit - max)), all in binary64,
 * temperature 1. They say nothing about which token is drawn. Returns
 * that of `token` (-Inf if it is no candidate); with n > 0 it also writes the n
 * best candidates, best first (ties: lower id), to alt and alt_lp; where there
 * are fewer, alt is UINT32_MAX. NaN or infinite logits give NaN.
 */
double sampler_logprob(const float *logits, uint32_t vocab, const uint8_t *candidates,
		       uint32_t token, uint32_t n, uint32_t *alt, double *alt_lp);

/* Philox4x32-10, four words from counter and key. Public for its known answers.
 */
void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
