/*
 * What a list may say: every number of a command is compared before anything is executed, so that
 * an executor can use it as it is. Lists come from router and experts, which may be hostile.
 */
#include "drivers/cpu/kernels.h"
#include "runtime/lists/executor.h"

#include <errno.h>

enum {
	WIDTH_MAX = 1 << 24 /* of any matrix side or row: products below fit 64 bits */
};

static bool inside(const struct device *d, dev_addr a, uint64_t bytes, uint32_t align)
{
	uint32_t region = dev_region(a);
	uint64_t offset = dev_offset(a);

	return region > DEV_NONE && region < DEV_REGIONS && offset % align == 0 &&
	       bytes <= d->bytes[region] && offset <= d->bytes[region] - bytes;
}

static bool in(const struct device *d, enum dev_region region, dev_addr a, uint64_t bytes,
	       uint32_t align)
{
	return dev_region(a) == region && inside(d, a, bytes, align);
}

/* FP32 numbers of the weights, or none. */
static bool vector_ok(const struct device *d, dev_addr a, uint64_t n)
{
	return !a || in(d, DEV_WEIGHTS, a, 4 * n, 4);
}

static bool matrix_ok(const struct device *d, const struct dev_weight *w, enum dev_region region)
{
	uint64_t blocks = ((uint64_t)w->n_out + 127) / 128 * (((uint64_t)w->n_in + 127) / 128);

	if (!w->n_out || !w->n_in || w->n_out > WIDTH_MAX || w->n_in > WIDTH_MAX ||
	    w->type > WEIGHT_Q4 || (w->type == WEIGHT_FP8) != (w->scale != 0))
		return false;
	if (w->type == WEIGHT_FP8 && !inside(d, w->scale, 4 * blocks, 4))
		return false;
	if (w->type == WEIGHT_FP8 && dev_region(w->scale) != DEV_WEIGHTS &&
	    dev_region(w->scale) != (uint32_t)region)
		return false;
	return in(d, region, w->data, weight_bytes(w->type, w->n_out, w->n_in),
		  w->type == WEIGHT_Q4 ? 32 : 1);
}

/* rows of n elements, ld apart */
static bool rows_ok(const struct device *d, const struct command *c, dev_addr a, uint64_t ld,
		    uint64_t n, uint32_t size)
{
	return n <= ld && ld <= WIDTH_MAX && in(d, DEV_WORK, a, c->rows * ld * size, size);
}

static bool product_ok(const struct device *d, const struct command *c, const struct dev_weight *w)
{
	return matrix_ok(d, w, DEV_WEIGHTS) && w->type != WEIGHT_Q4 && c->ldx % 128 == 0 &&
	       dev_offset(c->from) % 64 == 0 && rows_ok(d, c, c->from, c->ldx, w->n_in, 2);
}

/* kv_b: per head W_UK rows, then W_UV rows. */
static bool kv_b_ok(const struct device *d, const struct dev_weight *w)
{
	const struct dev_shape *s = &d->shape;

	return matrix_ok(d, w, DEV_WEIGHTS) && w->type != WEIGHT_Q4 && w->n_in == s->rank &&
	       w->n_out == (uint64_t)s->heads * (s->nope + s->v);
}

static bool copy_ok(const struct device *d, const struct command *c)
{
	uint32_t to = dev_region(c->to), from = dev_region(c->from);

	if (!inside(d, c->to, c->bytes, 1) || !inside(d, c->from, c->bytes, 1))
		return false;
	switch (to) {
	case DEV_WORK:
		return from == DEV_WORK || from == DEV_HOST_LIST;
	case DEV_SLOTS:
		return from == DEV_HOST_SLOTS;
	case DEV_HOST_OUT:
		return from == DEV_WORK;
	default:
		return false;
	}
}

static bool expert_ok(const struct device *d, const struct command *c)
{
	const struct dev_shape *s = &d->shape;

	for (unsigned p = 0; p < 3; p++) {
		const struct dev_weight w = {.data = c->expert.data[p],
					     .scale = c->expert.scale[p],
					     .n_out = p == 2 ? s->hidden : s->inner,
					     .n_in = p == 2 ? s->inner : s->hidden,
					     .type = s->expert_type};

		if (!matrix_ok(d, &w, DEV_SLOTS))
			return false;
	}
	return true;
}

