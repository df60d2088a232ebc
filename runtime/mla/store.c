/*
 * Cached rows of passes that ran as command lists: `cuda` has left them in its object, mla brings
 * them to their pages, in the order of the passes and before it attends to anything later. Doing it
 * again writes the same bytes.
 */
#include "runtime/mla/mla.h"

#include <errno.h>
#include <string.h>

struct store {
	struct store_head head; /* copied, then checked */
	const struct store_row *row;
	const struct pass_copy *copy;
	const char *cached; /* [layers][rows of the batch][kv_row] */
};

static int open_store(const struct mla *m, const struct msg *msg, struct store *s, struct err *e)
{
	const struct attach *a = &m->s.at;
	const struct plan *p = a->plan;
	uint64_t side = msg_pass(msg->seq, p->layers) & 1;
	const char *base = attach_at(a, OBJ_CUDA, a->layout.cuda_store[msg->batch][side]);
	struct list_out out;

	memcpy(&s->head, base, sizeof(s->head));
	s->row = (const void *)(base + sizeof(s->head));
	s->copy = (const void *)(base + store_copies(p->rows[msg->batch]));
	list_out(&out, m->s.model.config, a->layout.cuda_out[msg->batch][side], p->rows[msg->batch],
		 plan_logit_rows(p));
	s->cached = attach_at(a, OBJ_CUDA, out.cached);
	if (s->head.seq != msg->seq || s->head.rows > p->rows[msg->batch] ||
	    s->head.copies > p->places + 1 || s->head.first_layer > s->head.last_layer ||
	    s->head.last_layer >= p->layers)
		return err_set(e, -EBADMSG, "cached rows of another pass");
	return 0;
}

/* A page's rows of one layer. */
static char *layer_rows(const struct mla *m, uint32_t page, uint32_t layer)
{
	size_t row = config_kv_row(m->s.model.config) * sizeof(uint16_t);

	return (char *)mla_page(m, page) + layer * KV_PAGE_ROWS * row;
}

static int copy_pages(const struct mla *m, const struct store *s, struct err *e)
{
	const struct plan *p = m->s.at.plan;
	size_t row = config_kv_row(m->s.model.config) * sizeof(uint16_t);

	for (uint32_t i = 0; i < s->head.copies; i++) {
		struct pass_copy c = s->copy[i];

		if (c.from >= p->pages || c.to >= p->pages || c.from == c.to ||
		    c.rows > KV_PAGE_ROWS)
			return err_set(e, -EBADMSG, "page copy %u: %u to %u", i, c.from, c.to);
		for (uint32_t l = 0; l < p->layers; l++)
			memcpy(layer_rows(m, c.to, l), layer_rows(m, c.from, l), c.rows * row);
	}
	return 0;
}

static int copy_rows(const struct mla *m, const struct store *s, uint32_t batch, struct err *e)
{
	const struct plan *p = m->s.at.plan;
	size_t row = config_kv_row(m->s.model.config) * sizeof(uint16_t);

	for (uint32_t r = 0; r < s->head.rows; r++) {
		struct store_row x = s->row[r];
		uint32_t at = x.position % KV_PAGE_ROWS;

		if (x.page >= p->pages)
			return err_set(e, -EBADMSG, "row %u: page %u of %u", r, x.page, p->pages);
		for (uint32_t l = s->head.first_layer; !x.skip && l <= s->head.last_layer; l++) {
			char *to = layer_rows(m, x.page, l);

			if (x.clear)
				memset(to, 0, at * row);
			memcpy(to + at * row, s->cached + ((size_t)l * p->rows[batch] + r) * row,
			       row);
		}
	}
	return 0;
}

bool store_serve(struct mla *m, uint32_t batch)
{
	struct mla_record *d = m->record.draft;
	struct msg msg;
	struct err e = {0};
	struct store s;
	int rc;

	if (!m->s.at.plan->gpu)
		return false;
	rc = server_take(&m->s, &m->store[batch], d->store_head[batch], MSG_STORE, batch, &msg, &e);
	if (rc == 0)
		return false;
	record_touch(&m->record, d, sizeof(*d));
	if (rc == -EPROTO) {
		server_refuse_record(&m->s, &d->refused, ROLE_CUDA);
		record_commit(&m->record);
		return true;
	}
	msg.batch = batch;
	if (rc < 0 || open_store(m, &msg, &s, &e) || copy_pages(m, &s, &e) ||
	    copy_rows(m, &s, batch, &e))
		server_refuse(&m->s, &d->refused, &msg, batch, ROLE_CUDA);
	d->store_head[batch]++;
	record_commit(&m->record);
	attach_ring(&m->s.at, ROLE_CUDA);
	return true;
}
