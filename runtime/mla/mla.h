/*
 * mla's state: everything committed lies in its object's record, the rest is scratch. Used by
 * runtime/mla/ only.
 */
#ifndef RUNTIME_MLA_MLA_H
#define RUNTIME_MLA_MLA_H

#include "model/attention.h"
#include "model/list.h"
#include "runtime/server/server.h"

#include <stdnoreturn.h>

struct mla {
	struct server s;
	struct record record;             /* struct mla_record */
	struct ring_end attend0[BATCHES]; /* from router */
	struct ring_end attend[BATCHES];  /* from experts */
	struct ring_end store[BATCHES];   /* from cuda */
	struct attention_row *row;        /* [largest batch] */
	uint64_t *error; /* [largest batch]: the sender's error words, copied, then used */
	uint32_t *pages; /* [page_list_max]: the pass's page list, the same */
	void *scratch;
};

/* Where a step's rows come from and where they go. */
struct mla_step {
	struct mla *m;
	struct msg msg;
	struct pass pass;
	struct attention_job job;
};

/*
 * Everything a step needs, checked; nothing is written. `from_router`: the message came with
 * embedding rows. -EBADMSG with a text where area, rows or page lists are not possible.
 */
MUST_CHECK int mla_prepare(struct mla_step *st, bool from_router, struct err *e);

/* The page `page` of the KV object. */
uint16_t *mla_page(const struct mla *m, uint32_t page);

/* store.c: copies what a pass of the GPU has cached into its pages. Whether there was any. */
bool store_serve(struct mla *m, uint32_t batch);

/* Attaches, makes room for the largest batch. NULL with a text. */
/* generation: argv[1]. The loop begins when its predecessor is gone. */
struct mla *mla_open(const char *generation, struct err *e);

/* Serves messages, decode before prefill, until killed. */
noreturn void mla_loop(struct mla *m);

#endif
