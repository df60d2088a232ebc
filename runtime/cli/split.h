/*
 * Command lines of commands that start a node of their own: their own options, and those of
 * `penstock run`, which go to the node. Used by bench and chaos.
 */
#ifndef RUNTIME_CLI_SPLIT_H
#define RUNTIME_CLI_SPLIT_H

#include "runtime/options.h"

enum {
	SPLIT_ARGS = 64 /* arguments of such a command at most */
};

struct split {
	int n_own, n_node; /* both begin with the command's name */
	char *own[SPLIT_ARGS + 2], *node[SPLIT_ARGS + 4];
};

/* `table` has the command's own options, n of them. Arguments are borrowed. */
MUST_CHECK int split_options(struct split *s, const struct opt *table, size_t n, int argc,
			     char **argv, struct err *e);

#endif
