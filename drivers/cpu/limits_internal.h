/* What limits.c knows of its variants; see limits.h. */
#ifndef DRIVERS_CPU_LIMITS_INTERNAL_H
#define DRIVERS_CPU_LIMITS_INTERNAL_H

#include "drivers/cpu/limits.h"

enum {
	LIMIT_LOOPS = 8,     /* of each register width */
	PEAK_SUMS_AVX2 = 12, /* independent sums: more than latency times instructions a cycle */
	PEAK_SUMS_AVX512 = 24
};

extern const struct cpu_read_loop limit_read_avx2[LIMIT_LOOPS];
extern const struct cpu_read_loop limit_read_avx512[LIMIT_LOOPS];

void limit_peak_avx2(size_t turns);
void limit_peak_avx512(size_t turns);
void limit_peak_avx512bf16(size_t turns);

/*
 * As many instructions a turn as there are sums, in assembly because a compiler spills the sums and
 * halves the figure. Their values do not matter, but FTZ and DAZ must be set.
 */
#define PEAK_LOOP(name, ops, ...)                                                                  \
	void name(size_t turns)                                                                    \
	{                                                                                          \
		__asm__ volatile("1:\n" ops "dec %0\n jnz 1b\n"                                    \
				 : "+r"(turns)                                                     \
				 :                                                                 \
				 : "cc", __VA_ARGS__);                                             \
	}
#define PEAK_12(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define PEAK_24(op)                                                                                \
	PEAK_12(op)                                                                                \
	op(12) op(13) op(14) op(15) op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23)
#define PEAK_USED_12                                                                               \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",   \
		"xmm11"
#define PEAK_USED_24                                                                               \
	PEAK_USED_12, "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",      \
		"xmm20", "xmm21", "xmm22", "xmm23"

#endif
