/*
 * The memory plan of a node (machinery 22): from the model's figures, the options and the budget to
 * struct plan, and to a table of what goes where. Pure functions, called by init between survey and
 * start, by `penstock info`, and by the tests.
 */
#ifndef BOOT_PLAN_H
#define BOOT_PLAN_H

#include "boot/options.h"
#include "ipc/layout.h"
#include "model/config.h"
#include "model/index.h"

struct plan_input {
	const struct boot_options *options;
	const struct model_config *config;
	uint64_t index_bytes, resident_bytes, slot_bytes, tokenizer_bytes;
	uint64_t budget; /* --memory, or memory_budget() */
	uint32_t cpus;   /* cores this process may use: the default number of workers */
	bool score;
};

enum plan_part {
	PART_RESIDENT, /* resident weights and index */
	PART_KV,
	PART_ROWS,    /* rows between servers, logs of tokens, rings, logits */
	PART_PRIVATE, /* the processes' own memory, scratch included: estimated */
	PART_KERNEL,  /* page tables and what pins the slots: estimated */
	PART_SLOTS,
	PLAN_PARTS
};

extern const char *const plan_part_names[PLAN_PARTS];

struct plan_table {
	uint64_t bytes[PLAN_PARTS];
	uint64_t total;
	uint64_t all_slots; /* routed experts of the model */
	uint64_t kv_wanted; /* pages for every place's full context */
};

/*
 * What a model and the options say; the budget is --memory, 0 where none was given. Borrows both.
 */
struct plan_input plan_input_of(const struct index *ix, const struct boot_options *o,
				uint32_t cpus);

/*
 * The smallest node: one sequence's context, the fewest slots, the smallest chunk, or what the
 * options ask for. in->budget is not looked at. Errors as plan_make's, but never -ENOMEM.
 */
MUST_CHECK int plan_least(struct plan *p, struct plan_table *t, const struct plan_input *in,
			  struct err *e);

/* MiB for --memory that hold t->total. */
uint64_t plan_mib(const struct plan_table *t);

/*
 * Fills plan and table. Returns 0; -ENOMEM with STATUS_MEMORY and the missing figure when the
 * smallest node does not fit; -EINVAL with STATUS_USAGE for an option that the model does not
 * allow; -EOVERFLOW for a model whose sizes do not fit in 62 bits.
 */
MUST_CHECK int plan_make(struct plan *p, struct plan_table *t, const struct plan_input *in,
			 struct err *e);

#endif
