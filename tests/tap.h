/*
 * TAP for tests in C: one executable per subject, run by `prove`. Each check prints its line at
 *once, so that a crash shows how far the test came; the plan is printed by tap_done, so that a test
 *which ends early has none and fails.
 *
 *	ok(rc == 0, "a span may end exactly at the end (seed %u)", seed);
 *	return tap_done();
 *
 * The checks return whether they passed. Not for use by several threads at once.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdbool.h>
#include <stddef.h>

/* One check. The name is a sentence about behaviour; printf's rules. */
#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, #cond, __VA_ARGS__)

/* Equality of integers, strings (either may be NULL) and bytes; a failure prints both sides. */
#define is_int(got, want, ...)                                                                     \
	tap_is_int((long long)(got), (long long)(want), __FILE__, __LINE__, __VA_ARGS__)
#define is_str(got, want, ...) tap_is_str((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define is_mem(got, want, len, ...)                                                                \
	tap_is_mem((got), (want), (len), __FILE__, __LINE__, __VA_ARGS__)

/* |got - want| <= tolerance; a NaN on either side fails. */
#define is_near(got, want, tolerance, ...)                                                         \
	tap_is_near((double)(got), (double)(want), (tolerance), __FILE__, __LINE__, __VA_ARGS__)

#define TAP_FORMAT(at) __attribute__((format(printf, at, at + 1)))

bool tap_ok(bool pass, const char *file, int line, const char *text, const char *format, ...)
	TAP_FORMAT(5);
bool tap_is_int(long long got, long long want, const char *file, int line, const char *format, ...)
	TAP_FORMAT(5);
bool tap_is_str(const char *got, const char *want, const char *file, int line, const char *format,
		...) TAP_FORMAT(5);
bool tap_is_mem(const void *got, const void *want, size_t len, const char *file, int line,
		const char *format, ...) TAP_FORMAT(6);
bool tap_is_near(double got, double want, double tolerance, const char *file, int line,
		 const char *format, ...) TAP_FORMAT(6);

/* Counts one check as skipped; `why` says what is missing here. */
void skip(const char *why, ...) TAP_FORMAT(1);

/* A comment line in the output: parameters, seeds. */
void diag(const char *format, ...) TAP_FORMAT(1);

/* Prints the plan. Returns main's exit status: 0, or 1 if a check failed or none was made. */
int tap_done(void);

#endif
