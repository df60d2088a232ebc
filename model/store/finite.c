/*
 * Finds numbers that are not finite, at more than the drive's speed: whole blocks are first looked at without branches, and only one that holds
 * such a number is searched. See load.h.
 */
#include "model/store/load.h"

enum {
	BLOCK = 4096
};

/* Whether any element is all ones in the exponent; E4M3FN has one such pattern, NaN, which also needs all ones in the mantissa. */
static bool any_fp8(const uint8_t *x, size_t n)
{
	uint8_t found = 0;

	for (size_t i = 0; i < n; i++)
		found |= (x[i] & 0x7f) == 0x7f;
	return found;
}

static bool any_bf16(const uint16_t *x, size_t n)
{
	uint16_t found = 0;

	for (size_t i = 0; i < n; i++)
		found |= (x[i] & 0x7f80) == 0x7f80;
	return found;
}

static bool any_f32(const uint32_t *x, size_t n)
{
	uint32_t found = 0;

	for (size_t i = 0; i < n; i++)
		found |= (x[i] & 0x7f800000) == 0x7f800000;
	return found;
}

static bool any(const void *x, size_t bytes, uint32_t stored)
{
	switch (stored) {
	case INDEX_FP8:
		return any_fp8(x, bytes);
	case INDEX_BF16:
		return any_bf16(x, bytes / 2);
	default:
		return any_f32(x, bytes / 4);
	}
}

int64_t load_find_nonfinite(const void *data, uint64_t bytes, uint32_t stored)
{
	const size_t size = stored == INDEX_F32 ? 4 : stored == INDEX_BF16 ? 2 : 1;
	const char *x = data;

	for (uint64_t at = 0; at < bytes; at += BLOCK) {
		size_t n = bytes - at < BLOCK ? bytes - at : BLOCK;

		if (!any(x + at, n, stored))
			continue;
		for (uint64_t i = at;; i += size)
			if (any(x + i, size, stored))
				return (int64_t)(i / size);
	}
	return -1;
}
