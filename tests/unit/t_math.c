/*
 * Our own elementary functions beside the C library's long double ones, over random arguments, in
 * ulps of the result; and the conversions of BF16 and E4M3 over all their values. -s N chooses the
 * seed.
 */
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/math.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS 200000

static const double infinity = (double)INFINITY;

static uint64_t state = 1;

static uint64_t random64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Uniform in (low, high) */
static double uniform(double low, double high)
{
	return low + (high - low) * ((double)(random64() >> 11) + 0.5) * 0x1p-53;
}

/* |got - want| in units of the last place of want; NaN if either is */
static double ulps(double got, long double want)
{
	int e;

	frexpl(want, &e);
	return (double)fabsl(((long double)got - want) / ldexpl(1.0L, e - DBL_MANT_DIG));
}

static void keep_max(double *max, double v)
{
	if (!(v <= *max)) /* keeps a NaN */
		*max = v;
}

static void test_log(void)
{
	double max = 0.0, near = 0.0;

	for (unsigned i = 0; i < ARGUMENTS; i++) {
		double x = exp2(uniform(-1020.0, 1023.0)), y = exp2(uniform(-1.0, 1.0));

		keep_max(&max, ulps(log_f64(x), logl((long double)x)));
		keep_max(&near, ulps(log_f64(y), logl((long double)y)));
	}
	ok(max < 1.0, "log over all exponents is within %.3f ulp", max);
	ok(near < 1.0, "log between 1/2 and 2 is within %.3f ulp", near);
	ok(log_f64(1.0) == 0.0 && log_f64(0.0) == -infinity && log_f64(infinity) == infinity &&
		   isnan(log_f64(-1.0)) && isnan(log_f64((double)NAN)),
	   "log at 1, 0, infinity, below 0 and of NaN is what it should be");
	near = 0.0;
	for (double u = 0x1p-53; u > 0x1p-1000; u *= 0x1p-13)
		keep_max(&near, ulps(log_f64(1.0 - u), log1pl(-(long double)(1.0 - (1.0 - u)))));
	ok(near < 1.0, "log beside 1 is within %.3f ulp", near);
}

static void test_exp(void)
{
	double max = 0.0, near = 0.0;

	for (unsigned i = 0; i < ARGUMENTS; i++) {
		double x = uniform(-708.0, 709.7), y = uniform(-1.0, 1.0);

		keep_max(&max, ulps(exp_f64(x), expl((long double)x)));
		keep_max(&near, ulps(exp_f64(y), expl((long double)y)));
	}
	ok(max < 1.0, "exp over its range is within %.3f ulp", max);
	ok(near < 1.0, "exp beside 0 is within %.3f ulp", near);
	ok(exp_f64(0.0) == 1.0 && exp_f64(-infinity) == 0.0 && exp_f64(infinity) == infinity &&
		   exp_f64(710.0) == infinity && exp_f64(-800.0) == 0.0 &&
		   isnan(exp_f64((double)NAN)),
	   "exp at 0, beyond its range and of NaN is what it should be");
}

static void test_sincos(void)
{
	double max = 0.0, near = 0.0, hard = 0.0, s, c;

	for (unsigned i = 0; i < ARGUMENTS; i++) {
		double x = uniform(-0x1p31, 0x1p31), y = uniform(-7.0, 7.0);
		double z = (double)(int64_t)uniform(-1e9, 1e9) * 1.57079632679489661923;

		sincos_f64(x, &s, &c);
		keep_max(&max, ulps(s, sinl((long double)x)));
		keep_max(&max, ulps(c, cosl((long double)x)));
		sincos_f64(y, &s, &c);
		keep_max(&near, ulps(s, sinl((long double)y)));
		keep_max(&near, ulps(c, cosl((long double)y)));
		sincos_f64(z, &s, &c);
		keep_max(&hard, ulps(s, sinl((long double)z)));
		keep_max(&hard, ulps(c, cosl((long double)z)));
	}
	ok(max < 1.0, "sine and cosine below 2^31 are within %.3f ulp", max);
	ok(near < 1.0, "sine and cosine below 7 are within %.3f ulp", near);
	ok(hard < 1.0, "sine and cosine beside multiples of pi/2 are within %.3f ulp", hard);
	sincos_f64(0.0, &s, &c);
	ok(s == 0.0 && c == 1.0, "sine and cosine of 0 are 0 and 1");
	sincos_f64(0x1p31, &s, &c);
	ok(isnan(s) && isnan(c), "sine and cosine out of range are NaN");
}

