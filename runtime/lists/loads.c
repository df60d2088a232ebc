/* Lists that bring experts, or what the CPU has computed in their place; see lists.h. */
#include "runtime/lists/lists.h"

#include <errno.h>
#include <string.h>

/* Nobody finds an expert in a slot that is being filled with another: how many commands. */
static uint32_t evict(struct lists *l, uint32_t slot, struct command *out)
{
	uint32_t experts = l->s.at.plan->experts;

	if (l->tenant[slot] == UINT32_MAX)
		return 0;
	*out = (struct command){.kind = COMMAND_EXPERT,
				.layer = l->tenant[slot] / experts,
				.id = (uint16_t)(l->tenant[slot] % experts)};
	l->tenant[slot] = UINT32_MAX;
	return 1;
}

/* All of it in one slot; which. */
static bool one_slot(const struct lists *l, dev_addr a, uint64_t bytes, uint32_t *slot)
{
	uint64_t each = l->s.at.plan->slot_bytes, at = dev_offset(a);

	*slot = (uint32_t)(at / each);
	return dev_region(a) == DEV_SLOTS && *slot < l->slots && bytes <= each - at % each;
}

/* An output where experts keeps those of the batch. */
static bool is_result(const struct lists *l, uint32_t b, const struct command *c)
{
	const struct attach *a = &l->s.at;
	uint64_t begin = a->layout.experts_result[b], at = dev_offset(c->from);
	uint64_t bytes = plan_results(a->plan, b) * a->layout.row_stride * sizeof(float);

	return at >= begin && at - begin <= bytes && c->bytes <= bytes - (at - begin);
}

static int check_load(struct lists *l, uint32_t b, const struct command *c, uint32_t n,
		      struct err *e)
{
	uint32_t slot, other;

	for (uint32_t i = 0; i < n; i++) {
		int rc = command_check(&l->d, &c[i], e);
		bool good = true;

		if (rc)
			return rc;
		switch (c[i].kind) {
		case COMMAND_COPY:
			good = one_slot(l, c[i].to, c[i].bytes, &slot);
			break;
		case COMMAND_EXPERT:
			good = one_slot(l, c[i].expert.data[0], 1, &slot) &&
			       one_slot(l, c[i].expert.data[1], 1, &other) && other == slot &&
			       one_slot(l, c[i].expert.data[2], 1, &other) && other == slot;
			break;
		case COMMAND_FAIL:
			good = c[i].batch == b;
			break;
		case COMMAND_RESULT:
			good = c[i].batch == b && is_result(l, b, &c[i]);
			break;
		default:
			good = false;
		}
		if (!good)
			return err_set(e, -EBADMSG, "a command that lists of experts do not have");
	}
	return 0;
}

static void run_load(struct lists *l, const struct command *c, uint32_t n)
{
	struct err e = {0};
	uint32_t slot, out = 0;

	for (uint32_t i = 0; i < n; i++)
		if (c[i].kind == COMMAND_COPY && one_slot(l, c[i].to, 1, &slot))
			out += evict(l, slot, &l->evicted[out]);
	lists_need(l->x->load(l->x, l->evicted, out, &e), &e);
	lists_need(l->x->load(l->x, c, n, &e), &e);
	for (uint32_t i = 0; i < n; i++)
		if (c[i].kind == COMMAND_EXPERT && one_slot(l, c[i].expert.data[0], 1, &slot))
			l->tenant[slot] = c[i].layer * l->s.at.plan->experts + c[i].id;
}

bool lists_serve_load(struct lists *l, uint32_t b)
{
	const struct attach *a = &l->s.at;
	const struct cuda_record *d = l->record.draft;
	struct running *r = &l->run[b];
	struct list_head head;
	struct err e = {0};
	struct msg m;
	int rc;

	if (r->loading)
		return false;
	rc = server_take(&l->s, &l->load[b], d->load_head[b], MSG_LOAD, b, &m, &e);
	if (rc == 0)
		return false;
	m.batch = b;
	if (rc == -EPROTO) {
		server_refuse_record(&l->s, &lists_draft(l)->refused, ROLE_EXPERTS);
		record_commit(&l->record);
		return true;
	}
	memcpy(&head, attach_at(a, OBJ_EXPERTS, a->layout.experts_load[b]), sizeof(head));
	if (rc > 0 && r->waits && m.layer == lists_commands(l, b)[r->done].layer &&
	    msg_pass(m.seq, a->plan->layers) == msg_pass(r->msg.seq, a->plan->layers)) {
		if (head.seq == m.seq && head.commands <= LOAD_COMMANDS) {
			memcpy(l->loads,
			       (const char *)attach_at(a, OBJ_EXPERTS, a->layout.experts_load[b]) +
				       sizeof(head),
			       head.commands * sizeof(*l->loads));
			rc = check_load(l, b, l->loads, head.commands, &e);
		} else {
			rc = -EBADMSG;
		}
		r->waits = false; /* what is still missing is asked for again */
		if (!rc) {
			run_load(l, l->loads, head.commands);
			r->loading = true;
			return true;
		}
	}
	if (rc < 0)
		server_refuse(&l->s, &lists_draft(l)->refused, &m, b, ROLE_EXPERTS);
	lists_draft(l)->load_head[b]++;
	record_commit(&l->record);
	attach_ring(a, ROLE_EXPERTS);
	return true;
}
