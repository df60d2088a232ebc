/* Message rings; see ring.h. */
#include "ipc/ring.h"

#include <errno.h>
#include <string.h>

int ring_peek(const struct msg *ring, uint32_t entries, uint64_t head, uint64_t tail,
	      struct msg *out)
{
	if (tail - head > entries)
		return -EBADMSG;
	if (tail == head)
		return 0;
	memcpy(out, &ring[head % entries], sizeof(*out));
	return 1;
}

bool ring_put(struct msg *ring, uint32_t entries, uint64_t head, uint64_t tail, const struct msg *m)
{
	if (tail - head >= entries)
		return false;
	memcpy(&ring[tail % entries], m, sizeof(*m));
	return true;
}
