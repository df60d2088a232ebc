/*
 * Looks for numbers that are not finite in weights as they arrive from the drive, before anything
 * is computed from them. Called by runtime/experts/slots.c.
 */
#ifndef RUNTIME_EXPERTS_NUMBERS_H
#define RUNTIME_EXPERTS_NUMBERS_H

#include "runtime/team.h"

#include <stddef.h>

/*
 * Position in bytes of the first number among n bytes at p that is not finite, or n. fp8: E4M3
 * codes; else BF16, and p may have any alignment. Much of it is shared out among the team.
 */
size_t numbers_find_bad(struct team *team, const void *p, size_t n, bool fp8);

#endif
