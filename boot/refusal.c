/* Refused senders; see refusal.h. */
#include "boot/refusal.h"

#include "boot/supervise.h"
#include "ipc/record.h"

void refusal_tick(struct init *in)
{
	const struct layout *l = &in->layout;
	const struct {
		enum object object;
		uint64_t record, size, at;
	} records[REFUSERS] = {
		{OBJ_ROUTER, l->router_record, l->router_record_size,
		 offsetof(struct router_head, refused)},
		{OBJ_MLA, l->mla_record, sizeof(struct mla_record),
		 offsetof(struct mla_record, refused)},
		{OBJ_EXPERTS, l->experts_record, sizeof(struct experts_record),
		 offsetof(struct experts_record, refused)},
		{OBJ_CLIENT, l->client_record, l->client_record_size,
		 offsetof(struct client_record, refused)},
		{OBJ_CUDA, l->cuda_record, sizeof(struct cuda_record),
		 offsetof(struct cuda_record, refused)},
	};

	for (unsigned i = 0; i < REFUSERS; i++) {
		const char *map = in->objects.map[records[i].object];
		struct refusal r;

		if (!map ||
		    !record_read(map + records[i].record, records[i].size, records[i].at, &r,
				 sizeof(r)) ||
		    r.count == in->refusals[i])
			continue;
		in->refusals[i] = r.count;
		if ((r.sender >= ROLE_CLIENT && r.sender <= ROLE_EXPERTS) || r.sender == ROLE_CUDA)
			supervise_kill_for(in, (enum role)r.sender, RESTART_REFUSED);
	}
}
