/*
 * Ring messages and what they name against arbitrary bytes: a message is taken from a ring as a
 * server takes it, and if it passes, mla's and experts' preparations read a pass area, page lists
 * and routes made of the rest of the input. Objects have exactly the size of their layout, so that
 * any step outside is seen.
 */
#include "ipc/attach.h"
#include "runtime/experts/experts.h"
#include "runtime/mla/mla.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	LAYERS = 3,
	EXPERTS = 8,
	TOP_K = 2
};

static struct plan plan = {.layers = LAYERS,
			   .main_layers = LAYERS,
			   .hidden = 16,
			   .vocab = 32,
			   .top_k = TOP_K,
			   .experts = EXPERTS,
			   .rows = {2, 4},
			   .places = 2,
			   .queue = 8,
			   .context = 600,
			   .pages = 5,
			   .slots = 2,
			   .slots_per_piece = 2,
			   .workers = 1,
			   .kv_page_bytes = 4096,
			   .slot_bytes = 4096,
			   .piece_bytes = 8192};
static struct model_config config = {.num_hidden_layers = LAYERS,
				     .hidden_size = 16,
				     .n_routed_experts = EXPERTS,
				     .num_experts_per_tok = TOP_K,
				     .kv_lora_rank = 8,
				     .qk_rope_head_dim = 4};

/* One server's view: every object it reads is a block of its own. */
static void make_server(struct server *s)
{
	const enum object shared[] = {OBJ_ROUTER, OBJ_MLA, OBJ_EXPERTS, OBJ_KV};
	struct err e = {0};

	s->at.plan = &plan;
	if (layout_make(&s->at.layout, &plan, &e))
		abort();
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		s->at.bytes[shared[i]] = s->at.layout.bytes[shared[i]];
		s->at.object[shared[i]] = aligned_alloc(4096, s->at.bytes[shared[i]]);
		memset(s->at.object[shared[i]], 0, s->at.bytes[shared[i]]);
	}
	s->at.bounds = (struct msg_bounds){.layers = LAYERS, .rows = {2, 4}, .conns = CONN_PLACES};
	s->model.config = &config;
	for (unsigned l = 1; l < LAYERS; l++)
		s->model.layer[l].is_moe = true;
}

/* Copies up to `len` bytes of the input to `to`. */
static void fill(void *to, size_t len, const uint8_t **data, size_t *size)
{
	size_t n = *size < len ? *size : len;

	if (n)
		memcpy(to, *data, n);
	*data += n;
	*size -= n;
}

static void check_mla(struct mla *m, const struct msg *msg)
{
	for (int from_router = 0; from_router < 2; from_router++) {
		struct mla_step st = {.m = m, .msg = *msg};
		struct err e = {0};

		if (mla_prepare(&st, from_router, &e) && !e.text[0])
			abort();
	}
}

static void check_experts(struct experts *x, const struct msg *msg)
{
	struct step st = {.x = x, .msg = *msg};
	struct err e = {0};

	if (step_prepare(&st, &e) == 0) {
		for (uint32_t i = 0; i < st.n_active; i++) {
			if (st.sc->active[i] >= EXPERTS)
				abort();
		}
	} else if (!e.text[0]) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mla m;
	static struct experts x;
	static bool made;
	struct err e = {0};
	struct msg ring[RING_ENTRIES] = {{0}}, msg;
	uint64_t head = 0, tail = 0;
	uint32_t kind, batch;

	if (!made) {
		make_server(&m.s);
		m.row = calloc(4, sizeof(*m.row));
		m.error = calloc(4, sizeof(*m.error));
		m.pages = calloc(m.s.at.layout.page_list_max, sizeof(*m.pages));
		make_server(&x.s);
		if (!m.row || !m.error || !m.pages || !step_scratch_open(&x.scratch[0], &x.s, 0) ||
		    !step_scratch_open(&x.scratch[1], &x.s, 1))
			abort();
		made = true;
	}
	fill(&head, 1, &data, &size);
	fill(&tail, 1, &data, &size);
	fill(ring, sizeof(ring[0]), &data, &size);
	if (ring_peek(ring, RING_ENTRIES, head, tail, &msg) != 1)
		msg = ring[0];
	kind = msg.kind % 7;
	batch = msg.batch & 1;
	if (msg_check(&msg, (enum msg_kind)kind, batch, &m.s.at.bounds, &e)) {
		if (!e.text[0])
			abort();
		return 0;
	}
	if (kind != MSG_ATTEND && kind != MSG_FEED)
		return 0;
	{
		struct server *s = kind == MSG_ATTEND ? &m.s : &x.s;
		const struct layout *l = &s->at.layout;
		char *router = s->at.object[OBJ_ROUTER];
		uint64_t pass = msg_pass(msg.seq, LAYERS);

		fill(router + l->router_area[batch][pass & 1],
		     l->area_pages[batch] + l->page_list_max * 4, &data, &size);
		fill(router + l->router_expert[batch],
		     (size_t)LAYERS * plan.rows[batch] * TOP_K * 2, &data, &size);
	}
	if (kind == MSG_ATTEND)
		check_mla(&m, &msg);
	else
		check_experts(&x, &msg);
	return 0;
}
