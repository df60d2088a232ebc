/*
 * The client role of `penstock score`: takes the gateway's place in a node, has every prompt
 * computed whole, and writes logits, routes and MTP logits in the layout of
 * shared/golden/README.md. Unlike the gateway it writes files of its own, handed to it open; the
 * command that started the node gives them their names when all is well.
 */
#ifndef RUNTIME_SCORE_SCORE_H
#define RUNTIME_SCORE_SCORE_H

#include "ipc/attach.h"
#include "model/index.h"

/* Prompts, all ids in one array. */
struct prompts {
	uint32_t *ids;
	uint64_t *begin; /* [count + 1] */
	uint32_t count;
};

/*
 * Reads FD_PROMPTS: {"prompts": [[ids], ...]}, or plain text as one prompt (BOS and the text,
 * markers matched). Status 2 where it is neither.
 */
MUST_CHECK int prompts_read(struct prompts *p, const struct index *ix, struct err *e);

/* A prompt under way in one connection. */
struct lane {
	struct record record; /* struct conn_record */
	uint32_t prompt;      /* UINT32_MAX: idle */
	double logprob;       /* of the prompt's tokens after the first, so far */
	uint64_t taken;
};

struct score {
	struct attach at;
	const struct index *index;
	struct record rings; /* struct client_record */
	struct prompts prompts;
	uint32_t next; /* prompt to be started */
	uint32_t done;
	struct lane lane[CONNS];
	bool logits, routes, mtp; /* outputs that are wanted */
	uint32_t moe_layers;
	uint16_t *route_row;
	uint64_t rows_done, begun_ns, said_ns; /* progress on stderr */
	bool terminal;                         /* which is one */
};

MUST_CHECK int score_open(struct score *s, struct err *e);
/* Runs until every prompt is written. */
MUST_CHECK int score_run(struct score *s, struct err *e);

#endif
