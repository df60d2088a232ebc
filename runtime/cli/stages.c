/* The table of stages; see stages.h. */
#include "runtime/cli/stages.h"

const struct stage stages[STAGES] = {
	{"drive_wait", "wait for the drive", COUNT_DRIVE_NS},
	{"attention", "attention", COUNT_ATTENTION_NS},
	{"gate", "gate", COUNT_GATE_NS},
	{"experts", "routed experts", COUNT_EXPERT_NS},
	{"shared", "dense and shared", COUNT_SHARED_NS},
	{"head", "head", COUNT_HEAD_NS},
	{"sampling", "sampling", COUNT_SAMPLE_NS},
};
