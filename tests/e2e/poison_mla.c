/*
 * `mla` with two faults: attention of position 300 ends the process; attention of position 200 does
 * so in layer 1 unless it is computed by the scalar reference. For poison.t, in the place of the
 * real one.
 */
/* no asan: it runs inside a node */
/* wraps: attention_rows */
#include "runtime/mla/mla.h"

#include <string.h>

enum {
	ALWAYS = 300,
	WITH_SIMD = 200
};

void __real_attention_rows(const struct model *m, const struct attention_job *job, void *scratch,
			   struct worker *w);
void __wrap_attention_rows(const struct model *m, const struct attention_job *job, void *scratch,
			   struct worker *w);

void __wrap_attention_rows(const struct model *m, const struct attention_job *job, void *scratch,
			   struct worker *w)
{
	struct cpu_kernels scalar;

	memset(&scalar, 0, sizeof(scalar));
	cpu_kernels_init(&scalar, CPU_SCALAR);
	for (uint32_t r = 0; w->index == 0 && r < job->rows; r++) {
		if (!job->row[r].skip && (job->row[r].position == ALWAYS ||
					  (job->row[r].position == WITH_SIMD && job->layer == 1 &&
					   m->kernels->all_finite != scalar.all_finite)))
			__builtin_trap();
	}
	__real_attention_rows(m, job, scratch, w);
}

int main(int argc, char **argv)
{
	struct err e = {0};
	struct mla *m = mla_open(argc > 1 ? argv[1] : NULL, &e);

	if (!m || server_confine(&m->s, ROLE_MLA, &e))
		return server_die(ROLE_MLA, &e);
	mla_loop(m);
}
