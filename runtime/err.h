/*
 * The one form of an error: a negative errno, the exit status it asks for, and one text written by
 * whoever knows the cause. Used by every folder; only `main` prints it and exits.
 */
#ifndef RUNTIME_ERR_H
#define RUNTIME_ERR_H

#include <stdarg.h>

#define MUST_CHECK __attribute__((warn_unused_result))

/* Exit statuses of every program (design 8, api "Command line and damaged models"). */
enum err_status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,  /* failed while running */
	STATUS_USAGE = 2,   /* wrong command line */
	STATUS_MODEL = 3,   /* model missing, damaged or unsupported */
	STATUS_MEMORY = 4,  /* not enough memory or device */
	STATUS_VERIFY = 5,  /* a verification failed */
	STATUS_CTRL_C = 130 /* interrupted */
};

struct err {
	int code;       /* 0, or the negative errno of the first failure */
	int status;     /* enum err_status; what main exits with */
	char text[480]; /* what, where, why; then what to do */
};

/*
 * Records the first failure: keeps what is there if e already holds one. `code` must be negative.
 * Control characters in the formatted text (line ends too: a message is one line) and bytes that
 * are not UTF-8 are escaped as \xNN; the text is cut, never overrun.
 * Returns `code`, so that a caller can `return err_set(...)`. e may be NULL (the text is dropped).
 */
int err_set(struct err *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same with an exit status other than STATUS_FAILED. */
int err_exit(struct err *e, enum err_status status, int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * Writes `name` into out (at least 204 bytes) cut at 200 bytes for use in a message: hostile names
 * come from checkpoints. Returns out.
 */
const char *err_name(char out[204], const char *name, unsigned long len);

#endif
