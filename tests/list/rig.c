/* See rig.h. */
#include "tests/list/rig.h"

#include "model/rope.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

static void *region(struct rig *r, enum dev_region region, uint64_t bytes)
{
	r->d.bytes[region] = bytes;
	return r->d.base[region] = forward_alloc(bytes + 1);
}

void rig_open(struct rig *r, struct forward *f, struct team *team, uint32_t slots)
{
	const struct model_config *c = f->model.config;

	memset(r, 0, sizeof(*r));
	r->f = f;
	r->slots = slots;
	cpu_kernels_init(&r->kernels, cpu_isa_best());
	list_shape(&r->d.shape, f->index, RIG_PAGES);
	list_frame(&r->d.frame[0], c, 256, RIG_ROWS, RIG_PAGES, RIG_ROWS, RIG_CONTEXT);
	list_frame(&r->d.frame[1], c, r->d.frame[0].bytes, RIG_ROWS, RIG_PAGES, RIG_ROWS,
		   RIG_CONTEXT);
	list_layout(&r->in, c, RIG_ROWS, RIG_PAGES, RIG_ROWS, 1);
	list_out(&r->out, c, 64, RIG_ROWS, RIG_ROWS);
	r->slot_bytes = index_slot_bytes(f->index);
	region(r, DEV_WORK, r->d.frame[1].bytes);
	memset(region(r, DEV_KV, RIG_PAGES * config_kv_page_bytes(c)), 0xff,
	       RIG_PAGES * config_kv_page_bytes(c));
	region(r, DEV_SLOTS, slots * r->slot_bytes);
	region(r, DEV_HOST_SLOTS, r->slot_bytes);
	r->list = region(r, DEV_HOST_LIST, r->in.bytes);
	region(r, DEV_HOST_OUT, r->out.bytes);
	r->d.base[DEV_WEIGHTS] = f->resident;
	r->d.bytes[DEV_WEIGHTS] = f->index->resident_bytes;
	r->d.row_max = list_row_max(c);
	r->d.table = forward_alloc((size_t)config_layers(c) * (c->n_routed_experts + 1) *
				   sizeof(*r->d.table));
	r->tenant = forward_alloc((slots + 1) * sizeof(*r->tenant));
	r->host = host_open(&r->d, &r->kernels, team, RIG_WORKERS);
}

void rig_close(struct rig *r)
{
	static const enum dev_region own[] = {DEV_WORK,       DEV_KV,        DEV_SLOTS,
					      DEV_HOST_SLOTS, DEV_HOST_LIST, DEV_HOST_OUT};

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		free(r->d.base[own[i]]);
	free(r->d.table);
	free(r->tenant);
	host_close(r->host);
}

/* Every command that the test executes has passed the check. */
static uint32_t execute(struct rig *r, const struct command *list, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < n; i++) {
		struct err e = {0};

		if (command_check(&r->d, &list[i], &e)) {
			ok(false, "command %u of a list: %s", i, e.text);
			exit(1);
		}
	}
	return r->run ? r->run(r, list, from, n) : host_run(r->host, list, from, n);
}

/* What the drive does: the expert's parts at their places of the one host slot. */
static void read_expert(struct rig *r, uint32_t layer, uint32_t expert)
{
	const struct index *ix = r->f->index;
	uint32_t experts = ix->config.n_routed_experts;

	for (unsigned p = 0; p < EXPERT_PARTS; p++)
		memcpy((char *)r->d.base[DEV_HOST_SLOTS] +
			       index_part_place(ix, index_expert(ix, layer, expert), p),
		       r->f->expert[(layer * experts + expert) * 3 + p], index_part_bytes(ix, p));
}

void rig_bring(struct rig *r, uint32_t layer, uint32_t expert)
{
	uint32_t experts = r->d.shape.experts, slot = r->next++ % r->slots, n;
	struct command c[LIST_EXPERT_COMMANDS];

	if (r->tenant[slot]) {
		const struct command out = {.kind = COMMAND_EXPERT,
					    .layer = (r->tenant[slot] - 1) / experts,
					    .id = (uint16_t)((r->tenant[slot] - 1) % experts)};

		execute(r, &out, 0, 1);
	}
	read_expert(r, layer, expert);
	n = list_expert(r->f->index, layer, expert, 0, slot * r->slot_bytes, c);
	execute(r, c, 0, n);
	r->tenant[slot] = layer * experts + expert + 1;
}

/* The list has stopped: as many of the missing experts as there are slots. */
static void serve(struct rig *r, const struct command *c)
{
	const struct frame *f = &r->d.frame[c->batch];
	const char *work = r->d.base[DEV_WORK];
	uint32_t k = r->d.shape.top_k, brought = 0;
	const uint32_t *state = (const void *)(work + f->state);
	const uint16_t *expert = (const void *)(work + f->expert);

	expert += (size_t)c->layer * f->rows * k;
	r->stops++;
	for (uint32_t i = 0; i < c->rows * k && brought < r->slots; i++) {
		if (state[i] != PAIR_WAITS ||
		    r->d.table[device_table_at(&r->d, c->layer, expert[i])].data[0])
			continue;
		rig_bring(r, c->layer, expert[i]);
		brought++;
	}
}

/* Turns each run of joined commands round. */
static void turn_round(struct command *list, uint32_t n)
{
	for (uint32_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && list[end].flags & COMMAND_JOINS; end++)
			;
		for (uint32_t a = i, b = end; a + 1 < b; a++) {
			struct command c = list[--b];

			list[b] = list[a];
			list[a] = c;
			if (a == i)
				list[a].flags &= (uint16_t)~COMMAND_JOINS;
			list[b].flags |= COMMAND_JOINS;
		}
	}
}

void rig_pass(struct rig *r, const struct forward_row *row, uint32_t n, uint32_t batch,
	      const float *h, uint32_t first, uint32_t last)
{
	const struct model_config *c = r->f->model.config;
	struct dev_row *at = (void *)(r->list + r->in.row);
	uint32_t *page = (void *)(r->list + r->in.page), picked[RIG_ROWS], commands, done = 0;
	struct command *list = (void *)(r->list + r->in.command);
	struct list_pass p = {.m = &r->f->model,
			      .frame = &r->d.frame[batch],
			      .at = &r->in,
			      .out = &r->out,
			      .batch = batch,
			      .rows = n,
			      .pages = RIG_PAGES,
			      .first_layer = first,
			      .last_layer = last,
			      .picked = picked,
			      .n_picked = n,
			      .not_finite = 1ull << 56};
	struct err e = {0};

	memcpy(page, r->f->pages, RIG_PAGES * sizeof(*page));
	for (uint32_t i = 0; i < n; i++) {
		picked[i] = i;
		at[i] = (struct dev_row){.position = row[i].position,
					 .first_key = first > 0,
					 .first_page = row[i].sequence * FORWARD_PAGES};
		rope_angles(c, row[i].position,
			    (float *)(void *)(r->list + r->in.angle) + i * c->qk_rope_head_dim);
	}
	memset(r->list + r->in.error, 0, n * sizeof(uint64_t));
	memcpy(r->list + r->in.h, h, n * model_width(c) * sizeof(float));
	if (rows_check(&r->d, p.frame, at, n, page, RIG_PAGES, RIG_CONTEXT, &e))
		ok(false, "the rows of a list: %s", e.text);
	commands = list_pass(&p, list);
	if (commands > r->in.commands)
		ok(false, "%u commands, room for %u", commands, r->in.commands);
	if (r->shuffle)
		turn_round(list, commands);
	while ((done = execute(r, list, done, commands)) < commands)
		serve(r, &list[done]);
}
