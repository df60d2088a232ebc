/*
 * How a server comes to its objects: init has left each one that the role may see open at FD_OBJECT
 * + its number (ipc/graph.h), and attach maps it with exactly the access of the table. Called once
 * by every server's main, before the sandbox.
 */
#ifndef IPC_ATTACH_H
#define IPC_ATTACH_H

#include "ipc/layout.h"
#include "ipc/record.h"
#include "ipc/ring.h"

struct attach {
	enum role role;
	uint32_t generation; /* of this process */
	const struct node *node;
	const struct plan *plan; /* &node->plan */
	struct layout layout;
	struct bells *bells;
	struct log_object *log; /* the role's own; NULL for SURVEY, LOADER, SCRIBE */
	void *object
		[OBJ_COUNT]; /* NULL where the role has no access; writable only where it writes */
	uint64_t bytes[OBJ_COUNT];
	struct msg_bounds bounds;
};

/* Maps everything; checks headers and sizes. The survey role sees only NODE, BELLS and INDEX. */
MUST_CHECK int attach_open(struct attach *a, enum role role, struct err *e);

/*
 * Says which generation of its role this process is: `text`, as init gave it (argv[1]); NULL: the
 * one that lives now. It may be the next one, a spare (machinery 9).
 */
MUST_CHECK int attach_generation(struct attach *a, const char *text, struct err *e);
/* Whether another process of the role still serves. */
bool attach_stands_by(const struct attach *a);
/*
 * A spare waits here, everything mapped and confined, until init says that its predecessor is
 * gone. Until then it writes to no object.
 */
void attach_take_over(const struct attach *a);

/* Typed views, from the layout. `o` is an offset of struct layout. */
static inline void *attach_at(const struct attach *a, enum object object, uint64_t o)
{
	return (char *)a->object[object] + o;
}

/* Reads one 64-bit field of a peer's committed record, as record_read does. */
MUST_CHECK static inline bool attach_read_u64(const struct attach *a, enum object object,
					      uint64_t record, size_t size, size_t field,
					      uint64_t *v)
{
	return record_read(attach_at(a, object, record), size, field, v, sizeof(*v));
}

/* Rings the leader of a role. */
static inline void attach_ring(const struct attach *a, enum role role)
{
	bell_ring(&a->bells->bell[role][0]);
}

#endif
