/*
 * The parts of `penstock synth`: a shape becomes config.json and a plan of tensors and shards
 * (synth_shape.c, synth_plan.c), which is written at the drive's speed (synth_write.c) with
 * contents that are a pure function of seed, tensor name and position (synth_fill.c). Private to
 * the command.
 */
#ifndef RUNTIME_CLI_SYNTH_H
#define RUNTIME_CLI_SYNTH_H

#include "model/config.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the command line changes in a shape: the fields of config.json by name. UINT64_MAX: as the
 * shape has it.
 */
struct synth_change {
	const char *option, *field, *help;
	uint64_t value;
};

extern struct synth_change synth_changes[];
extern const size_t synth_n_changes;

struct synth_shape {
	char *config_json; /* malloc'ed, as it is written */
	size_t config_len;
	struct model_config config;
};

/* The names of shapes that are built in, for help: "v3 v3-tiny ...". */
const char *synth_shape_names(void);

/*
 * A built-in name or the path of a config.json, with the changes; bf16 drops quantization_config.
 * Returns 0 or -errno with a text.
 */
MUST_CHECK int synth_shape_make(struct synth_shape *s, const char *name, bool bf16, struct err *e);

enum synth_kind {
	SYNTH_FP8,   /* codes of about normal size; the scales make them 1 / sqrt(n_in) */
	SYNTH_BF16,  /* about 1 / sqrt(n_in), but for a factor of two */
	SYNTH_SCALE, /* F32, of FP8 */
	SYNTH_NORM,  /* BF16 near 1 */
	SYNTH_BIAS   /* F32 near 0 */
};

struct synth_tensor {
	char name[112];
	uint32_t kind; /* enum synth_kind */
	uint32_t rank;
	uint64_t shape[2];
	uint32_t n_in; /* width that the size of the numbers follows from */
	uint32_t shard;
	uint64_t off; /* from the file's start */
	uint64_t bytes;
	uint64_t seed;
};

struct synth_shard {
	char name[64];
	char *header; /* length, JSON and padding */
	uint64_t header_bytes;
	uint64_t bytes;
	size_t first, count; /* its tensors in synth_plan.tensor, by offset */
};

struct synth_plan {
	struct synth_tensor *tensor;
	size_t n_tensors, tensors_max;
	struct synth_shard *shard;
	size_t n_shards;
	uint64_t bytes; /* of all shards */
};

/*
 * Tensors in the published order, cut into shards of about shard_bytes, each laid out as the
 * safetensors library does.
 */
MUST_CHECK int synth_plan_make(struct synth_plan *p, const struct model_config *c, uint64_t seed,
			       uint64_t shard_bytes, struct err *e);
void synth_plan_free(struct synth_plan *p);

/* Bytes [pos, pos + len) of a tensor's contents. Any thread, any order. */
void synth_fill(const struct synth_tensor *t, uint64_t pos, char *out, uint64_t len);

/*
 * Writes all shards into the directory `dirfd`, several at a time. Progress on stderr. *seconds:
 * how long it took.
 */
MUST_CHECK int synth_write(const struct synth_plan *p, int dirfd, double *seconds, struct err *e);

/* Writes one small file whole. */
MUST_CHECK int synth_write_text(int dirfd, const char *name, const char *text, size_t len,
				struct err *e);

/* model.safetensors.index.json, if there are several shards. */
MUST_CHECK int synth_write_index(const struct synth_plan *p, int dirfd, struct err *e);

/*
 * tokenizer.json and tokenizer_config.json: a token per byte and DeepSeek's markers. *written:
 * false if the vocabulary is too small for it.
 */
MUST_CHECK int synth_write_tokenizer(const struct model_config *c, int dirfd, bool *written,
				     struct err *e);

/* Set by SIGINT and SIGTERM; the writers look at it. */
bool synth_interrupted(void);

#endif
