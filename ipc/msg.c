/* Checks messages; see msg.h. The copy that is checked here is the copy that is used. */
#include "ipc/msg.h"

#include <errno.h>
#include <stdbool.h>

const char *msg_kind_name(uint32_t kind)
{
	switch (kind) {
#define MSG_NAME(name, value, what)                                                                \
	case value:                                                                                \
		return #name;
		MSG_LIST(MSG_NAME)
	default:
		return "unknown";
	}
}

static int check_layer(const struct msg *m, const struct msg_bounds *b, struct err *e)
{
	uint64_t hop = m->seq % (b->layers + 2ull);
	/*
	 * FINISH (DONE, STORE) is hop L + 1 whatever the last layer was: an MTP or health pass
	 * leaves layers out
	 */
	bool ends = m->kind == MSG_FINISH || m->kind == MSG_DONE || m->kind == MSG_STORE;
	uint64_t want = ends ? b->layers + 1ull : m->layer + 1ull;

	if (m->layer >= b->layers)
		return err_set(e, -EBADMSG, "message %s: layer %u of %u", msg_kind_name(m->kind),
			       m->layer, b->layers);
	if (hop != want)
		return err_set(e, -EBADMSG, "message %s: hop %llu, expected %llu",
			       msg_kind_name(m->kind), (unsigned long long)hop,
			       (unsigned long long)want);
	return 0;
}

int msg_check(const struct msg *m, enum msg_kind kind, uint32_t batch, const struct msg_bounds *b,
	      struct err *e)
{
	if (m->kind != (uint32_t)kind)
		return err_set(e, -EBADMSG, "message of kind %u (%s) in a ring of %s", m->kind,
			       msg_kind_name(m->kind), msg_kind_name(kind));
	for (unsigned i = 0; i < sizeof(m->zero); i++) {
		if (m->zero[i])
			return err_set(e, -EBADMSG, "message %s: reserved bytes are not zero",
				       msg_kind_name(kind));
	}
	if (kind == MSG_ANNOUNCE) {
		if (m->row0 >= b->conns)
			return err_set(e, -EBADMSG, "message ANNOUNCE: connection %u of %u",
				       m->row0, b->conns);
		return 0;
	}
	if (m->batch >= BATCHES || m->batch != batch)
		return err_set(e, -EBADMSG, "message %s: batch %u in a ring of batch %u",
			       msg_kind_name(kind), m->batch, batch);
	if (m->row0 != 0 || m->rows > b->rows[batch])
		return err_set(e, -EBADMSG, "message %s: rows %u + %u of %u", msg_kind_name(kind),
			       m->row0, m->rows, b->rows[batch]);
	return check_layer(m, b, e);
}
