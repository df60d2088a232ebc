/*
 * The table-driven command line of runtime/options.h.
 */
#include "runtime/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Numbers ---- */

/* The digits at the start of text; *end is what follows them. */
static int parse_digits(const char *text, uint64_t *out, const char **end)
{
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -EINVAL;
	if (p == text)
		return -EINVAL;
	*out = n;
	*end = p;
	return 0;
}

int parse_u64(const char *text, uint64_t *out)
{
	const char *end;
	uint64_t n;

	if (parse_digits(text, &n, &end) || *end)
		return -EINVAL;
	*out = n;
	return 0;
}

int parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMGT", small[] = "kmgt";
	const char *end, *unit;
	unsigned shift = 0;
	uint64_t n;

	if (parse_digits(text, &n, &end))
		return -EINVAL;
	if (*end) {
		if ((unit = strchr(units, *end)))
			shift = 10 * (unsigned)(unit - units + 1);
		else if ((unit = strchr(small, *end)))
			shift = 10 * (unsigned)(unit - small + 1);
		else
			return -EINVAL;
		if (end[1] || n > UINT64_MAX >> shift)
			return -EINVAL;
	}
	*out = n << shift;
	return 0;
}

int parse_i64(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t n, limit = (uint64_t)INT64_MAX + negative;

	if (parse_u64(text + negative, &n) || n > limit)
		return -EINVAL;
	*out = negative ? (int64_t)(-n) : (int64_t)n;
	return 0;
}

int parse_double(const char *text, double *out)
{
	char *end;
	double d;

	/* strtod also takes spaces, hexadecimal, "inf" and "nan", which nobody means here. */
	if (!*text || text[strspn(text, "0123456789.eE+-")])
		return -EINVAL;
	d = strtod(text, &end);
	if (end == text || *end || !isfinite(d))
		return -EINVAL;
	*out = d;
	return 0;
}

/* ---- One option ---- */

/* The position of `text` among the words of "a|b|c", or -EINVAL. */
static int parse_word(const char *words, const char *text, unsigned *out)
{
	size_t len = strlen(text);

	for (unsigned i = 0;; i++) {
		size_t n = strcspn(words, "|");

		if (n == len && !memcmp(words, text, n)) {
			*out = i;
			return 0;
		}
		if (!words[n])
			return -EINVAL;
		words += n + 1;
	}
}

static bool in_range(const struct opt *t, double value)
{
	return (t->min == 0 && t->max == 0) || (value >= t->min && value <= t->max);
}

static int parse_value(const struct opt *t, const char *text)
{
	uint64_t u;
	int64_t i;
	double d;

	switch (t->type) {
	case OPT_FLAG:
		break;
	case OPT_STRING:
		*(const char **)t->to = text;
		return 0;
	case OPT_U64:
	case OPT_SIZE:
		if ((t->type == OPT_U64 ? parse_u64 : parse_size)(text, &u) ||
		    !in_range(t, (double)u))
			return -EINVAL;
		*(uint64_t *)t->to = u;
		return 0;
	case OPT_I64:
		if (parse_i64(text, &i) || !in_range(t, (double)i))
			return -EINVAL;
		*(int64_t *)t->to = i;
		return 0;
	case OPT_DOUBLE:
		if (parse_double(text, &d) || !in_range(t, d))
			return -EINVAL;
		*(double *)t->to = d;
		return 0;
	case OPT_ENUM:
		return parse_word(t->value, text, t->to);
	}
	return -EINVAL;
}

static int bad_value(const struct opt *t, const char *text, struct err *e)
{
	static const char *const kinds[] = {
		[OPT_FLAG] = "no value",
		[OPT_STRING] = "a text",
		[OPT_U64] = "a whole number",
		[OPT_SIZE] = "a size: digits, then nothing or K, M, G, T (powers of 1024)",
		[OPT_I64] = "a whole number",
		[OPT_DOUBLE] = "a number",
	};
	char name[204], range[80] = "";

	err_name(name, text, strlen(text));
	if (t->type == OPT_ENUM)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--%s: \"%s\" is none of %s", t->name,
				name, t->value);
	if (t->min != 0 || t->max != 0)
		snprintf(range, sizeof(range), ", from %.15g to %.15g", t->min, t->max);
	return err_exit(e, STATUS_USAGE, -EINVAL, "--%s: \"%s\" is not allowed: it takes %s%s",
			t->name, name, kinds[t->type], range);
}

