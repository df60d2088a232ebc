/*
 * Hashes the pieces of a packed expert as they arrive from the drive, before anything is computed
 * from them. Called by runtime/experts/slots.c.
 */
#ifndef RUNTIME_EXPERTS_PIECES_H
#define RUNTIME_EXPERTS_PIECES_H

#include "drivers/cpu/kernels.h"
#include "model/index.h"
#include "runtime/team.h"

/*
 * The first of pieces [first, end) of an expert whose hash is another than the index's, or `end`.
 * `extent` is the expert's first byte. Much of it is shared out among the team.
 */
uint64_t pieces_find_bad(struct team *team, const struct index *ix, enum cpu_isa isa,
			 const struct index_expert *x, const uint8_t *extent, uint64_t first,
			 uint64_t end);

#endif
