/*
 * The protocol of the circle: every message between two servers, 64 bytes each (machinery 2, 3, 6).
 * A reader needs no other file to know what may stand in a ring. A message names a step; what the
 * step works on lies in the pass area of router's object (ipc/layout.h) and in the row buffers of
 * its neighbours, at the places that batch and row range give.
 */
#ifndef IPC_MSG_H
#define IPC_MSG_H

#include "runtime/err.h"

#include <stdint.h>

#define MSG_LIST(X)                                                                                \
	X(ATTEND, 1, "router or experts to mla: rows await attention of `layer`")                  \
	X(ROUTE, 2, "mla to router: rows of `layer` await their experts")                          \
	X(FEED, 3, "router to experts: rows of `layer`, and the experts they need")                \
	X(FINISH, 4, "experts to router: rows have passed the last layer")                         \
	X(ANNOUNCE, 6, "gateway to router: connection `row0` has request number `seq`")            \
	X(LIST, 7, "router to cuda: the list of a pass")                                           \
	X(DONE, 8, "cuda to router: the pass has ended")                                           \
	X(STORE, 9, "cuda to mla: cached rows of the pass")                                        \
	X(MISSING, 10, "cuda to experts: the list waits in `layer`")                               \
	X(LOAD, 11, "experts to cuda: a list that brings experts of `layer`")

#define MSG_ENUM(name, value, what) MSG_##name = value,
enum msg_kind {
	MSG_LIST(MSG_ENUM)
};
#undef MSG_ENUM

enum {
	BATCHES = 2
}; /* two batches in opposite phase: 0 decode rows, 1 prefill rows */
enum {
	BATCH_DECODE,
	BATCH_PREFILL
};

struct msg {
	/* pass * (layers + 2) + hop: names the step, per batch; ANNOUNCE: request number */
	uint64_t seq;
	uint32_t kind;       /* enum msg_kind */
	uint32_t batch;      /* which of the batches in flight */
	uint32_t layer;      /* 0 .. layers - 1, MTP's after the main ones */
	uint32_t generation; /* of the sender, for logs: a committed message outlives its sender */
	uint32_t row0,
		rows; /* rows [row0, row0 + rows) of the batch; ANNOUNCE: row0 is the connection */
	uint8_t zero[32]; /* must be zero, so that a later version can use it */
};
_Static_assert(sizeof(struct msg) == 64, "a message is one cache line");

/* What a receiver knows that a message must agree with. */
struct msg_bounds {
	uint32_t layers;        /* main and MTP */
	uint32_t rows[BATCHES]; /* capacity of each batch */
	uint32_t conns;
};

static inline uint64_t msg_seq(uint64_t pass, uint32_t layers, uint32_t hop)
{
	return pass * (layers + 2ull) + hop;
}

static inline uint64_t msg_pass(uint64_t seq, uint32_t layers)
{
	return seq / (layers + 2ull);
}

/*
 * Checks a private copy of a message: kind, batch (of the ring it came from), layer, rows, hop
 * against layer, zero bytes. Returns 0, or -EBADMSG with a text that names the field.
 */
MUST_CHECK int msg_check(const struct msg *m, enum msg_kind kind, uint32_t batch,
			 const struct msg_bounds *b, struct err *e);

const char *msg_kind_name(uint32_t kind);

#endif
