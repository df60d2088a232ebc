/*
 * The table of compute kernels: every sum that reaches a logit on the CPU is made by one of these
 * functions. The scalar files are the definition (shared/arithmetic.md has the rules by number);
 * the SIMD files fill the same table and give the same bits, which tests/unit/t_kernels.c checks
 * over every entry. Called by model/.
 *
 * Conventions. A BF16 number is a uint16_t, an E4M3 number a uint8_t. "Stored rows" are rows of a
 * weight matrix as the checkpoint has it, [n_out, n_in] row-major and without padding; rows and
 * base pointers may have any alignment, and a kernel never reads outside [w, w + n_out * n_in).
 * `scale` is FP32 [ceil(n_out/128), ceil(n_in/128)], row stride ceil(n_in/128), indexed by the
 * stored row, so a slice of a matrix is given by its stored rows [out0, out1) with the base
 * pointers unmoved. Activations x are BF16 rows whose stride `ldx` is in elements, padded with +0
 * to a multiple of 128, 64-byte aligned. Outputs are FP32. Every function needs FTZ and DAZ set in
 * the calling thread (cpu_thread_init) and allocates nothing; matmul and dot_rows use up to 136 KiB
 * of stack.
 */
#ifndef DRIVERS_CPU_KERNELS_H
#define DRIVERS_CPU_KERNELS_H

#include "drivers/cpu/q4.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cpu_isa {
	CPU_SCALAR,
	CPU_AVX2,
	CPU_AVX512,
	CPU_AVX512BF16,
	CPU_ISA_COUNT
};

/* A stored matrix. */
enum weight_type {
	WEIGHT_BF16,
	WEIGHT_FP8,
	WEIGHT_Q4 /* the layout of q4.h; a routed expert of a packed store */
};

struct weight {
	const void *data;    /* BF16 or E4M3, [n_out, n_in]; 4 bits: struct q4_group */
	const float *scale;  /* FP8: [ceil(n_out/128), ceil(n_in/128)], 4-byte aligned; else NULL */
	const int8_t *table; /* 4 bits: the 16 entries of its store; else NULL */
	uint32_t n_out, n_in;
	uint32_t type; /* enum weight_type */
};

