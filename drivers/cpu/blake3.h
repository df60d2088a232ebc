/*
 * BLAKE3 of up to 512 KiB: the hash of a packed store's pieces (model/store/pack.h). A piece is
 * checked before it is used, so this must keep up with the drives: the tree inside BLAKE3 fills
 * vectors with independent chunks of one piece, which SHA-256 cannot (figures in model/README.md).
 * Called by model/ and runtime/experts, by any thread. No state, no allocation, 34 KiB of stack.
 * Source: the BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), sections 2.1 to 2.5.
 */
#ifndef DRIVERS_CPU_BLAKE3_H
#define DRIVERS_CPU_BLAKE3_H

#include "drivers/cpu/kernels.h"

#include <stddef.h>
#include <stdint.h>

enum {
	BLAKE3_BYTES = 32,
	BLAKE3_LEN_MAX = 512 << 10
};

/* The hash of data[0 .. len), len <= BLAKE3_LEN_MAX; the same for every isa. */
void blake3(enum cpu_isa isa, const void *data, size_t len, uint8_t out[BLAKE3_BYTES]);

#endif
