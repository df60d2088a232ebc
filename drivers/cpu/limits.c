/* The table over the variants; see limits.h. */
#include "drivers/cpu/limits_internal.h"

size_t cpu_read_loops(enum cpu_isa isa, const struct cpu_read_loop **out)
{
	*out = isa >= CPU_AVX512 ? limit_read_avx512 : limit_read_avx2;
	return LIMIT_LOOPS;
}

double cpu_peak_run(enum cpu_isa isa, size_t turns)
{
	static const struct {
		void (*run)(size_t turns);
		double flops; /* of one turn */
	} peaks[CPU_ISA_COUNT] = {
		[CPU_SCALAR] = {limit_peak_avx2, PEAK_SUMS_AVX2 * 16},
		[CPU_AVX2] = {limit_peak_avx2, PEAK_SUMS_AVX2 * 16},
		[CPU_AVX512] = {limit_peak_avx512, PEAK_SUMS_AVX512 * 32},
		[CPU_AVX512BF16] = {limit_peak_avx512bf16, PEAK_SUMS_AVX512 * 64}};

	peaks[isa].run(turns);
	return peaks[isa].flops * (double)turns;
}