/* Whether the argument (without dashes) is this option; *value is what follows `=`, or NULL. */
static bool opt_matches(const struct opt *t, const char *arg, const char **value)
{
	size_t n = strlen(t->name);

	if (strncmp(arg, t->name, n) || (arg[n] && arg[n] != '='))
		return false;
	*value = arg[n] ? arg + n + 1 : NULL;
	return true;
}

static int unknown_option(const struct options *o, const char *arg, struct err *e)
{
	char name[204], known[400];
	size_t used = 0;

	known[0] = '\0';
	for (size_t i = 0; i < o->n && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, " --%s",
					 o->table[i].name);
	err_name(name, arg, strcspn(arg, "="));
	return err_exit(e, STATUS_USAGE, -EINVAL, "unknown option %s. Options:%s --help", name,
			known);
}

/* Reads the option at argv[*at], and its value, advancing *at to the last argument used. */
static int parse_option(struct options *o, int argc, char **argv, int *at, struct err *e)
{
	const char *value = NULL;
	struct opt *t = NULL;

	if (!strcmp(argv[*at], "-h") || !strcmp(argv[*at], "--help")) {
		o->help = true;
		return 0;
	}
	for (size_t i = 0; i < o->n && argv[*at][1] == '-' && !t; i++)
		if (opt_matches(&o->table[i], argv[*at] + 2, &value))
			t = &o->table[i];
	if (!t)
		return unknown_option(o, argv[*at], e);
	t->given = true;
	if (t->type == OPT_FLAG) {
		if (value)
			return err_exit(e, STATUS_USAGE, -EINVAL, "--%s takes no value", t->name);
		*(bool *)t->to = true;
		return 0;
	}
	if (!value && *at + 1 < argc && strncmp(argv[*at + 1], "--", 2))
		value = argv[++*at];
	if (!value)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--%s needs a value: %s", t->name,
				t->value ? t->value : "TEXT");
	return parse_value(t, value) ? bad_value(t, value, e) : 0;
}

/* ---- The command line ---- */

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	int rc, n = 0;
	bool only_operands = false;

	o->help = false;
	for (int i = 1; i < argc; i++) {
		if (!only_operands && !strcmp(argv[i], "--")) {
			only_operands = true;
		} else if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
			argv[++n] = argv[i]; /* "-" is an operand: standard input */
		} else {
			rc = parse_option(o, argc, argv, &i, e);
			if (rc < 0 || o->help)
				return rc;
		}
	}
	if (n < o->min_operands || n > o->max_operands)
		return err_exit(e, STATUS_USAGE, -EINVAL, "%s. Usage: %s [options]",
				n < o->min_operands ? "an argument is missing"
						    : "there are too many arguments",
				o->usage);
	if (n + 1 < argc)
		argv[n + 1] = NULL;
	return n;
}

int options_help(const struct options *o, FILE *out)
{
	fprintf(out, "usage: %s%s\n", o->usage, o->n ? " [options]" : "");
	if (o->about)
		fprintf(out, "%s\n", o->about);
	for (size_t i = 0; i < o->n; i++) {
		const struct opt *t = &o->table[i];
		int width = fprintf(out, "  --%s%s%s", t->name, t->value ? " " : "",
				    t->value ? t->value : "");

		/* A long option has its help on a line of its own. */
		if (width > 26)
			width = fprintf(out, "\n") - 1;
		fprintf(out, "%*s%s\n", width < 28 ? 28 - width : 2, "", t->help);
	}
	return fflush(out) || ferror(out) ? STATUS_FAILED : STATUS_OK;
}
