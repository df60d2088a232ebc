/*
 * The command line against arbitrary arguments: the input's lines are argv[1], argv[2], ...
 * (runtime/options.h).
 */
#include "runtime/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool flag = false;
	const char *text = "";
	uint64_t number = 1, bytes = 1;
	int64_t offset = 0;
	double temp = 1;
	unsigned isa = 0;
	struct opt table[] = {
		{"json", OPT_FLAG, &flag, .help = "print JSON"},
		{"socket", OPT_STRING, &text, .value = "PATH", .help = "where to listen"},
		{"threads", OPT_U64, &number, .value = "N", .help = "threads", .min = 1, .max = 64},
		{"memory", OPT_SIZE, &bytes, .value = "N", .help = "budget"},
		{"offset", OPT_I64, &offset, .value = "N", .help = "offset"},
		{"temp", OPT_DOUBLE, &temp, .value = "X", .help = "temperature", .max = 2},
		{"isa", OPT_ENUM, &isa, .value = "scalar|avx2|avx512", .help = "instructions"},
	};
	struct options o = {.usage = "fuzz", .table = table, .n = 7, .max_operands = 2};
	char *copy = malloc(size + 1), *argv[18] = {0};
	struct err e = {0};
	int argc = 1, n;

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	copy[size] = '\0';
	argv[0] = copy + size;
	for (char *p = copy; p && argc < 17; argc++)
		argv[argc] = strsep(&p, "\n");
	n = options_parse(&o, argc, argv, &e);
	if (n < 0 ? n != -EINVAL || e.status != STATUS_USAGE || !e.text[0]
		  : e.code || n > 2 || number < 1 || number > 64 || isa > 2 ||
			    !(temp >= 0 && temp <= 2))
		abort(); /* a refusal without a text, or a value outside its range */
	free(copy);
	return 0;
}
