/*
 * What matmul_avx512.c and matmul_avx512bf16.c have in common of the operations that matmul_simd.h
 * asks for.
 */
static inline vbytes load_bytes(const void *p)
{
	return _mm512_loadu_si512(p);
}

/* The first n < 64 bytes, then zeros; masked bytes are not read. */
static inline vbytes load_part(const void *p, size_t n)
{
	return _mm512_maskz_loadu_epi8(((__mmask64)1 << n) - 1, p);
}

static inline vbytes zero_bytes(void)
{
	return _mm512_setzero_si512();
}

static inline void transpose(vbytes v[4])
{
	__m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44),
		b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
	__m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44),
		d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);

	v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
	v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
	v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
	v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

static inline vbytes pair_low(vbytes a, vbytes b)
{
	return _mm512_unpacklo_epi16(a, b);
}

static inline vbytes pair_high(vbytes a, vbytes b)
{
	return _mm512_unpackhi_epi16(a, b);
}

static inline vsum sum_zero(void)
{
	return _mm512_setzero_ps();
}

static inline vsum sum_add(vsum a, vsum b)
{
	return _mm512_add_ps(a, b);
}

static inline vsum sum_fold(vsum a, float s, vsum t)
{
	return _mm512_fmadd_ps(a, _mm512_set1_ps(s), t);
}

static inline void sum_store(float *y, vsum t)
{
	_mm512_storeu_ps(y, t);
}

/*
 * (t0 + t2) + (t1 + t3) of two registers' rows: lane k is t0 + t2, t1 + t3 of a's row k, then b's
 */
static inline __m512 half_sums(__m512 a, __m512 b)
{
	return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

static inline __m512 whole_sums(__m512 a, __m512 b)
{
	return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

/* Of four registers, in the order of rows */
static inline void sum_rows(float *y, const vsum t[4])
{
	const __m512i order =
		_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512 all = whole_sums(half_sums(t[0], t[1]), half_sums(t[2], t[3]));

	_mm512_storeu_ps(y, _mm512_permutexvar_ps(order, all));
}
