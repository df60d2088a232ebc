/*
 * The server `experts`: feed-forward blocks. Brings the experts that router picked into slots,
 * through the io_uring that init made, and applies them; dense layers and shared experts are
 * resident. Started by init; see machinery 2-6, 10, 20, 21.
 */
#include "runtime/experts/experts.h"

int main(int argc, char **argv)
{
	struct err e = {0};
	struct experts *x = experts_open(argc > 1 ? argv[1] : NULL, &e);

	if (!x || server_confine(&x->s, ROLE_EXPERTS, &e))
		return server_die(ROLE_EXPERTS, &e);
	experts_loop(x);
}
