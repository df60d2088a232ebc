/*
 * What a model's weights weigh, by what they are for: bytes as they lie in memory, and parameters.
 * For `info`, and for `bench` and `plan`, which count what a token has to read and to multiply.
 */
#ifndef RUNTIME_CLI_WEIGH_H
#define RUNTIME_CLI_WEIGH_H

#include "model/index.h"

enum weights_part {
	WEIGHTS_EMBEDDING,
	WEIGHTS_HEAD, /* zero where it is the embedding */
	WEIGHTS_ATTENTION,
	WEIGHTS_DENSE,
	WEIGHTS_SHARED,
	WEIGHTS_GATES,
	WEIGHTS_NORMS, /* and biases */
	WEIGHTS_MTP,   /* of MTP's layers everything but the routed experts' matrices */
	WEIGHTS_PARTS
};

struct weight_sum {
	uint64_t bytes; /* scales included */
	uint64_t params;
};

struct weights {
	struct weight_sum part[WEIGHTS_PARTS];
	struct weight_sum expert; /* one routed expert */
	uint64_t expert_scales;   /* of all routed experts of main layers: resident */
	uint64_t n_experts;       /* over all layers, MTP's included */
	uint64_t routed;          /* bytes of their matrices, on the drive */
	uint64_t kv_token_bytes;  /* of one position, all layers */
	uint32_t moe_layers;      /* main ones */
};

void weigh(struct weights *w, const struct index *ix);

/* The same of a model that need not exist: its matrices in FP8, or all in BF16. */
void weigh_config(struct weights *w, const struct model_config *c, bool fp8);

#endif
