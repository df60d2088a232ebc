/*
 * The checks of tests/tap.h. Linked into every unit test.
 */
#include "tests/tap.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static unsigned n_checks, n_failed;

static bool report(bool pass, const char *file, int line, const char *format, va_list ap)
	__attribute__((format(printf, 4, 0)));

static bool report(bool pass, const char *file, int line, const char *format, va_list ap)
{
	n_checks++;
	n_failed += !pass;
	printf("%sok %u - ", pass ? "" : "not ", n_checks);
	vprintf(format, ap);
	putchar('\n');
	if (!pass)
		printf("#   at %s:%d\n", file, line);
	fflush(stdout);
	return pass;
}

bool tap_ok(bool pass, const char *file, int line, const char *text, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	report(pass, file, line, format, ap);
	va_end(ap);
	if (!pass)
		diag("  %s", text);
	return pass;
}

bool tap_is_int(long long got, long long want, const char *file, int line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	report(got == want, file, line, format, ap);
	va_end(ap);
	if (got != want)
		diag("  got %lld, want %lld", got, want);
	return got == want;
}

bool tap_is_str(const char *got, const char *want, const char *file, int line, const char *format,
		...)
{
	bool pass = got && want ? strcmp(got, want) == 0 : got == want;
	va_list ap;

	va_start(ap, format);
	report(pass, file, line, format, ap);
	va_end(ap);
	if (!pass)
		diag("  got \"%s\", want \"%s\"", got ? got : "(NULL)", want ? want : "(NULL)");
	return pass;
}

bool tap_is_mem(const void *got, const void *want, size_t len, const char *file, int line,
		const char *format, ...)
{
	const unsigned char *g = got, *w = want;
	size_t i = 0;
	va_list ap;

	while (i < len && g[i] == w[i])
		i++;
	va_start(ap, format);
	report(i == len, file, line, format, ap);
	va_end(ap);
	if (i < len)
		diag("  byte %zu of %zu: got 0x%02x, want 0x%02x", i, len, g[i], w[i]);
	return i == len;
}

bool tap_is_near(double got, double want, double tolerance, const char *file, int line,
		 const char *format, ...)
{
	bool pass = fabs(got - want) <= tolerance; /* false for NaN */
	va_list ap;

	va_start(ap, format);
	report(pass, file, line, format, ap);
	va_end(ap);
	if (!pass)
		diag("  got %.17g, want %.17g within %g", got, want, tolerance);
	return pass;
}

void skip(const char *why, ...)
{
	va_list ap;

	n_checks++;
	printf("ok %u # SKIP ", n_checks);
	va_start(ap, why);
	vprintf(why, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void diag(const char *format, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

int tap_done(void)
{
	printf("1..%u\n", n_checks);
	fflush(stdout);
	return n_failed || !n_checks;
}
