/*
 * Finds numbers that are not finite, faster than a drive delivers them: eight bytes at a time,
 * several numbers in a word. A number is not finite if its exponent is all ones (E4M3FN: exponent
 * and mantissa), so adding one at the field's lowest bit carries into the sign's place. See load.h.
 */
#include "model/store/load.h"

#include <string.h>

struct pattern {
	uint64_t field, one,
		/* in every lane of a word: the bits looked at, the lowest of them, the sign */
		carry;
	size_t size; /* bytes of a number */
};

static const struct pattern patterns[] = {
	[INDEX_F32] = {0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000, 4},
	[INDEX_BF16] = {0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000, 2},
	[INDEX_FP8] = {0x7f7f7f7f7f7f7f7f, 0x0101010101010101, 0x8080808080808080, 1},
};

enum {
	BLOCK = 512
};

static uint64_t load_word(const char *x)
{
	uint64_t word;

	memcpy(&word, x, sizeof(word));
	return word;
}

/* The last bytes of the data as a word; zeroes are finite. */
static uint64_t load_tail(const char *x, uint64_t bytes)
{
	uint64_t word = 0;

	memcpy(&word, x, bytes);
	return word;
}

static int64_t position(const struct pattern *p, uint64_t at, uint64_t carried)
{
	return (int64_t)((at + (uint64_t)__builtin_ctzll(carried) / 8) / p->size);
}

int64_t load_find_nonfinite(const void *data, uint64_t bytes, uint32_t stored)
{
	const struct pattern *p = &patterns[stored];
	const char *x = data;
	uint64_t at = 0;
	uint64_t carried;

	/* Whole blocks without a branch inside; one that holds a hit is gone through below. */
	for (; at + BLOCK <= bytes; at += BLOCK) {
		uint64_t any = 0;

		for (unsigned i = 0; i < BLOCK; i += 8)
			any |= (load_word(x + at + i) & p->field) + p->one;
		if (any & p->carry)
			break;
	}
	for (; at + 8 <= bytes; at += 8) {
		carried = ((load_word(x + at) & p->field) + p->one) & p->carry;
		if (carried)
			return position(p, at, carried);
	}
	carried = ((load_tail(x + at, bytes - at) & p->field) + p->one) & p->carry;
	return carried ? position(p, at, carried) : -1;
}
