/* Own options and a node's; see split.h. */
#include "runtime/cli/split.h"

#include <errno.h>
#include <string.h>

/* Whether the argument is one of the table's options; *with_value: the next one belongs to it. */
static bool is_own(const struct opt *table, size_t n, const char *argument, bool *with_value)
{
	*with_value = false;
	if (!strcmp(argument, "--help") || !strcmp(argument, "-h"))
		return true;
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(table[i].name);

		if (strncmp(argument, "--", 2) || strncmp(argument + 2, table[i].name, len) ||
		    (argument[2 + len] && argument[2 + len] != '='))
			continue;
		*with_value = !argument[2 + len] && table[i].type != OPT_FLAG;
		return true;
	}
	return false;
}

int split_options(struct split *s, const struct opt *table, size_t n, int argc, char **argv,
		  struct err *e)
{
	memset(s, 0, sizeof(*s));
	if (argc > SPLIT_ARGS)
		return err_exit(e, STATUS_USAGE, -E2BIG, "%s takes at most %d arguments", argv[0],
				SPLIT_ARGS);
	s->own[s->n_own++] = s->node[s->n_node++] = argv[0];
	for (int i = 1; i < argc; i++) {
		bool with_value;

		if (is_own(table, n, argv[i], &with_value))
			s->own[s->n_own++] = argv[i];
		else
			s->node[s->n_node++] = argv[i];
		if (with_value && i + 1 < argc)
			s->own[s->n_own++] = argv[++i];
	}
	return 0;
}