static bool fields_ok(const struct device *d, const struct command *c)
{
	const struct dev_shape *s = &d->shape;
	uint64_t down = (uint64_t)s->rank + s->rope;

	switch (c->kind) {
	case COMMAND_COPY:
		return copy_ok(d, c);
	case COMMAND_PAGE:
		return c->page_from < s->pages && c->page_to < s->pages &&
		       c->page_from != c->page_to && c->positions <= 256;
	case COMMAND_NORM:
		return c->vector && vector_ok(d, c->vector, c->n) && vector_ok(d, c->bias, c->n) &&
		       c->n && c->n <= d->row_max && c->ldy <= d->row_max &&
		       rows_ok(d, c, c->from, c->ldx, c->n, 4) &&
		       rows_ok(d, c, c->to, c->ldy, c->n, 2);
	case COMMAND_MATMUL:
		return product_ok(d, c, &c->weight) &&
		       rows_ok(d, c, c->to, c->ldy, c->weight.n_out, 4);
	case COMMAND_ENTER:
		return product_ok(d, c, &c->weight) && product_ok(d, c, &c->weight2) &&
		       c->weight.n_out == c->weight2.n_out && c->weight.n_out <= d->row_max &&
		       rows_ok(d, c, c->to, c->ldy, c->weight.n_out, 2);
	case COMMAND_CACHE:
		return c->vector && vector_ok(d, c->vector, s->rank) && vector_ok(d, c->bias, down);
	case COMMAND_ABSORB:
	case COMMAND_VALUES:
		return kv_b_ok(d, &c->weight);
	case COMMAND_ATTEND:
		return true;
	case COMMAND_RESIDUAL:
		return vector_ok(d, c->bias, s->hidden);
	case COMMAND_FINITE:
		return c->bytes && rows_ok(d, c, c->from, c->ldx, c->n, 4);
	case COMMAND_CHOOSE:
		return c->bytes && s->experts && vector_ok(d, c->bias, s->experts) &&
		       !c->bias == (s->topk_method != DEV_NOAUX_TC);
	case COMMAND_EXPERTS:
		return s->experts;
	case COMMAND_COMBINE:
		return s->experts || !(c->flags & COMMAND_ROUTED);
	case COMMAND_EXPERT:
		return c->id < s->experts && (!c->expert.data[0] || expert_ok(d, c));
	case COMMAND_RESULT:
		return c->n < (uint64_t)c->rows * s->top_k && c->layer < s->layers &&
		       c->bytes == 4ull * s->hidden && in(d, DEV_HOST_RESULT, c->from, c->bytes, 4);
	case COMMAND_FAIL:
		return c->bytes && c->id < s->experts;
	default:
		return false;
	}
}

int command_check(const struct device *d, const struct command *c, struct err *e)
{
	if (c->kind && c->kind < COMMAND_KINDS && c->batch < LIST_BATCHES &&
	    c->rows <= d->frame[c->batch].rows && c->layer < d->shape.layers && fields_ok(d, c))
		return 0;
	return err_set(e, -EBADMSG, "command %u of layer %u names what it may not", c->kind,
		       c->layer);
}

int rows_check(const struct device *d, const struct frame *f, const struct dev_row *row,
	       uint32_t rows, const uint32_t *page, uint32_t pages, uint32_t context, struct err *e)
{
	if (rows > f->rows || pages > f->pages)
		return err_set(e, -EBADMSG, "a list of %u rows and %u pages", rows, pages);
	for (uint32_t i = 0; i < pages; i++)
		if (page[i] >= d->shape.pages)
			return err_set(e, -EBADMSG, "page %u of %u", page[i], d->shape.pages);
	for (uint32_t r = 0; r < rows; r++)
		if (row[r].position >= context || row[r].first_key > row[r].position ||
		    row[r].first_page > pages || row[r].position / 256 >= pages - row[r].first_page)
			return err_set(e, -EBADMSG, "row %u: position %u, pages from %u of %u", r,
				       row[r].position, row[r].first_page, pages);
	return 0;
}
