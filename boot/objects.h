/*
 * Every shared object of a node (machinery 1): made, sized, sealed and handed out by the tables of
 * ipc/graph.h. Called by init alone.
 */
#ifndef BOOT_OBJECTS_H
#define BOOT_OBJECTS_H

#include "ipc/layout.h"

struct objects {
	int own[OBJ_COUNT];   /* read and write: init, and the one role that writes */
	int read[OBJ_COUNT];  /* a read-only description of the same memory, for the readers */
	void *map[OBJ_COUNT]; /* init's, where it has asked for one */
	uint64_t bytes[OBJ_COUNT];
};

/* No object yet. */
void objects_init(struct objects *o);

/*
 * Makes object k of `bytes`: SHRINK and GROW sealed (and SEAL, unless later seals await it), mode
 * 0400, header written. Returns 0 or -errno with a text.
 */
MUST_CHECK int object_make(struct objects *o, enum object k, uint64_t bytes, struct err *e);

/* Makes all objects that do not exist yet, in the sizes of the layout. */
MUST_CHECK int objects_make(struct objects *o, const struct layout *l, struct err *e);

/* Maps object k for init: writable only if asked for. */
MUST_CHECK int object_map(struct objects *o, enum object k, bool writable, struct err *e);

/* The last seals: `seals` (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE) and F_SEAL_SEAL. */
MUST_CHECK int object_seal(struct objects *o, enum object k, int seals, struct err *e);

/* The descriptor of object k for a role: -1 where the table gives it none. */
int object_fd(const struct objects *o, enum role role, enum object k);

/*
 * The survey does not know how large its index will be: this much address space, of which memory is
 * used as far as it is written.
 */
#define OBJECT_INDEX_BYTES ((uint64_t)1 << 30)

#endif
