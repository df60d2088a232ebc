/*
 * Where a node's time goes, by its counters: the stages of a pass in the order of the reports of
 * `bench` and `top`. What they leave of the wall clock is hand-over between processes, or idleness.
 */
#ifndef RUNTIME_CLI_STAGES_H
#define RUNTIME_CLI_STAGES_H

#include "ipc/log.h"

enum {
	STAGES = 7
};

struct stage {
	const char *key, *label;
	enum counter counter; /* nanoseconds */
};

extern const struct stage stages[STAGES];

#endif
