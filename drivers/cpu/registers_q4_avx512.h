/*
 * What matmul_q4_avx512.c and matmul_q4_avx512bf16.c have in common of the operations that
 * matmul_q4_simd.h asks for.
 */
typedef __m512i vbytes, vint;
typedef __m512 vsum;

static inline vbytes load_bytes(const uint8_t *p)
{
	return _mm512_loadu_si512(p);
}

static inline void store_bytes(uint8_t *p, vbytes v)
{
	_mm512_store_si512(p, v);
}

static inline vbytes load_table(const int8_t t[16])
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)t);

	return _mm512_broadcast_i32x4(_mm_add_epi8(v, _mm_set1_epi8(64)));
}

static inline void look(vbytes table, vbytes v, vbytes *low, vbytes *high)
{
	const __m512i nibble = _mm512_set1_epi8(15);

	*low = _mm512_shuffle_epi8(table, _mm512_and_si512(v, nibble));
	*high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble));
}

static inline vint int_set(int32_t i)
{
	return _mm512_set1_epi32(i);
}

static inline vint int_add(vint a, vint b)
{
	return _mm512_add_epi32(a, b);
}

static inline vsum sum_zero(void)
{
	return _mm512_setzero_ps();
}

static inline vsum sum_set(float x)
{
	return _mm512_set1_ps(x);
}

static inline vsum sum_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline vsum sum_int(vint a)
{
	return _mm512_cvtepi32_ps(a);
}

static inline vsum sum_scales(const uint16_t *p)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);

	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

static inline vsum sum_fma(vsum a, vsum b, vsum c)
{
	return _mm512_fmadd_ps(a, b, c);
}

static inline void sum_store(float *y, vsum t)
{
	_mm512_storeu_ps(y, t);
}
