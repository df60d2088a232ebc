/*
 * The router's ends against a hostile gateway, mla and experts: a real router over a small random
 * model, its neighbours' objects in this process's memory. The input is cut into records of 8
 * bytes: a request, an honest step of the circle, one word somewhere in what a neighbour writes, or
 * the router's death. Whatever comes, the router serves on and asserts nothing.
 */
#include "ipc/sandbox.h"
#include "model/store/files.h"
#include "model/store/load.h"
#include "model/store/survey.h"
#include "runtime/cli/cli.h"
#include "runtime/router/router.h"
#include "tests/guarded.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	RECORD = 8,
	RECORDS_MAX = 64,
	CLIENTS = 4,
	TURNS = 200, /* without a record between them: a router that never rests has gone mad */
	PAGE = 4096
};

static struct plan plan;
static struct layout layout;
static struct router *router, fresh;
static struct mla_record *mla; /* committed copies: nobody reads while we write */
static struct experts_record *experts;

/* ---- A node ---- */

static void object_make(enum object o, const void *bytes, uint64_t len, uint64_t size)
{
	struct object_header h = {.magic = OBJECT_MAGIC,
				  .version = OBJECT_VERSION,
				  .object = (uint32_t)o,
				  .bytes = size};
	int fd = memfd_create("object", 0);

	if (fd < 0 || ftruncate(fd, (off_t)size) || pwrite(fd, &h, sizeof(h), 0) != sizeof(h) ||
	    (len && pwrite(fd, bytes, len, sizeof(h)) != (ssize_t)len) ||
	    dup2(fd, FD_OBJECT + (int)o) < 0)
		abort();
	close(fd);
}

static void make_plan(const struct index *ix)
{
	const struct model_config *c = &ix->config;

	plan = (struct plan){.layers = config_layers(c),
			     .main_layers = c->num_hidden_layers,
			     .hidden = c->hidden_size,
			     .vocab = c->vocab_size,
			     .top_k = c->num_experts_per_tok,
			     .experts = c->n_routed_experts,
			     .rows = {4, 16},
			     .places = 2,
			     .queue = 2,
			     .context = 600,
			     .pages = 5,
			     .slots = 2,
			     .slots_per_piece = 2,
			     .workers = 1,
			     .isa = CPU_SCALAR,
			     .mtp = MTP_ON,
			     .first_moe_layer = 1,
			     .moe_layers = c->num_hidden_layers - 1,
			     .kv_page_bytes = config_kv_page_bytes(c),
			     .slot_bytes = 4096,
			     .piece_bytes = 8192,
			     .index_bytes = ix->bytes,
			     .resident_bytes = ix->resident_bytes,
			     .body_bytes = BODY_LEAST,
			     .body_pool = CLIENT_BODIES * (BODY_LEAST + BODY_FRAME)};
}

