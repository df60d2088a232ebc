/*
 * Offsets and sizes of every object; see layout.h. A cursor that saturates keeps each sum checked
 * in one place.
 */
#include "ipc/layout.h"

#include "ipc/recorder.h"

#include "ipc/record.h"

#include <errno.h>
#include <string.h>

struct cursor {
	uint64_t at;
	bool overflow;
};

static struct cursor cursor_start(void)
{
	return (struct cursor){.at = sizeof(struct object_header), .overflow = false};
}

/* Takes a * b * c bytes, beginning at a multiple of 64; returns where. */
static uint64_t take(struct cursor *c, uint64_t a, uint64_t b, uint64_t size)
{
	uint64_t bytes, begin = (c->at + 63) & ~63ull;

	if (__builtin_mul_overflow(a, b, &bytes) || __builtin_mul_overflow(bytes, size, &bytes) ||
	    __builtin_add_overflow(begin, bytes, &c->at) || c->at >> 62)
		c->overflow = true;
	return begin;
}

static uint64_t finish(struct cursor *c, struct layout *l, enum object object)
{
	l->bytes[object] = (c->at + 4095) & ~4095ull;
	return c->overflow;
}

static uint64_t layout_router(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start(), rec = {0};

	take(&rec, 1, 1, sizeof(struct router_head));
	l->seq_off = take(&rec, CONN_PLACES, 1, sizeof(struct router_seq));
	l->table_off = take(&rec, p->places + 1ull, l->pages_per_seq, sizeof(uint32_t));
	l->page_off = take(&rec, p->pages, 1, sizeof(struct router_page));
	l->router_record_size = rec.at;
	l->router_record = take(&c, 1, 1, record_bytes(rec.at));
	l->router_ring[0] = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	l->router_ring[1] = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	l->router_ring[2] = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	for (unsigned b = 0; b < BATCHES; b++) {
		struct cursor a = {.at = sizeof(struct pass_area) +
					 p->rows[b] * sizeof(struct pass_row)};

		l->area_copies[b] = take(&a, p->places + 1ull, 1, sizeof(struct pass_copy));
		l->area_pages[b] = take(&a, l->page_list_max, 1, sizeof(uint32_t));
		for (unsigned side = 0; side < 2; side++)
			l->router_area[b][side] = take(&c, 1, 1, a.at);
		l->router_rows[b] = take(&c, p->rows[b], l->row_stride, sizeof(float));
		l->router_final[b] = take(&c, p->rows[b], l->row_stride, sizeof(float));
		l->router_expert[b] =
			take(&c, (uint64_t)p->layers * p->rows[b], p->top_k, sizeof(uint16_t));
		l->router_weight[b] =
			take(&c, (uint64_t)p->layers * p->rows[b], p->top_k, sizeof(float));
		l->router_error[b] = take(&c, p->rows[b], 1, sizeof(uint64_t));
		rec.overflow |= a.overflow;
	}
	for (unsigned b = 0; b < BATCHES; b++) {
		for (unsigned side = 0; side < 2; side++)
			l->router_list[b][side] = take(&c, 1, 1, p->list_bytes[b]);
	}
	l->router_page_ids = take(&c, p->pages, 256, sizeof(uint32_t));
	l->router_tokens = take(&c, CONN_PLACES, p->context, sizeof(struct token_entry));
	return finish(&c, l, OBJ_ROUTER) | rec.overflow;
}

static uint64_t layout_mla(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start();

	l->mla_record = take(&c, 1, 1, record_bytes(sizeof(struct mla_record)));
	l->mla_ring = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	for (unsigned b = 0; b < BATCHES; b++) {
		l->mla_rows[b] = take(&c, p->rows[b], l->row_stride, sizeof(float));
		l->mla_x[b] = take(&c, p->rows[b], l->x_stride, sizeof(uint16_t));
		l->mla_error[b] = take(&c, p->rows[b], 1, sizeof(uint64_t));
	}
	return finish(&c, l, OBJ_MLA);
}

static uint64_t layout_experts(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start();

	l->experts_record = take(&c, 1, 1, record_bytes(sizeof(struct experts_record)));
	for (unsigned i = 0; i < 3; i++)
		l->experts_ring[i] = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	for (unsigned b = 0; b < BATCHES; b++) {
		l->experts_rows[b] = take(&c, p->rows[b], l->row_stride, sizeof(float));
		for (unsigned side = 0; side < 2; side++)
			l->experts_acc[b][side] =
				take(&c, p->rows[b], l->row_stride, sizeof(float));
		l->experts_error[b] = take(&c, p->rows[b], 1, sizeof(uint64_t));
	}
	for (unsigned b = 0; p->gpu && b < BATCHES; b++) {
		l->experts_load[b] = take(&c, 1, 1, LOAD_BYTES);
		l->experts_result[b] = take(&c, plan_results(p, b), l->row_stride, sizeof(float));
	}
	l->experts_slots = take(&c, p->slots, 1, sizeof(uint64_t));
	l->experts_policy = take(&c, 1, 1, sizeof(struct policy_head));
	l->experts_visits = take(&c, p->layers, 1, sizeof(uint32_t));
	l->experts_known = take(&c, p->layers, p->experts, sizeof(struct policy_expert));
	return finish(&c, l, OBJ_EXPERTS);
}

