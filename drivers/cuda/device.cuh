/*
 * What every kernel stands on: number formats, rule 5's exp, sums of rule 6, and the reading of
 * stored weights, in the arithmetic of drivers/cpu (shared/arithmetic.md). The code is CUDA C that
 * is C as well: tests/cuda compiles it for the host, where threads are fibers (tests/cuda/shim.h),
 * and compares bits. Built with --fmad=false -ftz=true and correctly rounded division and root:
 * what fuses says __fmaf_rn.
 */
#ifndef DRIVERS_CUDA_DEVICE_CUH
#define DRIVERS_CUDA_DEVICE_CUH

#include "drivers/cuda/run.h"

#ifdef __CUDACC__
#define DEVICE     static __device__ __forceinline__
#define UNROLL     _Pragma("unroll")
#define UNROLL_1   _Pragma("unroll 1") /* where registers are short */
#define NO_HOIST() asm volatile("" ::: "memory") /* the same: loads stay behind it */
#endif

#define ALL_LANES 0xffffffffu

enum {
	THREADS = GPU_THREADS,
	WARPS = THREADS / 32,
	SHARED_BYTES = 46 * 1024 /* of a block: what a command does with it is its own affair */
};

/* A piece of work of one command: what the functions below are called with. */
struct job {
	const struct gpu_run *g;
	const struct command *c;
	const struct frame *f;
	void *shared; /* SHARED_BYTES, 16-byte aligned */
};

DEVICE void *at(const struct job *j, dev_addr a)
{
	return (char *)j->g->base[a >> 56] + (a & 0xffffffffffffffull);
}

DEVICE void *in_frame(const struct job *j, uint64_t offset)
{
	return (char *)j->g->base[DEV_WORK] + offset;
}

/* ---- Numbers ---- */

DEVICE float bf16_float(uint16_t x)
{
	return __uint_as_float((uint32_t)x << 16);
}

/* Rule 2, on the bits. */
DEVICE uint16_t float_bf16(float x)
{
	uint32_t u = __float_as_uint(x);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	if (!(u & 0x7f800000))
		return (uint16_t)(u >> 16 & 0x8000);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Four E4M3 numbers, exactly. */
DEVICE void e4m3x4(float out[4], uint32_t v)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
	UNROLL
	for (int i = 0; i < 2; i++) {
		uint32_t pair;
		uint16_t two = (uint16_t)(v >> 16 * i);

		asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(two));
		asm("{.reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b;}"
		    : "=f"(out[2 * i]), "=f"(out[2 * i + 1])
		    : "r"(pair));
	}
#else
	UNROLL
	for (int i = 0; i < 4; i++) {
		uint32_t b = v >> 8 * i & 0x7f, sign = v << (24 - 8 * i) & 0x80000000u;
		float normal = __uint_as_float((b << 20) + (120u << 23));
		/* below 2^-6: eighths of 2^-6, made by a subtraction that is exact */
		float small = __uint_as_float((b << 20) + (121u << 23)) - 0x1p-6f;
		uint32_t u = __float_as_uint(b < 8 ? small : normal);

		out[i] = __uint_as_float((b == 0x7f ? 0x7fc00000u : u) | sign);
	}
#endif
}

/* Rule 5. */
DEVICE float exp_rule(float x)
{
	float z, n, r, p;

	if (x < -0x1.5d589ep+6f)
		return 0.0f;
	if (x > 0x1.62e42ep+6f)
		return __uint_as_float(0x7f800000);
	if (x != x)
		return x;
	z = __fmaf_rn(x, 0x1.715476p+0f, 0x1.8p+23f);
	n = z - 0x1.8p+23f;
	r = __fmaf_rn(n, -0x1.62e43p-1f, x);
	r = __fmaf_rn(n, 0x1.05c61p-29f, r);
	p = 0x1.6a2402p-10f;
	p = __fmaf_rn(p, r, 0x1.123ap-7f);
	p = __fmaf_rn(p, r, 0x1.5558f2p-5f);
	p = __fmaf_rn(p, r, 0x1.555492p-3f);
	p = __fmaf_rn(p, r, 0x1.fffffcp-2f);
	p = __fmaf_rn(p, r, 0x1p0f);
	p = __fmaf_rn(p, r, 0x1p0f);
	return __uint_as_float(__float_as_uint(p) + (__float_as_uint(z) << 23));
}

