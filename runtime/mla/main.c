/*
 * The server `mla`: attention. A pure function from messages of router and experts, the rows they
 * name and the latent KV pages to rows of its own object. It owns the pages; page tables belong to
 * router. Started by init; see machinery 2-6, 17.
 */
#include "runtime/mla/mla.h"

int main(int argc, char **argv)
{
	struct err e = {0};
	struct mla *m = mla_open(argc > 1 ? argv[1] : NULL, &e);

	if (!m || server_confine(&m->s, ROLE_MLA, &e))
		return server_die(ROLE_MLA, &e);
	mla_loop(m);
}
