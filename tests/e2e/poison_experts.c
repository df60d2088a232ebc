/*
 * `experts` with a fault: the row of position 300 ends the process. For poison.t, in the place of
 * the real one.
 */
/* no asan: it runs inside a node */
/* wraps: team_run_last */
#include "runtime/experts/experts.h"

enum {
	ALWAYS = 300
};

void __real_team_run_last(struct team *t, team_work *work, void *context, void *twin);
void __wrap_team_run_last(struct team *t, team_work *work, void *context, void *twin);

/* Called for the end of a step, and for nothing else of this server's. */
void __wrap_team_run_last(struct team *t, team_work *work, void *context, void *twin)
{
	const struct step *st = context;
	size_t first = (size_t)(st->error_in - st->sc->error);

	for (uint32_t r = 0; r < st->msg.rows; r++) {
		if (!st->error_in[r] && st->pass.row[first + r].position == ALWAYS)
			__builtin_trap();
	}
	__real_team_run_last(t, work, context, twin);
}

int main(int argc, char **argv)
{
	struct err e = {0};
	struct experts *x = experts_open(argc > 1 ? argv[1] : NULL, &e);

	if (!x || server_confine(&x->s, ROLE_EXPERTS, &e))
		return server_die(ROLE_EXPERTS, &e);
	experts_loop(x);
}
