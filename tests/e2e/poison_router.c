/*
 * `router` with a fault: drawing the token of position 301 ends the process. For poison.t, in the
 * place of the real one.
 */
/* no asan: it runs inside a node */
/* wraps: sampler_draw */
#include "runtime/router/router.h"

enum {
	ALWAYS = 301
};

int __real_sampler_draw(const struct sampler_options *o, const float *logits, uint32_t vocab,
			const uint8_t *candidates, uint64_t position, void *scratch,
			uint32_t *token, struct err *e);
int __wrap_sampler_draw(const struct sampler_options *o, const float *logits, uint32_t vocab,
			const uint8_t *candidates, uint64_t position, void *scratch,
			uint32_t *token, struct err *e);

int __wrap_sampler_draw(const struct sampler_options *o, const float *logits, uint32_t vocab,
			const uint8_t *candidates, uint64_t position, void *scratch,
			uint32_t *token, struct err *e)
{
	if (position == ALWAYS)
		__builtin_trap();
	return __real_sampler_draw(o, logits, vocab, candidates, position, scratch, token, e);
}

int main(int argc, char **argv)
{
	struct err e = {0};
	struct router *r = router_open(argc > 1 ? argv[1] : NULL, &e);

	if (!r || server_confine(&r->s, ROLE_ROUTER, &e))
		return server_die(ROLE_ROUTER, &e);
	router_loop(r);
}