/* A checkpoint of two layers and MTP's, surveyed and loaded into objects; its files are gone. */
static void make_model(void)
{
	static char folder[] = "/tmp/fuzz_router.XXXXXX", model[sizeof(folder) + 8], command[64];
	static char word[][10] = {"synth", "v3-tiny",  "--layers", "2",       "--experts",
				  "16",    "--hidden", "128",      "--vocab", "300"};
	char *argv[sizeof(word) / sizeof(word[0]) + 2] = {NULL};
	int argc = 0;
	size_t cap = 1 << 20, used = 0;
	char *map = calloc(1, cap);
	struct store_files files;
	struct err e = {0};
	void *resident;

	if (!mkdtemp(folder))
		abort();
	for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++)
		argv[argc++] = word[i];
	argv[argc++] = model;
	snprintf(model, sizeof(model), "%s/model", folder);
	if (cmd_synth(argc, argv, &e) || store_files_open(&files, model, &e) ||
	    survey(&files, map, cap, &used, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	make_plan((const struct index *)(void *)map);
	resident = aligned_alloc(PAGE, (plan.resident_bytes + PAGE - 1) / PAGE * PAGE);
	memset(resident, 0, plan.resident_bytes);
	if (load_resident((const struct index *)(void *)map, &files, resident, &e))
		abort();
	store_files_close(&files);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	if (system(command))
		abort();
	if (layout_make(&layout, &plan, &e))
		abort();
	object_make(OBJ_INDEX, map, used, sizeof(struct object_header) + used);
	object_make(OBJ_RESIDENT, resident, plan.resident_bytes, layout.bytes[OBJ_RESIDENT]);
	free(map);
	free(resident);
}

static void open_router(void)
{
	const enum object shared[] = {OBJ_ROUTER, OBJ_MLA, OBJ_EXPERTS, OBJ_CLIENT};
	static struct node node;
	struct err e = {0};

	make_model();
	node.plan = plan;
	node.sandbox_lacks = UINT32_MAX; /* the fuzzer writes files */
	node.generation[ROLE_ROUTER] = 1;
	for (unsigned o = 0; o < OBJ_COUNT; o++) {
		if (o != OBJ_INDEX && o != OBJ_RESIDENT &&
		    graph_access(ROLE_ROUTER, (enum object)o) != ACCESS_NONE)
			object_make((enum object)o, NULL, 0, layout.bytes[o]);
	}
	if (pwrite(FD_OBJECT + OBJ_NODE, (char *)&node + sizeof(node.header),
		   sizeof(node) - sizeof(node.header),
		   sizeof(node.header)) != (ssize_t)(sizeof(node) - sizeof(node.header)))
		abort();
	router = router_open(NULL, &e);
	if (!router) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	for (unsigned i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
		router->s.at.object[shared[i]] = map_guarded(layout.bytes[shared[i]]);
	fresh = *router;
}

static char *at(enum object o, uint64_t off)
{
	return attach_at(&router->s.at, o, off);
}

static void *copy_of(char *base, size_t size)
{
	const struct record_word *w = (const void *)base;

	return base + sizeof(*w) + (atomic_load(&w->version) & 1) * record_stride(size);
}

/* A successor: it has its predecessor's object and nothing else. */
static void take_over(void)
{
	*router = fresh;
	memset(router->refs, 0, plan.pages * sizeof(*router->refs));
	memset(router->pay.plain, 0, (plan.places + 1) * sizeof(*router->pay.plain));
	router_take_over(router);
}

static void reset(void)
{
	memset(at(OBJ_ROUTER, 0), 0, layout.router_tokens);
	memset(at(OBJ_MLA, layout.mla_record), 0, record_bytes(sizeof(*mla)));
	memset(at(OBJ_EXPERTS, layout.experts_record), 0, record_bytes(sizeof(*experts)));
	memset(at(OBJ_CLIENT, layout.client_record), 0, record_bytes(sizeof(struct client_record)));
	for (unsigned i = 0; i < CONN_PLACES; i++)
		memset(at(OBJ_CLIENT, layout.client_conn + i * layout.client_conn_stride), 0,
		       layout.client_conn_stride);
	memset(at(OBJ_CLIENT, layout.client_prompt), 0, CLIENTS * sizeof(uint32_t) * plan.context);
	memset(at(OBJ_MLA, layout.mla_error[0]), 0, plan.rows[0] * 8);
	memset(at(OBJ_MLA, layout.mla_error[1]), 0, plan.rows[1] * 8);
	memset(at(OBJ_EXPERTS, layout.experts_error[0]), 0, plan.rows[0] * 8);
	memset(at(OBJ_EXPERTS, layout.experts_error[1]), 0, plan.rows[1] * 8);
	mla = copy_of(at(OBJ_MLA, layout.mla_record), sizeof(*mla));
	experts = copy_of(at(OBJ_EXPERTS, layout.experts_record), sizeof(*experts));
	take_over();
}

/* ---- Neighbours as they should be ---- */

static void announce(uint32_t conn)
{
	struct client_record *c = copy_of(at(OBJ_CLIENT, layout.client_record), sizeof(*c));
	struct msg m = {.kind = MSG_ANNOUNCE, .row0 = conn, .rows = 1};

	memcpy(at(OBJ_CLIENT,
		  layout.client_ring + c->announce_tail % RING_ENTRIES_ANNOUNCE * sizeof(m)),
	       &m, sizeof(m));
	c->announce_tail++;
}

static struct request *request_of(uint32_t conn)
{
	char *base = at(OBJ_CLIENT, layout.client_conn + conn * layout.client_conn_stride);
	struct conn_record *c = copy_of(base, sizeof(*c));

	return &c->request;
}

static void ask(const uint8_t *r, uint32_t conn)
{
	uint32_t *prompt = (uint32_t *)(void *)at(OBJ_CLIENT, layout.client_prompt) +
			   (size_t)conn * plan.context;
	struct request *q = request_of(conn);

	*q = (struct request){.number = q->number + 1,
			      .live = r[2] != 255,
			      .n_prompt = conn == CONN_HEALTH ? 1 : 1 + r[3] * 2u,
			      .max_tokens = 1 + r[4] % 32,
			      .flags = conn == CONN_HEALTH ? REQUEST_HEALTH : 0,
			      .temperature = r[5] & 1,
			      .top_p = 1,
			      .seed = r[6]};
	for (uint32_t i = 0; i < q->n_prompt; i++)
		prompt[i] = (r[2] + i * (r[5] & 3)) % plan.vocab;
	announce(conn);
}

/* mla answers what waits for it, with rows of ones. */
static void mla_put(struct msg m, uint32_t b)
{
	uint16_t *x = (uint16_t *)(void *)at(OBJ_MLA, layout.mla_x[b]);

	for (size_t i = 0; i < (size_t)m.rows * layout.x_stride; i++)
		x[i] = (uint16_t)(0x3f80 + i % 3);
	m.kind = MSG_ROUTE;
	memcpy(at(OBJ_MLA,
		  layout.mla_ring +
			  (b * RING_ENTRIES + mla->route_tail[b] % RING_ENTRIES) * sizeof(m)),
	       &m, sizeof(m));
	mla->route_tail[b]++;
	mla->pass[b] = msg_pass(m.seq, plan.layers);
}

static void experts_put(struct msg m, uint32_t b)
{
	struct pass_area area;
	uint64_t pass = msg_pass(m.seq, plan.layers);
	float *h = (float *)(void *)at(OBJ_EXPERTS, layout.experts_rows[b]);

	memcpy(&area, at(OBJ_ROUTER, layout.router_area[b][pass & 1]), sizeof(area));
	experts->pass[b] = pass;
	if (m.layer < area.last_layer) {
		m.layer++;
		m.seq++;
		mla_put(m, b);
		return;
	}
	for (size_t i = 0; i < (size_t)m.rows * layout.row_stride; i++)
		h[i] = (float)(i % 7) - 3;
	m.kind = MSG_FINISH;
	m.seq = msg_seq(pass, plan.layers, plan.layers + 1);
	memcpy(at(OBJ_EXPERTS,
		  layout.experts_ring[1] +
			  (b * RING_ENTRIES + experts->finish_tail[b] % RING_ENTRIES) * sizeof(m)),
	       &m, sizeof(m));
	experts->finish_tail[b]++;
}

static void circle(void)
{
	const struct router_head *h = router->record.draft;

	for (uint32_t b = 0; b < BATCHES; b++) {
		for (uint32_t ring = 0; ring < 2; ring++) {
			uint64_t *head = ring ? &experts->feed_head[b] : &mla->attend0_head[b];
			struct msg m;

			if (h->ring_tail[ring][b] - *head - 1 >= RING_ENTRIES)
				continue;
			memcpy(&m,
			       at(OBJ_ROUTER,
				  layout.router_ring[ring] +
					  (b * RING_ENTRIES + *head % RING_ENTRIES) * sizeof(m)),
			       sizeof(m));
			++*head;
			if (msg_pass(m.seq, plan.layers) < h->floor[b])
				continue;
			if (ring)
				experts_put(m, b);
			else
				mla_put(m, b);
		}
	}
}

/* ---- And as they should not ---- */

static void write_word(const uint8_t *r, uint32_t conn)
{
	static const uint64_t values[] = {0, 1, 2, 3, 0x7fc0, UINT32_MAX, 1ull << 40, UINT64_MAX};
	uint32_t b = r[1] >> 2 & 1;
	const struct {
		char *base;
		size_t bytes;
	} places[] = {
		{(char *)mla, sizeof(*mla)},
		{(char *)experts, sizeof(*experts)},
		{copy_of(at(OBJ_CLIENT, layout.client_record), sizeof(struct client_record)),
		 sizeof(struct client_record)},
		{(char *)request_of(conn), sizeof(struct request)},
		{at(OBJ_CLIENT, layout.client_ring), 4 * sizeof(struct msg)},
		{at(OBJ_CLIENT, layout.client_prompt) + conn % CLIENTS * 4ull * plan.context, 1024},
		{at(OBJ_MLA, layout.mla_ring) + b * RING_ENTRIES * sizeof(struct msg),
		 RING_ENTRIES * sizeof(struct msg)},
		{at(OBJ_EXPERTS, layout.experts_ring[1]) + b * RING_ENTRIES * sizeof(struct msg),
		 RING_ENTRIES * sizeof(struct msg)},
		{at(OBJ_MLA, layout.mla_error[b]), 8ull * plan.rows[b]},
		{at(OBJ_EXPERTS, layout.experts_error[b]), 8ull * plan.rows[b]},
		{at(OBJ_MLA, layout.mla_x[b]), 2ull * layout.x_stride * plan.rows[b]},
		{at(OBJ_EXPERTS, layout.experts_rows[b]), 4ull * layout.row_stride * plan.rows[b]},
	};
	size_t k = r[2] % (sizeof(places) / sizeof(places[0]));
	size_t word = (size_t)(r[3] | (r[7] & 0x1f) << 8) % (places[k].bytes / 4) * 4;
	uint64_t v = r[4] < 200 ? r[4] % 32 : values[r[4] % 8] + (uint64_t)(int8_t)r[5];

	memcpy(places[k].base + word, &v, r[6] & 1 && places[k].bytes - word >= 8 ? 8 : 4);
	if (r[6] & 2)
		announce(conn);
}

static void serve(void)
{
	for (unsigned i = 0; router_turn(router); i++) {
		if (i == TURNS)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!router)
		open_router();
	reset();
	for (size_t i = 0; i + RECORD <= len && i < RECORDS_MAX * RECORD; i += RECORD) {
		const uint8_t *r = data + i;
		uint32_t conn = r[1] & 0x80 ? CONN_HEALTH : r[1] % CLIENTS;

		if (r[0] % 8 == 0)
			ask(r, conn);
		else if (r[0] % 8 < 4)
			write_word(r, conn);
		else if (r[0] % 8 == 4)
			take_over();
		else
			circle();
		serve();
	}
	return 0;
}
