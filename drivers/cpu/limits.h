/*
 * What the processor and its memory can do at most, for `penstock bench`: loops that only read, and
 * loops that only multiply and add. A figure of the engine is a share of one of these, measured in
 * the same run. Nothing here is used to compute a token.
 */
#ifndef DRIVERS_CPU_LIMITS_H
#define DRIVERS_CPU_LIMITS_H

#include "drivers/cpu/kernels.h"

/* Reads n bytes at p (64-byte aligned) once; what it returns only keeps the reads alive. */
struct cpu_read_loop {
	const char *name;
	uint64_t (*run)(const void *p, size_t n);
};

/*
 * The read loops that `isa` allows: one to eight streams, with and without prefetch. Which one is
 * best depends on the machine and its state, so all are tried. Returns their number.
 */
size_t cpu_read_loops(enum cpu_isa isa, const struct cpu_read_loop **out);

/*
 * Does `turns` rounds of independent multiply-adds in registers by the instruction that the kernels
 * of `isa` multiply with (scalar: AVX2's). Returns the floating-point operations done, a
 * multiply-add counting as two.
 */
double cpu_peak_run(enum cpu_isa isa, size_t turns);

#endif