struct cpu_kernels {
	/*
	 * Rule 3, BF16 and FP8. For r in [0, rows) and o in [out0, out1): y[r * ldy + (o - out0)] =
	 * W[o, :] . x[r * ldx ...]. No bias. Each y depends on its own row of W and of x only,
	 * whatever rows, out0 and out1 are.
	 */
	void (*matmul)(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
		       const uint16_t *x, size_t ldx, size_t rows);
	/*
	 * Rule 3 with weight rows at a stride: keys of the latent cache. y[r * ldy + j] = key[j *
	 * ldk ...] . x[r * ldx ...] for j in [0, keys), both n long; x padded to a multiple of 128,
	 * keys not.
	 */
	void (*dot_rows)(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys,
			 size_t n, const uint16_t *x, size_t ldx, size_t rows);
	/*
	 * Rule 4 over stored rows [in0, in1) of W: y[r * ldy + c] = sum over i of W[in0 + i, c] *
	 * x[r * ldx + i], c in [0, n_in). Groups end where i is a multiple of 128 and, for FP8,
	 * where in0 + i is one. x need not be padded.
	 */
	void (*matmul_t)(float *y, size_t ldy, const struct weight *w, size_t in0, size_t in1,
			 const uint16_t *x, size_t ldx, size_t rows);
	/*
	 * Rule 4 over rows at a stride (attention values): y[r * ldy + c] = sum over j < keys of
	 * key[j * ldk + c] * x[r * ldx + j], c < n.
	 */
	void (*dot_rows_t)(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys,
			   size_t n, const uint16_t *x, size_t ldx, size_t rows);
	/*
	 * Rule 13: x[n], BF16, n a multiple of 128, to n / 128 blocks of int8. A block with a
	 * number that is not finite has q = 0 and a scale that is NaN.
	 */
	void (*to_int8)(struct int8_block *y, const uint16_t *x, size_t n);
	/*
	 * Rule 13: matmul for a 4-bit matrix. ldx counts blocks; x[r * ldx ...] has ceil(n_in/128)
	 * of them. A slice costs least where out0 and out1 are multiples of 16.
	 */
	void (*matmul_q4)(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
			  const struct int8_block *x, size_t ldx, size_t rows);
	/* Rule 6. y[i] = (x[i] * r) * w[i], FP32; y may be x. */
	void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
	/* Rule 2. Writes n BF16 numbers and +0 up to n_padded. */
	void (*to_bf16)(uint16_t *y, const float *x, size_t n, size_t n_padded);
	/* Rule 11. v[i] = BF16(silu(g[i]) * u[i]), +0 up to n_padded. */
	void (*silu_mul)(uint16_t *v, const float *g, const float *u, size_t n, size_t n_padded);
	/* y[i] = fma(a, x[i], y[i]) */
	void (*axpy)(float *y, float a, const float *x, size_t n);
	/* y[i] = a[i] + b[i]; y may be a or b */
	void (*add)(float *y, const float *a, const float *b, size_t n);
	/* Rule 5, elementwise. */
	void (*exp)(float *y, const float *x, size_t n);
	void (*sigmoid)(float *y, const float *x, size_t n);
	/*
	 * Rule 8 inside one segment: s[i] is the score of key i, already times sigma, i < n <= 256;
	 * keys below `first` do not exist. p[i] = BF16(exp(s[i] - m)), +0 for i < first and for n
	 * <= i < 256; *m the maximum, *l the sum of the exp values before rounding (rule 6's lanes
	 * and tree, lane = i mod 16). If no key exists, *m = -Inf and *l = +0.
	 */
	void (*softmax_segment)(uint16_t p[256], const float *s, size_t first, size_t n, float *m,
				float *l);
	/* Rule 8: u[c] = fma(u[c], alpha, v[c] * beta) */
	void (*combine)(float *u, float alpha, const float *v, float beta, size_t n);
	/* Rule 7: rotates n/2 adjacent pairs in place; cs[2i] = cos, cs[2i+1] = sin of pair i. */
	void (*rope)(float *x, const float *cs, size_t n);
	/* Rule 6's sum: the 16 lanes and the tree over n values. */
	float (*sum)(const float *x, size_t n);
	/* y[i] = x[i] * a */
	void (*scale)(float *y, const float *x, float a, size_t n);
	/*
	 * Index of the largest value, ties to the lower index; NaN anywhere gives SIZE_MAX. n >= 1.
	 */
	size_t (*argmax)(const float *x, size_t n);
	/* Whether all n values are finite. */
	bool (*all_finite)(const float *x, size_t n);
	enum cpu_isa isa;
};

/*
 * The best instruction set of this processor that gives the right bits here (VDPBF16PS is verified,
 * else AVX-512 without it).
 */
enum cpu_isa cpu_isa_best(void);
/*
 * False for CPU_SCALAR too where the processor is below x86-64-v3: the definition is built with FMA
 * instructions.
 */
bool cpu_isa_usable(enum cpu_isa isa);
const char *cpu_isa_name(enum cpu_isa isa);
/* "scalar", "avx2", "avx512", "avx512bf16" or "auto"; returns 0 or -EINVAL. */
int cpu_isa_parse(const char *name, enum cpu_isa *isa);

/* Fills the table: scalar first, then what isa allows. */
void cpu_kernels_init(struct cpu_kernels *k, enum cpu_isa isa);

/* Sets FTZ and DAZ and masks all exceptions; every computing thread calls it first. */
void cpu_thread_init(void);

/* Bytes of a weight's data, for checks. */
static inline uint64_t weight_bytes(uint32_t type, uint64_t n_out, uint64_t n_in)
{
	if (type == WEIGHT_Q4)
		return q4_bytes(n_out, n_in);
	return n_out * n_in * (type == WEIGHT_FP8 ? 1 : 2);
}

static inline size_t pad128(size_t n)
{
	return (n + 127) & ~(size_t)127;
}

static inline float bf16_to_f32(uint16_t x)
{
	union {
		uint32_t u;
		float f;
	} v = {(uint32_t)x << 16};

	return v.f;
}

#endif
