/*
 * The command line as a table: every option has a type, a place for its value and a line of help,
 *and there are no others. Used by every program's main.
 *
 *	struct opt table[] = {
 *		{"socket", OPT_STRING, &socket, .value = "PATH", .help = "where to listen"},
 *		{"memory", OPT_SIZE, &memory, .value = "N", .help = "budget", .min = 1 << 20, .max =
 *1e15},
 *		{"isa", OPT_ENUM, &isa, .value = "scalar|avx2|avx512", .help = "instruction set"},
 *		{"json", OPT_FLAG, &json, .help = "print JSON"},
 *	};
 *	struct options o = {.usage = "penstock info MODEL", .about = "What a model is.",
 *			    .table = table, .n = 4, .min_operands = 1, .max_operands = 1};
 *	int n = options_parse(&o, argc, argv, &e);
 *
 *	if (n < 0)
 *		return die(&e);
 *	if (o.help)
 *		return options_help(&o, stdout);
 *	model = argv[1];
 */
#ifndef RUNTIME_OPTIONS_H
#define RUNTIME_OPTIONS_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opt_type {
	OPT_FLAG,   /* bool *; takes no value */
	OPT_STRING, /* const char **; borrowed from argv */
	OPT_U64,    /* uint64_t *; decimal digits */
	OPT_SIZE,   /* uint64_t *; bytes: digits and K, M, G or T, powers of 1024 */
	OPT_I64,    /* int64_t * */
	OPT_DOUBLE, /* double *; finite */
	OPT_ENUM    /* unsigned *; the position of the word in .value, which lists them: "a|b|c" */
};

struct opt {
	const char *name; /* without the dashes */
	enum opt_type type;
	void *to;          /* keeps what it holds (the default) unless the option is given */
	const char *value; /* what help calls the value; the words of an OPT_ENUM */
	const char *help;  /* one line */
	double min, max;   /* allowed range of a number, both inclusive; none if both are 0 */
	bool given;        /* out: the option was on the command line; the last one counts */
};

struct options {
	const char *usage; /* the first line of help after "usage: ", without [options] */
	const char *about; /* a sentence or more, or NULL */
	struct opt *table; /* n of them; help prints them in this order */
	size_t n;
	int min_operands, max_operands; /* arguments that are not options */
	bool help;                      /* out: --help or -h was given; nothing else was checked */
};

/*
 * Reads `--name VALUE`, `--name=VALUE` and operands in any order; `--` ends the options. A value
 * that begins with two dashes needs the form with `=`. Operands are moved to argv[1], argv[2], ...
 * and argv[count + 1] becomes NULL. Returns the count of operands, or -EINVAL with STATUS_USAGE and
 * a text that says what would be allowed.
 */
MUST_CHECK int options_parse(struct options *o, int argc, char **argv, struct err *e);

/* Prints usage and the table. Returns main's exit status. */
int options_help(const struct options *o, FILE *out);

/*
 * The readers behind the table, strict: no sign, no space, nothing left over, nothing that
 * overflows. Return 0, or -EINVAL with *out untouched.
 */
MUST_CHECK int parse_u64(const char *text, uint64_t *out);
MUST_CHECK int parse_size(const char *text, uint64_t *out);
MUST_CHECK int parse_i64(const char *text, int64_t *out);
MUST_CHECK int parse_double(const char *text, double *out);

#endif
