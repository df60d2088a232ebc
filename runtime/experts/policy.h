/*
 * The cache policy: which slot gives way to an expert that must be read. One file, one interface;
 * today it is least recently used. Recency lies in experts' object, so a successor evicts what its
 * predecessor would have. Called by runtime/experts/slots.c only.
 */
#ifndef RUNTIME_EXPERTS_POLICY_H
#define RUNTIME_EXPERTS_POLICY_H

#include <stdbool.h>
#include <stdint.h>

struct policy {
	uint64_t *used; /* [slots], shared: the clock at a slot's last use; 0: never */
	uint64_t clock;
	uint32_t slots;
};

void policy_open(struct policy *p, uint64_t *used, uint32_t slots);

/* The expert in `slot` has been asked for. */
void policy_touch(struct policy *p, uint32_t slot);

/*
 * The slot to give up among those for which may(context, slot) is true; UINT32_MAX if there is
 * none.
 */
uint32_t policy_victim(const struct policy *p, bool (*may)(void *, uint32_t), void *context);

#endif
