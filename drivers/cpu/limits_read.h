/*
 * The read loops, for one register width: the including file defines READ_NAME(x), the register
 * type READ_REG, READ_ZERO, READ_XOR and READ_FOLD (to 64 bits). Each loop goes through `streams`
 * equal parts of its memory side by side, four cache lines of each at a time, and prefetches into
 * the second level `ahead` bytes before them (0: not at all).
 */
#include "drivers/cpu/limits.h"

#include <immintrin.h>

enum {
	READ_STEP = 256,
	READ_LINE = 64
};

__attribute__((always_inline)) static inline uint64_t read_streams(const char *p, size_t n,
								   size_t streams, size_t ahead)
{
	const size_t part = n / streams / READ_STEP * READ_STEP;
	READ_REG a = READ_ZERO, b = READ_ZERO;

	for (size_t i = 0; i < part; i += READ_STEP) {
#pragma GCC unroll 8
		for (size_t s = 0; s < streams; s++) {
			const char *q = p + s * part + i;
			const READ_REG *v = (const READ_REG *)(const void *)q;

			if (ahead) {
#pragma GCC unroll 4
				for (size_t k = 0; k < READ_STEP; k += READ_LINE)
					_mm_prefetch(q + ahead + k, _MM_HINT_T1);
			}
#pragma GCC unroll 8
			for (size_t k = 0; k < READ_STEP / sizeof(READ_REG); k += 2) {
				a = READ_XOR(a, v[k]);
				b = READ_XOR(b, v[k + 1]);
			}
		}
	}
	return READ_FOLD(READ_XOR(a, b));
}

#define READ_LOOP(name, streams, ahead)                                                            \
	static uint64_t name(const void *p, size_t n)                                              \
	{                                                                                          \
		return read_streams(p, n, streams, ahead);                                         \
	}
READ_LOOP(read_1, 1, 0)
READ_LOOP(read_1_near, 1, 1024)
READ_LOOP(read_1_page, 1, 4096)
READ_LOOP(read_2, 2, 0)
READ_LOOP(read_2_page, 2, 4096)
READ_LOOP(read_4, 4, 0)
READ_LOOP(read_4_page, 4, 4096)
READ_LOOP(read_8_page, 8, 4096)

const struct cpu_read_loop READ_TABLE[LIMIT_LOOPS] = {
	{READ_WIDTH " 1 stream", read_1},
	{READ_WIDTH " 1 stream, prefetch 1 KiB", read_1_near},
	{READ_WIDTH " 1 stream, prefetch 4 KiB", read_1_page},
	{READ_WIDTH " 2 streams", read_2},
	{READ_WIDTH " 2 streams, prefetch 4 KiB", read_2_page},
	{READ_WIDTH " 4 streams", read_4},
	{READ_WIDTH " 4 streams, prefetch 4 KiB", read_4_page},
	{READ_WIDTH " 8 streams, prefetch 4 KiB", read_8_page},
};