DEVICE float silu_rule(float x)
{
	return __fdiv_rn(x, 1.0f + exp_rule(-x));
}

DEVICE bool is_finite(float x)
{
	return (__float_as_uint(x) & 0x7f800000) != 0x7f800000;
}

/* Rule 6's tree over 16 lanes in shared memory; every thread gets the sum. Barriers inside. */
DEVICE float lanes_tree(const float a[16])
{
	float b[8];

	UNROLL
	for (int l = 0; l < 8; l++)
		b[l] = a[l] + a[l + 8];
	UNROLL
	for (int l = 0; l < 4; l++)
		b[l] = b[l] + b[l + 4];
	b[0] = b[0] + b[2];
	b[1] = b[1] + b[3];
	return b[0] + b[1];
}

/* ---- Stored weights: 16 columns at a time ---- */

/* Whether rows can be read in 16-byte pieces. */
DEVICE bool is_even(const void *data, size_t row_bytes)
{
	return ((uintptr_t)data | row_bytes) % 16 == 0;
}

/* `bytes` of up to 16 from any address, +0 behind them: rows that are ragged, or at odd addresses. */
DEVICE uint4 load_ragged(const char *from, uint32_t bytes)
{
	uint4 v;

	v.x = v.y = v.z = v.w = 0;
	UNROLL_1
	for (uint32_t i = 16; i-- > 0;) { /* the last first: each moves the others up */
		uint32_t byte = i < bytes ? (unsigned char)from[i] : 0;

		v.w = v.w << 8 | v.z >> 24;
		v.z = v.z << 8 | v.y >> 24;
		v.y = v.y << 8 | v.x >> 24;
		v.x = v.x << 8 | byte;
	}
	return v;
}

/* 16 bytes of a row of `end` bytes from byte `at` on. */
DEVICE uint4 load_piece(const char *row, size_t at, size_t end, bool even)
{
	if (even && at + 16 <= end)
		return *(const uint4 *)(row + at);
	return load_ragged(row + at, at + 16 <= end ? 16 : at < end ? (uint32_t)(end - at) : 0);
}

DEVICE void widen_bf16(float w[8], uint4 v)
{
	uint32_t d[4] = {v.x, v.y, v.z, v.w};

	UNROLL
	for (int e = 0; e < 4; e++) {
		w[2 * e] = __uint_as_float(d[e] << 16);
		w[2 * e + 1] = __uint_as_float(d[e] & 0xffff0000u);
	}
}

/* Columns [k, k + 16) of a BF16 row of n; those beyond n are +0. */
DEVICE void load_bf16(float w[16], const char *row, uint32_t k, uint32_t n, bool even)
{
	widen_bf16(w, load_piece(row, 2 * (size_t)k, 2 * (size_t)n, even));
	widen_bf16(w + 8, load_piece(row, 2 * (size_t)k + 16, 2 * (size_t)n, even));
}

/* The same of an E4M3 row. */
DEVICE void load_fp8(float w[16], const char *row, uint32_t k, uint32_t n, bool even)
{
	uint4 v = load_piece(row, k, n, even);

	e4m3x4(w, v.x);
	e4m3x4(w + 4, v.y);
	e4m3x4(w + 8, v.z);
	e4m3x4(w + 12, v.w);
}

/* Activations [k, k + 16): padded and aligned. */
DEVICE void load_padded(float x[16], const uint16_t *row, uint32_t k)
{
	widen_bf16(x, *(const uint4 *)(row + k));
	widen_bf16(x + 8, *(const uint4 *)(row + k + 8));
}

/* Rule 3: two groups of eight columns onto the four lanes of a block, odd before even. */
DEVICE void lanes_add(float a[4], const float w[16], const float x[16])
{
	UNROLL
	for (int p = 0; p < 2; p++) {
		UNROLL
		for (int l = 0; l < 4; l++) {
			int k = 8 * p + 2 * l;

			a[l] = __fmaf_rn(w[k + 1], x[k + 1], a[l]);
			a[l] = __fmaf_rn(w[k], x[k], a[l]);
		}
	}
}

#endif
