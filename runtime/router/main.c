/*
 * The server `router`: sequences and schedule, embedding, gates, final norm and head, sampler. It
 * decides which rows run next, which experts each row needs and which token comes out. Started by
 * init; see machinery 2-6, 15-18.
 */
#include "runtime/router/router.h"

int main(int argc, char **argv)
{
	struct err e = {0};
	struct router *r = router_open(argc > 1 ? argv[1] : NULL, &e);

	if (!r || server_confine(&r->s, ROLE_ROUTER, &e))
		return server_die(ROLE_ROUTER, &e);
	router_loop(r);
}
