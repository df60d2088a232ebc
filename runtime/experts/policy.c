/* Least recently used; see policy.h. */
#include "runtime/experts/policy.h"

void policy_open(struct policy *p, uint64_t *used, uint32_t slots)
{
	p->used = used;
	p->slots = slots;
	p->clock = 0;
	for (uint32_t i = 0; i < slots; i++) {
		if (used[i] > p->clock)
			p->clock = used[i];
	}
}

void policy_touch(struct policy *p, uint32_t slot)
{
	p->used[slot] = ++p->clock;
}

uint32_t policy_victim(const struct policy *p, bool (*may)(void *, uint32_t), void *context)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < p->slots; i++) {
		if ((best == UINT32_MAX || p->used[i] < p->used[best]) && may(context, i))
			best = i;
	}
	return best;
}
