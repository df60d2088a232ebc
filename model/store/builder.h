/*
 * What the survey has decided so far: the layout of the resident object, the list of reads, the
 * experts' extents. Arrays grow while the layers are walked and are written out as one index at the
 * end. Private to the survey.
 */
#ifndef MODEL_STORE_BUILDER_H
#define MODEL_STORE_BUILDER_H

#include "model/index.h"
#include "model/store/pack.h"

enum {
	BUILDER_BOUNCE_BYTES = 1 << 20
};

struct builder {
	const struct store_files *files;
	const char *source; /* for messages about missing tensors: the file that should name them */
	void *bounce;       /* BUILDER_BOUNCE_BYTES, for store_read */
	struct pack pack;   /* of a packed store; else all zero */
	struct tensor_table table;
	struct model_config config;
	struct index_tensor embed, norm, head;
	struct index_layer *layers;
	struct index_expert *experts;
	uint32_t n_experts, experts_max;
	struct index_load *loads;
	size_t n_loads, loads_max;
	size_t sorted; /* loads below are in their final order */
	char *names;
	size_t names_len, names_max;
	uint64_t resident; /* bytes of the resident object given out */
	uint64_t load_bytes;
	uint64_t param_count;
	uint32_t expert_type; /* enum index_type of routed experts; 0 until the first */
	uint8_t model_hash[32];
	void *tokenizer; /* the blob of model/text/tokenizer.h; count 0: none */
	size_t tokenizer_bytes;
	uint8_t *candidates;
	size_t candidates_bytes;
	uint32_t template_id; /* enum template_id */
	char template_problem[120];
	char tokenizer_problem[240];
	char warnings[480];
	struct err *e;
};

MUST_CHECK int builder_init(struct builder *p, const struct store_files *f, struct err *e);
void builder_fini(struct builder *p);

/* Room for `layers` zeroed layers. */
MUST_CHECK int builder_layers(struct builder *p, uint32_t layers);

/*
 * Gives tensor t a place in the resident object, *off, and a read in the list. `stored` is an enum
 * index_type.
 */
MUST_CHECK int builder_load(struct builder *p, const struct safetensor *t, uint32_t stored,
			    bool widen, uint64_t *off);

/* Appends an expert. */
MUST_CHECK int builder_expert(struct builder *p, const struct index_expert *expert);

/*
 * Puts the reads planned since the last call in the order of the drive; called at the end of each
 * layer.
 */
void builder_sort_loads(struct builder *p);

/* Adds a line for the user; what does not fit is cut. */
void builder_warn(struct builder *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Reads the whole file `name` of at most `max` bytes. *text is malloc'ed in any case of success,
 * and NULL if there is no such file; the caller frees it after an error too.
 */
MUST_CHECK int builder_read(struct builder *p, const char *name, uint64_t max, char **text,
			    size_t *len, struct err *e);

/* Tokenizer and chat template; survey_text.c. The config must be there. */
MUST_CHECK int builder_add_text(struct builder *p);

/* Writes the index; see survey(). */
MUST_CHECK int builder_write(struct builder *p, void *out, size_t cap, size_t *used);

#endif