static void test_rounding(void)
{
	bool same = true;

	for (unsigned i = 0; i < ARGUMENTS; i++) {
		double x = uniform(-100.0, 100.0) * exp2((double)(random64() % 60)), y = fabs(x);

		same &= floor_f64(x) == floor(x) && ceil_f64(x) == ceil(x) &&
			sqrt_f64(y) == sqrt(y);
	}
	ok(same, "floor, ceil and sqrt of random numbers are the C library's");
	ok(floor_f64(-2.0) == -2.0 && ceil_f64(2.0) == 2.0 && floor_f64(infinity) == infinity &&
		   isnan(ceil_f64((double)NAN)),
	   "floor and ceil leave integers, infinities and NaN as they are");
}

static void test_exp_f32(void)
{
	double max = 0.0;
	int e;

	for (unsigned i = 0; i < ARGUMENTS; i++) {
		float x = (float)uniform(-87.3, 88.7);
		double want = exp((double)x);

		frexp(want, &e);
		keep_max(&max, fabs((double)exp_f32(x) - want) / ldexp(1.0, e - FLT_MANT_DIG));
	}
	ok(max <= 0.9, "exp in FP32 is within %.3f ulp", max);
	ok(exp_f32(0.0f) == 1.0f && exp_f32(-0.0f) == 1.0f && exp_f32(-INFINITY) == 0.0f &&
		   exp_f32(INFINITY) == INFINITY && exp_f32(-88.0f) == 0.0f &&
		   exp_f32(89.0f) == INFINITY && isnan(exp_f32(NAN)),
	   "exp in FP32 at 0, beyond its range and of NaN is what it should be");
	ok(sigmoid_f32(0.0f) == 0.5f && sigmoid_f32(-200.0f) == 0.0f &&
		   sigmoid_f32(200.0f) == 1.0f && silu_f32(0.0f) == 0.0f &&
		   silu_f32(200.0f) == 200.0f,
	   "sigmoid and silu at 0 and far from it are what they should be");
}

/* E4M3 by its definition */
static double e4m3_value(unsigned code)
{
	double m = code & 7, e = code >> 3 & 15;
	double v = e == 0.0 ? m / 512.0 : ldexp(8.0 + m, (int)e - 10);

	return code & 128 ? -v : v;
}

static void test_formats(void)
{
	bool widened = true, back = true, half = true, bf16 = true;

	for (unsigned c = 0; c < 256; c++) {
		float v = e4m3_to_f32((uint8_t)c);

		if ((c & 127) == 127) {
			widened &= isnan(v);
			continue;
		}
		widened &= (double)v == e4m3_value(c) && !signbit(v) == (c < 128);
		back &= f32_to_e4m3(v) == c;
		if ((c & 127) < 126) {
			double low = e4m3_value(c), high = e4m3_value(c + 1);
			unsigned even = c & 1 ? c + 1 : c;

			half &= f32_to_e4m3((float)((low + high) / 2)) == even;
			half &= f32_to_e4m3((float)(low * 0.51 + high * 0.49)) == c;
			half &= f32_to_e4m3((float)(low * 0.49 + high * 0.51)) == c + 1;
		}
	}
	ok(widened, "every E4M3 code widens to its value");
	ok(back, "every E4M3 code survives the way to FP32 and back");
	ok(half, "between two E4M3 numbers the nearer is taken, halfway the even one");
	ok(f32_to_e4m3(1e9f) == 0x7e && f32_to_e4m3(-460.0f) == 0xfe && f32_to_e4m3(NAN) == 0x7f &&
		   f32_to_e4m3(0x1p-11f) == 0,
	   "E4M3 saturates at 448, keeps NaN and drops what is too small");
	for (uint32_t u = 0; u < 65536; u++) {
		float v = bf16_to_f32((uint16_t)u);
		uint16_t want = u & 0x7f80 ? (uint16_t)u : u & 0x8000;

		bf16 &= isnan(v) ? isnan(bf16_to_f32(f32_to_bf16(v))) : f32_to_bf16(v) == want;
	}
	ok(bf16, "every BF16 number survives the way to FP32 and back, subnormals as zero");
	ok(f32_to_bf16(0x1.01p0f) == 0x3f80 && f32_to_bf16(0x1.03p0f) == 0x3f82 &&
		   f32_to_bf16(0x1.010002p0f) == 0x3f81 && f32_to_bf16(FLT_MAX) == 0x7f80 &&
		   f32_to_bf16(FLT_MIN / 2) == 0 && f32_to_bf16(-FLT_MIN / 2) == 0x8000,
	   "BF16 rounds to the nearest, halfway to the even one");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "-s"))
		state = strtoull(argv[2], NULL, 0);
	diag("seed %llu", (unsigned long long)state);
	test_log();
	test_exp();
	test_sincos();
	test_rounding();
	test_exp_f32();
	test_formats();
	return tap_done();
}