static uint64_t layout_cuda(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start();

	l->cuda_record = take(&c, 1, 1, record_bytes(sizeof(struct cuda_record)));
	l->cuda_log = take(&c, 1, 1, sizeof(struct log_object));
	for (unsigned i = 0; i < 3; i++)
		l->cuda_ring[i] = take(&c, BATCHES, RING_ENTRIES, sizeof(struct msg));
	for (unsigned b = 0; p->gpu && b < BATCHES; b++) {
		struct cursor s = {.at = store_copies(p->rows[b])};

		take(&s, p->places + 1ull, 1, sizeof(struct pass_copy));
		for (unsigned side = 0; side < 2; side++) {
			l->cuda_out[b][side] = take(&c, 1, 1, p->out_bytes[b] + 256);
			l->cuda_store[b][side] = take(&c, 1, 1, s.at);
		}
		s = (struct cursor){.at = missing_rows(p->experts, p->rows[b], p->top_k)};
		take(&s, p->rows[b], l->x_stride, sizeof(uint16_t));
		l->cuda_missing[b] = take(&c, 1, 1, s.at);
	}
	return finish(&c, l, OBJ_CUDA);
}

static uint64_t layout_clients(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start(), in = cursor_start();
	uint64_t bad;

	l->client_record_size = sizeof(struct client_record);
	l->client_record = take(&c, 1, 1, record_bytes(sizeof(struct client_record)));
	l->client_ring = take(&c, 1, RING_ENTRIES_ANNOUNCE, sizeof(struct msg));
	l->client_conn_stride = record_bytes(sizeof(struct conn_record));
	l->client_conn = take(&c, CONN_PLACES, 1, l->client_conn_stride);
	l->client_tx = take(&c, CONNS, 1, CONN_RING);
	l->client_prompt = take(&c, CONN_PLACES, p->context, sizeof(uint32_t));
	l->client_body = take(&c, CLIENT_BODIES, 1, CLIENT_BODY);
	l->client_stop = take(&c, CONNS, 1, CLIENT_STOP);
	bad = finish(&c, l, OBJ_CLIENT);
	l->conns_in = take(&in, CONNS, 1, sizeof(struct conn_in));
	l->conns_rx = take(&in, CONNS, 1, CONN_RING);
	return bad | finish(&in, l, OBJ_CONNS);
}

static uint64_t layout_plain(struct layout *l, const struct plan *p)
{
	struct cursor c = cursor_start();
	uint64_t bad = 0;
	uint64_t pieces = p->slots_per_piece
				  ? (p->slots + p->slots_per_piece - 1ull) / p->slots_per_piece
				  : 0;

	if (p->score) {
		for (unsigned i = 0; i < 2; i++)
			l->logits[i] = take(&c, p->rows[BATCH_PREFILL], p->vocab, sizeof(float));
	}
	bad |= finish(&c, l, OBJ_LOGITS);
	c = cursor_start();
	take(&c, 1, 1, sizeof(struct trace_ring));
	l->trace_stride = trace_record_bytes(p->moe_layers, p->top_k);
	l->trace_rows = take(&c, p->trace ? TRACE_RECORDS : 0, 1, l->trace_stride);
	bad |= finish(&c, l, OBJ_TRACE);
	c = cursor_start();
	take(&c, p->recorder, 1, sizeof(struct recorder));
	bad |= finish(&c, l, OBJ_RECORDER);
	c = (struct cursor){0};
	take(&c, pieces, 1, p->piece_bytes);
	bad |= finish(&c, l, OBJ_SLOTS);
	l->kv_pages = 4096;
	c = (struct cursor){.at = l->kv_pages};
	take(&c, p->pages, 1, p->kv_page_bytes);
	bad |= finish(&c, l, OBJ_KV);
	c = cursor_start();
	take(&c, 1, 1, p->index_bytes);
	bad |= finish(&c, l, OBJ_INDEX);
	c = cursor_start();
	take(&c, 1, 1, p->resident_bytes);
	bad |= finish(&c, l, OBJ_RESIDENT);
	return bad;
}

int layout_make(struct layout *l, const struct plan *p, struct err *e)
{
	uint64_t bad;

	memset(l, 0, sizeof(*l));
	l->row_stride = (p->hidden + 127u) & ~127u;
	l->x_stride = (p->hidden + 127u) & ~127u;
	l->pages_per_seq = (uint32_t)((p->context + 255ull) / 256);
	bad = __builtin_mul_overflow(p->places + 1ull, l->pages_per_seq, &l->page_list_max);
	bad |= layout_router(l, p) | layout_mla(l, p) | layout_experts(l, p) | layout_cuda(l, p) |
	       layout_clients(l, p) | layout_plain(l, p);
	l->bytes[OBJ_NODE] = (sizeof(struct node) + 4095) & ~4095ull;
	l->bytes[OBJ_BELLS] =
		(sizeof(struct object_header) + sizeof(struct bells) + 4095) & ~4095ull;
	for (unsigned o = OBJ_LOG_INIT; o <= OBJ_LOG_EXPERTS; o++)
		l->bytes[o] = (sizeof(struct object_header) + sizeof(struct log_object) + 4095) &
			      ~4095ull;
	return bad ? err_set(e, -EOVERFLOW, "plan: the sizes of this model do not fit in 62 bits")
		   : 0;
}
