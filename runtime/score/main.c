/*
 * The program `score`: the client role of a `penstock score` run, started by init in the gateway's
 * place (boot/README.md).
 */
#include "runtime/score/score.h"

#include "ipc/sandbox.h"

#include <stdio.h>

int main(void)
{
	static struct score s; /* too large for a stack */
	struct err e = {0};

	if (score_open(&s, &e) || sandbox_files(s.at.node->sandbox_lacks, &e) ||
	    sandbox_calls(SANDBOX_SCORE, s.at.node->sandbox_lacks, &e) || score_run(&s, &e)) {
		fprintf(stderr, "penstock: %s\n", e.text);
		return e.status ? e.status : STATUS_FAILED;
	}
	return 0;
}
