/*
 * The 4-bit matrix of packed stores (arithmetic 13): its layout, and how one is made. The kernels
 * that multiply with it are entries of kernels.h; called by them and by whoever packs, checks or
 * reads a store.
 *
 * A weight is T[code] * scale: T is a table of 16 integers from -64 to 63, of the whole store; a
 * scale is BF16, one for each row and group of 32 inputs. A matrix [n_out, n_in] is cut into tiles
 * of 16 rows, the last one filled up with rows of scale 0. A tile is ceil(n_in / 32) groups of
 * struct q4_group, one after the other, and tiles follow each other, so that a product reads one
 * ascending stream. Inputs beyond n_in have code 0 and meet activations of 0. 4.5 bits per weight.
 * Data is 32-byte aligned.
 */
#ifndef DRIVERS_CPU_Q4_H
#define DRIVERS_CPU_Q4_H

#include <stddef.h>
#include <stdint.h>

enum {
	Q4_ROWS = 16, /* of a tile */
	Q4_GROUP = 32 /* inputs that share a scale */
};

/*
 * Codes: byte b of dword r of vector j is row r's, its low nibble of input 4j + b, its high nibble
 * of input 4(j + 4) + b. A vector is one 512-bit register or two of 256, each dword the four bytes
 * that a dot product of bytes takes.
 */
struct q4_group {
	uint8_t code[4][Q4_ROWS][4];
	uint16_t scale[Q4_ROWS];
};

_Static_assert(sizeof(struct q4_group) == 288, "the layout of a packed store");

/* 128 activations of one row as the products take them; see cpu_kernels.to_int8. */
struct int8_block {
	int8_t q[128];
	int32_t start[4]; /* of each group: -64 * the sum of its q */
	float scale;      /* sx of arithmetic 13 */
	uint32_t pad[3];
};

static inline uint64_t q4_groups(uint64_t n_in)
{
	return (n_in + Q4_GROUP - 1) / Q4_GROUP;
}

static inline uint64_t q4_tile_bytes(uint64_t n_in)
{
	return q4_groups(n_in) * sizeof(struct q4_group);
}

static inline uint64_t q4_bytes(uint64_t n_out, uint64_t n_in)
{
	return (n_out + Q4_ROWS - 1) / Q4_ROWS * q4_tile_bytes(n_in);
}

static inline uint8_t q4_code(const struct q4_group *g, size_t row, size_t input)
{
	uint8_t v = g->code[input % 16 / 4][row][input % 4];

	return input < 16 ? v & 15 : v >> 4;
}

/*
 * Makes one tile of `rows` (1 to 16) rows of weights, FP32 [rows][ld]. Each scale is the best of
 * some by the sum of squared errors, the same on every machine. A group that holds a number that is
 * not finite gets a scale that is NaN. The table ascends.
 */
void q4_pack_tile(struct q4_group *tile, const float *w, size_t ld, size_t rows, size_t n_in,
		  const int8_t table[16]);

/* Row `row` of a tile back to FP32: w[n_in]. */
void q4_unpack_row(float *w, const struct q4_group *tile, size_t row, size_t n_in,
		   const int8_t table[16]);

/* The table fitted to Gaussian weights. */
extern const int8_t q4_gaussian[16];

#endif
