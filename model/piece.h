/*
 * The check of a packed store's pieces against the hashes in the index, before anything in them is
 * used. Called by the loader (resident weights) and by experts (what was read into a slot).
 */
#ifndef MODEL_PIECE_H
#define MODEL_PIECE_H

#include "drivers/cpu/kernels.h"
#include "model/index.h"

#include <stdbool.h>

/*
 * Whether `data` is piece `piece` (pack_piece_bytes long) of item `item` of an area other than
 * PACK_HASHES. The index has passed index_open, and item and piece are in the area.
 */
bool piece_ok(const struct index *ix, enum cpu_isa isa, enum pack_area area, uint64_t item,
	      uint64_t piece, const void *data);

#endif
