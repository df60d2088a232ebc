/*
 * What the files of this folder share and nobody else sees: the scalar functions, which are the
 * definition, and the functions by which each instruction set replaces entries of the table.
 * Included by drivers/cpu only.
 */
#ifndef DRIVERS_CPU_VARIANTS_H
#define DRIVERS_CPU_VARIANTS_H

#include "drivers/cpu/kernels.h"

#include <string.h>
#include <xmmintrin.h>

/*
 * One rounding. These files are built with FMA instructions: without them the compiler would call
 * the C library, which gives the same bits some fifty times slower.
 */
static inline float fma32(float a, float b, float c)
{
	return __builtin_fmaf(a, b, c);
}

/* Correctly rounded, and by the instruction: sqrtf may be a call that sets errno. */
static inline float sqrt_f32(float x)
{
	return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

/* e4m3_to_f32 of every code: a call for each weight would double the scalar kernels' time. */
extern const float e4m3_values[256];

/* Stored weights may lie at odd addresses. */
static inline float bf16_at(const void *data, size_t i)
{
	uint16_t v;

	memcpy(&v, (const uint8_t *)data + 2 * i, sizeof(v));
	return bf16_to_f32(v);
}

/* Rule 6's tree over 16 lanes; a is used up. */
float lanes_sum(float a[16]);

void matmul_scalar(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
		   const uint16_t *x, size_t ldx, size_t rows);
void dot_rows_scalar(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys, size_t n,
		     const uint16_t *x, size_t ldx, size_t rows);
void matmul_t_scalar(float *y, size_t ldy, const struct weight *w, size_t in0, size_t in1,
		     const uint16_t *x, size_t ldx, size_t rows);
void dot_rows_t_scalar(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys, size_t n,
		       const uint16_t *x, size_t ldx, size_t rows);
void to_int8_scalar(struct int8_block *y, const uint16_t *x, size_t n);
void matmul_q4_scalar(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
		      const struct int8_block *x, size_t ldx, size_t rows);
void rmsnorm_scalar(float *y, const float *x, const float *w, size_t n, float eps);
float sum_scalar(const float *x, size_t n);
void to_bf16_scalar(uint16_t *y, const float *x, size_t n, size_t n_padded);
void silu_mul_scalar(uint16_t *v, const float *g, const float *u, size_t n, size_t n_padded);
void exp_scalar(float *y, const float *x, size_t n);
void sigmoid_scalar(float *y, const float *x, size_t n);
void softmax_segment_scalar(uint16_t p[256], const float *s, size_t first, size_t n, float *m,
			    float *l);
void axpy_scalar(float *y, float a, const float *x, size_t n);
void add_scalar(float *y, const float *a, const float *b, size_t n);
void combine_scalar(float *u, float alpha, const float *v, float beta, size_t n);
void rope_scalar(float *x, const float *cs, size_t n);
void scale_scalar(float *y, const float *x, float a, size_t n);
size_t argmax_scalar(const float *x, size_t n);
bool all_finite_scalar(const float *x, size_t n);

/* Each replaces the entries that its instruction set makes faster. */
void vector_table_avx2(struct cpu_kernels *k);
void matmul_table_avx2(struct cpu_kernels *k);
void vector_table_avx512(struct cpu_kernels *k);
void matmul_table_avx512(struct cpu_kernels *k);
void matmul_table_avx512bf16(struct cpu_kernels *k);
void q4_table_avx2(struct cpu_kernels *k);
void q4_table_avx512(struct cpu_kernels *k);
void q4_table_avx512bf16(struct cpu_kernels *k);

/*
 * Whether VDPBF16PS equals two FMAs, the odd element first, on a fixed set of triples: the
 * architecture leaves room for processors that add in another way. Needs FTZ and DAZ set and
 * AVX512-BF16 present.
 */
bool bf16_dot_agrees(void);

#endif
