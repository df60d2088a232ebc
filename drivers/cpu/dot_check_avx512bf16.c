/*
 * Does VDPBF16PS add as rule 3 does? Called once by cpu_isa_usable before the instruction is
 * trusted: on a processor that adds in another order, or keeps subnormals, the FMA variant takes
 * its place.
 */
#include "drivers/cpu/variants.h"

#include <immintrin.h>

/*
 * xorshift32; its words serve as pairs of BF16 numbers and as sums, so all exponents, NaNs and
 * subnormals come up
 */
static __m512i next(__m512i s)
{
	s = _mm512_xor_si512(s, _mm512_slli_epi32(s, 13));
	s = _mm512_xor_si512(s, _mm512_srli_epi32(s, 17));
	return _mm512_xor_si512(s, _mm512_slli_epi32(s, 5));
}

/* The exponents of both halves drawn near 2^0, so that the three summands are of like size */
static __m512i near_one(__m512i v)
{
	return _mm512_or_si512(_mm512_and_si512(v, _mm512_set1_epi32((int)0x83ff83ff)),
			       _mm512_set1_epi32(0x3c003c00));
}

static bool agree(__m512 sum, __m512i w, __m512i x)
{
	const __m512i high = _mm512_set1_epi32((int)0xffff0000);
	__m512 dot = _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
	__m512 two = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(w, high)),
				     _mm512_castsi512_ps(_mm512_and_si512(x, high)), sum);
	__mmask16 same;

	two = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(w, 16)),
			      _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)), two);
	same = _mm512_cmpeq_epi32_mask(_mm512_castps_si512(dot), _mm512_castps_si512(two));
	same |= _mm512_cmp_ps_mask(dot, dot, _CMP_UNORD_Q) &
		_mm512_cmp_ps_mask(two, two, _CMP_UNORD_Q);
	return same == 0xffff;
}

bool bf16_dot_agrees(void)
{
	__m512i s = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9,
									 8, 7, 6, 5, 4, 3, 2, 1, 0),
							_mm512_set1_epi32((int)2654435761u)),
				     _mm512_set1_epi32(0x2545f491));
	bool same = true;

	for (unsigned i = 0; i < 2000; i++) {
		__m512i w = next(s), x = next(w), c = next(x);

		s = c;
		same &= agree(_mm512_castsi512_ps(c), w, x);
		same &= agree(_mm512_castsi512_ps(near_one(c)), near_one(w), near_one(x));
		/* products that leave the range of normal numbers */
		same &= agree(_mm512_castsi512_ps(_mm512_slli_epi32(c, 31)),
			      _mm512_and_si512(w, _mm512_set1_epi32((int)0x9fff9fff)),
			      _mm512_and_si512(x, _mm512_set1_epi32((int)0xbfffbfff)));
	}
	return same;
}
