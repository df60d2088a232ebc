/*
 * The bytes of one task, from the checkpoint; see pack.h. Any thread, any order.
 */
#include "model/store/load.h"
#include "model/tensors.h"
#include "runtime/cli/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pack_scratch_open(struct pack_scratch *s, const struct pack_plan *p, struct err *e)
{
	const struct model_config *c = &p->m->ix->config;
	const uint64_t wide = c->hidden_size > c->moe_intermediate_size ? c->hidden_size
									: c->moe_intermediate_size;

	*s = (struct pack_scratch){.data = aligned_alloc(PACK_ALIGN, pack_span_max(p)),
				   .bounce = aligned_alloc(PACK_ALIGN, PACK_BOUNCE_BYTES),
				   .matrix = malloc(index_part_bytes(p->m->ix, EXPERT_GATE) + 1),
				   .scales =
					   malloc((tensor_blocks(c->hidden_size) *
							   tensor_blocks(c->moe_intermediate_size) +
						   1) *
						  sizeof(float)),
				   .rows = malloc(Q4_ROWS * (wide + 1) * sizeof(float))};
	if (s->data && s->bounce && s->matrix && s->scales && s->rows)
		return 0;
	pack_scratch_close(s);
	return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for packing");
}

void pack_scratch_close(struct pack_scratch *s)
{
	free(s->data);
	free(s->bounce);
	free(s->matrix);
	free(s->scales);
	free(s->rows);
	*s = (struct pack_scratch){0};
}

/* Bytes [from, from + len) of a tensor, which must be finite numbers. */
static int read_tensor(const struct pack_plan *p, const struct safetensor *t, uint32_t stored,
		       uint64_t from, void *to, uint64_t len, char *bounce, struct err *e)
{
	const uint64_t size = stored == INDEX_F32 ? 4 : stored == INDEX_BF16 ? 2 : 1;
	char name[204];
	int64_t bad;
	int rc = store_read(p->m->files, t->file, t->off + from, to, len, bounce, PACK_BOUNCE_BYTES,
			    e);

	if (rc)
		return rc;
	bad = load_find_nonfinite(to, len, stored);
	if (bad < 0)
		return 0;
	return err_exit(e, STATUS_MODEL, -EBADMSG,
			"%s: tensor %s: element %" PRIu64
			" is not a finite number: the file is damaged. Copy it again",
			p->m->files->file[t->file].name, err_name(name, t->name, t->name_len),
			from / size + (uint64_t)bad);
}

/* The parts of tensors that lie in [address, address + bytes); no element straddles its ends. */
static int fill_resident(const struct pack_plan *p, const struct pack_task *t,
			 struct pack_scratch *s, struct err *e)
{
	const uint64_t end = t->address + t->bytes;
	size_t lo = 0, hi = p->moves;
	int rc = 0;

	while (lo < hi) { /* the first that ends behind the task's begin */
		size_t mid = lo + (hi - lo) / 2;

		if (p->move[mid].to + p->move[mid].from->bytes <= t->address)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; !rc && lo < p->moves && p->move[lo].to < end; lo++) {
		const struct pack_move *m = &p->move[lo];
		uint64_t begin = m->to > t->address ? m->to : t->address;
		uint64_t stop = m->to + m->from->bytes < end ? m->to + m->from->bytes : end;

		if (begin < stop)
			rc = read_tensor(p, m->from, m->stored, begin - m->to,
					 s->data + (begin - t->address), stop - begin, s->bounce,
					 e);
	}
	return rc;
}

/* The layer of an expert, and its number there. */
static uint32_t layer_of(const struct index *ix, uint64_t number, uint32_t *expert)
{
	uint32_t l = 0;

	while (!index_layer(ix, l)->is_moe ||
	       number >= index_layer(ix, l)->first_expert + ix->config.n_routed_experts)
		l++;
	*expert = (uint32_t)(number - index_layer(ix, l)->first_expert);
	return l;
}

/* Matrix and scales of one part; *scale is NULL where it has none. */
static void find_part(const struct pack_plan *p, uint64_t number, unsigned part,
		      const struct safetensor **matrix, const struct safetensor **scale)
{
	uint32_t expert, layer = layer_of(p->m->ix, number, &expert);
	char name[160];
	int n = snprintf(name, sizeof(name),
			 "model.layers.%" PRIu32 ".mlp.experts.%" PRIu32 ".%s.weight", layer,
			 expert, tensor_part_name(part));

	*matrix = tensor_find(&p->table, name, (size_t)n);
	n = snprintf(name + n, sizeof(name) - (size_t)n, "_scale_inv") + n;
	*scale = tensor_find(&p->table, name, (size_t)n);
}

int pack_read_matrix(const struct pack_plan *p, uint64_t expert, unsigned part,
		     struct pack_scratch *s, struct pack_matrix *m, struct err *e)
{
	const struct index *ix = p->m->ix;
	const struct safetensor *matrix, *scale;
	uint32_t n_out, n_in;
	int rc = 0;

	tensor_expert_shape(&ix->config, part, &n_out, &n_in);
	find_part(p, expert, part, &matrix, &scale);
	if (scale)
		rc = read_tensor(p, scale, INDEX_F32, 0, s->scales, scale->bytes, s->bounce, e);
	if (!rc)
		rc = read_tensor(p, matrix, ix->expert_type, 0, s->matrix, matrix->bytes, s->bounce,
				 e);
	*m = (struct pack_matrix){.data = s->matrix,
				  .scale = s->scales,
				  .e4m3 = p->e4m3,
				  .n_out = n_out,
				  .n_in = n_in,
				  .type = ix->expert_type};
	return rc;
}

static int fill_q4(const struct pack_plan *p, const struct pack_task *t, struct pack_scratch *s,
		   struct err *e)
{
	struct expert_layout layout;
	int rc = 0;

	index_expert_layout(&p->m->ix->config, INDEX_Q4, &layout);
	for (unsigned part = 0; !rc && part < EXPERT_PARTS; part++) {
		struct pack_matrix m;

		rc = pack_read_matrix(p, t->item, part, s, &m, e);
		if (!rc)
			pack_to_q4(&m, p->g.table, s->rows, s->data + layout.data[part]);
	}
	return rc;
}

static int fill_expert(const struct pack_plan *p, const struct pack_task *t, struct pack_scratch *s,
		       struct err *e)
{
	const struct index *ix = p->m->ix;
	struct expert_layout layout;
	int rc = 0;

	index_expert_layout(&ix->config, ix->expert_type, &layout);
	for (unsigned part = 0; !rc && part < EXPERT_PARTS; part++) {
		const struct safetensor *matrix, *scale;

		find_part(p, t->item, part, &matrix, &scale);
		if (scale)
			rc = read_tensor(p, scale, INDEX_F32, 0, s->data + layout.scale[part],
					 scale->bytes, s->bounce, e);
		if (!rc)
			rc = read_tensor(p, matrix, ix->expert_type, 0, s->data + layout.data[part],
					 matrix->bytes, s->bounce, e);
	}
	return rc;
}

int pack_fill(const struct pack_plan *p, const struct pack_task *t, struct pack_scratch *s,
	      struct err *e)
{
	memset(s->data, 0, t->span);
	switch (t->area) {
	case PACK_CATALOG:
		memcpy(s->data, p->catalog, t->bytes);
		return 0;
	case PACK_RESIDENT:
		return fill_resident(p, t, s, e);
	default:
		return p->g.expert_type == INDEX_Q4 ? fill_q4(p, t, s, e) : fill_expert(p, t, s, e);
	}
}
