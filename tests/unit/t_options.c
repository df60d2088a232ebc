/* The command line is read strictly, and a refusal says what is allowed (runtime/options.h). */
#include "runtime/options.h"
#include "tests/tap.h"

#include <errno.h>
#include <string.h>

struct values {
	bool json;
	const char *socket;
	uint64_t threads, memory;
	int64_t offset;
	double temp;
	unsigned isa;
};

static char *arguments[16];

/* Parses the words of `line` (cut in place) with a table of every type. Returns options_parse's
 * result. */
static int parse(char *line, struct values *v, bool *help, struct err *e)
{
	struct opt table[] = {
		{"json", OPT_FLAG, &v->json, .help = "print JSON"},
		{"socket", OPT_STRING, &v->socket, .value = "PATH", .help = "where to listen"},
		{"threads", OPT_U64, &v->threads, .value = "N", .help = "threads", .min = 1,
		 .max = 64},
		{"memory", OPT_SIZE, &v->memory, .value = "N", .help = "budget"},
		{"offset", OPT_I64, &v->offset, .value = "N", .help = "offset"},
		{"temp", OPT_DOUBLE, &v->temp, .value = "X", .help = "temperature", .max = 2},
		{"isa", OPT_ENUM, &v->isa, .value = "scalar|avx2|avx512", .help = "instructions"},
	};
	struct options o = {.usage = "penstock try MODEL",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 1,
			    .max_operands = 2};
	char name[] = "try";
	int argc = 1, n;

	arguments[0] = name;
	for (char *w = strtok(line, " "); w; w = strtok(NULL, " "))
		arguments[argc++] = w;
	arguments[argc] = NULL;
	*v = (struct values){.socket = "default", .threads = 7};
	*e = (struct err){0};
	n = options_parse(&o, argc, arguments, e);
	*help = o.help;
	return n;
}

static void test_accepted(void)
{
	char all[] = "--json a --socket=/x=y --threads 64 --memory 3G --offset -5 --temp=0.5 --isa "
		     "avx2 b";
	char dashes[] = "--socket=--odd -- --json -";
	char none[] = "model", help[] = "--threads 2 --help --nonsense";
	bool helped;
	struct values v;
	struct err e;

	is_int(parse(all, &v, &helped, &e), 2, "operands stand anywhere among the options");
	is_str(arguments[1], "a", "and are moved to the front");
	is_str(arguments[2], "b", "in their order");
	ok(!arguments[3], "with NULL behind the last");
	ok(v.json, "a flag is set");
	is_str(v.socket, "/x=y", "a text may hold an equals sign");
	is_int((long long)v.threads, 64, "the largest allowed number is taken");
	is_int((long long)v.memory, 3LL << 30, "G is 1024 to the third");
	is_int(v.offset, -5, "a negative value may stand apart");
	is_near(v.temp, 0.5, 0, "a number may have a fraction");
	is_int(v.isa, 1, "a word becomes its position");
	is_int(parse(dashes, &v, &helped, &e), 2, "after -- everything is an operand, and so is -");
	is_str(v.socket, "--odd", "a value with dashes is taken after an equals sign");
	is_int(parse(none, &v, &helped, &e), 1, "options may be left out");
	is_str(v.socket, "default", "and keep their defaults");
	is_int((long long)v.threads, 7, "of every type");
	is_int(parse(help, &v, &helped, &e), 0, "--help stops the reading");
	ok(helped, "and is told");
}

static void test_refused(void)
{
	static const char *const lines[][2] = {
		{"", "an argument is missing"},
		{"a b c", "too many arguments"},
		{"a --jso", "unknown option --jso. Options: --json --socket"},
		{"a --jsonx=1", "unknown option --jsonx."},
		{"a -j", "unknown option -j."},
		{"a --json=1", "--json takes no value"},
		{"a --socket", "--socket needs a value: PATH"},
		{"a --socket --json", "--socket needs a value: PATH"},
		{"a --threads 0", "from 1 to 64"},
		{"a --threads 65", "from 1 to 64"},
		{"a --threads 1x", "a whole number"},
		{"a --threads -1", "a whole number"},
		{"a --threads=", "a whole number"},
		{"a --threads 18446744073709551616", "a whole number"},
		{"a --memory 3GB", "K, M, G, T"},
		{"a --memory 16777216T", "K, M, G, T"},
		{"a --memory G", "K, M, G, T"},
		{"a --offset 9223372036854775808", "a whole number"},
		{"a --temp nan", "a number"},
		{"a --temp 1e999", "a number"},
		{"a --temp 2.1", "from 0 to 2"},
		{"a --isa avx", "none of scalar|avx2|avx512"},
		{"a --isa scalar|avx2", "none of scalar|avx2|avx512"},
	};
	bool help;
	struct values v;
	struct err e;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char line[80];

		strcpy(line, lines[i][0]);
		ok(parse(line, &v, &help, &e) == -EINVAL && e.status == STATUS_USAGE &&
			   strstr(e.text, lines[i][1]),
		   "refused: \"%s\", because: %s", lines[i][0], e.text);
	}
}

static void test_limits(void)
{
	uint64_t u = 1;
	int64_t i = 1;

	ok(!parse_u64("18446744073709551615", &u) && u == UINT64_MAX, "the largest number is read");
	ok(!parse_size("16777215T", &u) && u == UINT64_C(16777215) << 40, "so is the largest size");
	ok(!parse_i64("-9223372036854775808", &i) && i == INT64_MIN, "and the smallest");
	ok(parse_u64(" 1", &u) && parse_u64("+1", &u) && parse_i64("--1", &i), "no frills");
}

int main(void)
{
	test_accepted();
	test_refused();
	test_limits();
	return tap_done();
}
