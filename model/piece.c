/* See piece.h. */
#include "model/piece.h"

#include "drivers/cpu/blake3.h"

#include <string.h>

bool piece_ok(const struct index *ix, enum cpu_isa isa, enum pack_area area, uint64_t item,
	      uint64_t piece, const void *data)
{
	const struct index_pack_area *a = &ix->pack.area[area];
	const uint64_t leaf = a->first_leaf + item * pack_pieces(a) + piece;
	uint8_t hash[PACK_HASH];

	blake3(isa, data, pack_piece_bytes(a, piece), hash);
	return !memcmp((const char *)ix + ix->pack.hashes.off + leaf * PACK_HASH, hash, PACK_HASH);
}
