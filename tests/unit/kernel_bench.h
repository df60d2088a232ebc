/*
 * The timing half of the kernel checker (t_kernels -b): every entry of the table beside the read
 * bandwidth and the multiply-add rate of the same run.
 */
#ifndef TESTS_UNIT_KERNEL_BENCH_H
#define TESTS_UNIT_KERNEL_BENCH_H

#include "drivers/cpu/kernels.h"

/*
 * Prints one line per entry and shape for each of the n tables, run by 1 to 8 threads. Returns 0 or
 * -errno.
 */
int kernel_bench(const struct cpu_kernels *table, unsigned n, unsigned threads);

#endif
