/*
 * log, exp, sine and cosine in binary64, each with an error below 1 ulp, by additions,
 * multiplications, divisions and explicit fma alone: so musl and glibc builds, gcc and clang, draw
 * the same tokens (rules 7 and 12). The series are Taylor's, long enough for the reduced argument.
 * Called by model/ (YaRN's tables, sampler); tests/unit/t_math.c compares them with the C library's
 * long double functions.
 */
#include "drivers/cpu/math.h"

#include <emmintrin.h>
#include <string.h>

/*
 * ln 2 = LN2_HI + LN2_LO; LN2_HI has 20 significant bits, so its product with an exponent is exact
 */
#define LN2_HI 0x1.62e42p-1
#define LN2_LO 0x1.fdf473de6af28p-22

static double fma64(double a, double b, double c)
{
	return __builtin_fma(a, b, c);
}

static uint64_t bits_of(double x)
{
	uint64_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static double float_of(uint64_t u)
{
	double x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* 2^k for a normal result */
static double power_of_two(int64_t k)
{
	return float_of((uint64_t)(k + 1023) << 52);
}

/*
 * x = 2^k (1 + f) with 1 + f in [sqrt 1/2, sqrt 2); s = f / (2 + f); log(1 + f) = 2 atanh s,
 * written as f - (f^2/2 - s (f^2/2 + R(s^2))) so that the rounding errors sit in small terms. |s| <
 * 0.1716.
 */
static double atanh_tail(double z)
{
	double p = 2.0 / 23.0;

	p = fma64(p, z, 2.0 / 21.0);
	p = fma64(p, z, 2.0 / 19.0);
	p = fma64(p, z, 2.0 / 17.0);
	p = fma64(p, z, 2.0 / 15.0);
	p = fma64(p, z, 2.0 / 13.0);
	p = fma64(p, z, 2.0 / 11.0);
	p = fma64(p, z, 2.0 / 9.0);
	p = fma64(p, z, 2.0 / 7.0);
	p = fma64(p, z, 2.0 / 5.0);
	p = fma64(p, z, 2.0 / 3.0);
	return p * z;
}

double log_f64(double x)
{
	uint64_t u = bits_of(x);
	int64_t k = 0;
	double f, s, half, low;

	if (u << 1 == 0)
		return -__builtin_inf();
	if (u >> 63)
		return __builtin_nan("");
	if (u >= (uint64_t)0x7ff << 52)
		return x;
	if (u >> 52 == 0) { /* a subnormal, by integers: DAZ may be set */
		int shift = __builtin_clzll(u) - 11;

		u <<= shift;
		k = 1 - shift;
		u = (u & (((uint64_t)1 << 52) - 1)) | (uint64_t)k << 52;
		k -= 1023;
	} else {
		k = (int64_t)(u >> 52) - 1023;
	}
	u = (u & (((uint64_t)1 << 52) - 1)) | (uint64_t)1023 << 52;
	if (u > bits_of(0x1.6a09e667f3bcdp+0)) { /* sqrt 2 */
		u -= (uint64_t)1 << 52;
		k++;
	}
	f = float_of(u) - 1.0;
	s = f / (2.0 + f);
	half = 0.5 * f * f;
	low = fma64(s, half + atanh_tail(s * s), (double)k * LN2_LO);
	return (double)k * LN2_HI - ((half - low) - f);
}

/*
 * e^x = 2^k e^r, |r| <= ln 2 / 2; r = hi - lo, and what its rounding lost goes into the small
 * terms.
 */
double exp_f64(double x)
{
	double n, hi, lo, r, lost, p, one, y;
	int64_t k;

	if (x != x)
		return x;
	if (x > 0x1.62e42fefa39efp+9)
		return __builtin_inf();
	if (x < -745.2)
		return 0.0;
	n = fma64(x, 0x1.71547652b82fep+0, 0x1.8p+52) - 0x1.8p+52;
	k = (int64_t)n;
	hi = fma64(n, -LN2_HI, x);
	lo = n * LN2_LO;
	r = hi - lo;
	lost = (hi - r) - lo;
	p = 1.0 / 6227020800.0;
	p = fma64(p, r, 1.0 / 479001600.0);
	p = fma64(p, r, 1.0 / 39916800.0);
	p = fma64(p, r, 1.0 / 3628800.0);
	p = fma64(p, r, 1.0 / 362880.0);
	p = fma64(p, r, 1.0 / 40320.0);
	p = fma64(p, r, 1.0 / 5040.0);
	p = fma64(p, r, 1.0 / 720.0);
	p = fma64(p, r, 1.0 / 120.0);
	p = fma64(p, r, 1.0 / 24.0);
	p = fma64(p, r, 1.0 / 6.0);
	p = fma64(p, r, 0.5);
	p = fma64(p, r * r, lost);
	one = 1.0 + r; /* exact as one + (r - (one - 1)) */
	y = one + ((r - (one - 1.0)) + p);
	if (k > 1023)
		return y * 2.0 * power_of_two(k - 1);
	if (k < -1022)
		return y * power_of_two(k + 100) * 0x1p-100;
	return y * power_of_two(k);
}

/*
 * The rest of x modulo pi/2 as r + low, |r| <= pi/4; returns the quadrant. pi/2 = P1 + P2 + P3: x
 * and n P1 are multiples of P1's last bit (or n is 0), so the first fma is exact; n has at most 31
 * bits.
 */
static unsigned reduce(double x, double *r, double *low)
{
	const double P1 = 0x1.921fb54442d18p+0, P2 = 0x1.1a62633145c07p-54;
	const double P3 = -0x1.f1976b7ed8fbcp-110;
	double n = fma64(x, 0x1.45f306dc9c883p-1, 0x1.8p+52) - 0x1.8p+52;
	double first = fma64(n, -P1, x);
	double p = n * P2, lost = fma64(n, P2, -p);
	double hi = first - p, t = hi - first;
	double lo = (first - (hi - t)) - (p + t); /* what that subtraction lost */

	lo = lo - lost - n * P3;
	*r = hi + lo;
	*low = lo - (*r - hi);
	return (unsigned)((int64_t)n & 3);
}

/* sin(r + low) */
static double sine_kernel(double r, double low)
{
	double z = r * r, p = 1.0 / 355687428096000.0;

	p = fma64(p, z, -1.0 / 1307674368000.0);
	p = fma64(p, z, 1.0 / 6227020800.0);
	p = fma64(p, z, -1.0 / 39916800.0);
	p = fma64(p, z, 1.0 / 362880.0);
	p = fma64(p, z, -1.0 / 5040.0);
	p = fma64(p, z, 1.0 / 120.0);
	p = fma64(p, z, -1.0 / 6.0);
	return r + fma64(p, z * r, fma64(-0.5 * z, low, low));
}

/* cos(r + low) = 1 - z/2 + z^2 P(z) - r low, with what the roundings of z and of 1 - z/2 lost */
static double cosine_kernel(double r, double low)
{
	double z = r * r, lost = fma64(r, r, -z), half = 0.5 * z, one = 1.0 - half;
	double p = -1.0 / 6402373705728000.0;

	p = fma64(p, z, 1.0 / 20922789888000.0);
	p = fma64(p, z, -1.0 / 87178291200.0);
	p = fma64(p, z, 1.0 / 479001600.0);
	p = fma64(p, z, -1.0 / 3628800.0);
	p = fma64(p, z, 1.0 / 40320.0);
	p = fma64(p, z, -1.0 / 720.0);
	p = fma64(p, z, 1.0 / 24.0);
	return one + (((1.0 - one) - half) + fma64(p, z * z, -fma64(r, low, 0.5 * lost)));
}

void sincos_f64(double x, double *sine, double *cosine)
{
	double r, low, s, c;
	unsigned quadrant;

	if (!(x < 0x1p31 && x > -0x1p31)) {
		*sine = *cosine = __builtin_nan("");
		return;
	}
	quadrant = reduce(x, &r, &low);
	s = sine_kernel(r, low);
	c = cosine_kernel(r, low);
	*sine = quadrant & 1 ? c : s;
	*cosine = quadrant & 1 ? s : c;
	if (quadrant & 2)
		*sine = -*sine;
	if (quadrant == 1 || quadrant == 2)
		*cosine = -*cosine;
}

double sqrt_f64(double x)
{
	__m128d v = _mm_set_sd(x);

	return _mm_cvtsd_f64(_mm_sqrt_sd(v, v));
}

/* From 2^52 on every number is an integer; NaN takes the same way out. */
double floor_f64(double x)
{
	double t;

	if (!(x > -0x1p52 && x < 0x1p52))
		return x;
	t = (double)(int64_t)x;
	if (t == x)
		return x;
	return t > x ? t - 1.0 : t;
}

double ceil_f64(double x)
{
	return -floor_f64(-x);
}
