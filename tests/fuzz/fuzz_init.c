/*
 * What init reads of servers that may be hostile: the gateway's connections (boot/pump.h),
 * progress words (boot/hang.h), refusals (boot/refusal.h), and all that the flight recorder copies
 * (boot/recorder.h). The input is cut into records of 8 bytes: one word somewhere in a record, a
 * log, a pass area or a ring, something a client does, or a look of init's. Objects have the size
 * of their layout, with a page behind that nobody may touch.
 */
#include "boot/hang.h"
#include "boot/pump.h"
#include "boot/recorder.h"
#include "boot/refusal.h"
#include "boot/supervise.h"
#include "ipc/record.h"
#include "ipc/recorder.h"
#include "tests/guarded.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	RECORD = 8,
	RECORDS_MAX = 64,
	CLIENTS = 3
};

static struct init in;
static struct node node;
static struct index ix;
static struct bells bells;
static int client[CLIENTS]; /* the clients' ends */

/* ---- In the place of boot/supervise.c ---- */

const struct log_object *supervise_log(const struct init *i, enum role role)
{
	for (unsigned k = OBJ_LOG_INIT; k <= OBJ_LOG_EXPERTS; k++) {
		if (graph_objects[k].writer == (uint32_t)role)
			return (const void *)((const char *)i->objects.map[k] +
					      sizeof(struct object_header));
	}
	return NULL;
}

void supervise_kill_for(struct init *i, enum role role, enum restart_cause cause)
{
	if (i != &in || role < ROLE_CLIENT || role > ROLE_EXPERTS || cause >= RESTART_CAUSES)
		abort();
}

bool supervise_alive(const struct init *i, enum role role)
{
	return i == &in && role < ROLE_COUNT;
}

/* ---- The node ---- */

static void open_node(void)
{
	struct err e = {0};

	signal(SIGPIPE, SIG_IGN);
	node.plan = (struct plan){.layers = 3,
				  .main_layers = 3,
				  .hidden = 16,
				  .vocab = 32,
				  .top_k = 2,
				  .experts = 8,
				  .rows = {2, 4},
				  .places = 2,
				  .queue = 8,
				  .context = 600,
				  .pages = 5,
				  .slots = 2,
				  .slots_per_piece = 2,
				  .workers = 1,
				  .recorder = 1,
				  .kv_page_bytes = 4096,
				  .slot_bytes = 4096,
				  .piece_bytes = 8192};
	if (layout_make(&in.layout, &node.plan, &e))
		abort();
	for (unsigned o = OBJ_ROUTER; o < OBJ_COUNT; o++)
		in.objects.map[o] = map_guarded(in.layout.bytes[o]);
	ix.config = (struct model_config){.hidden_size = 16,
					  .num_attention_heads = 2,
					  .kv_lora_rank = 8,
					  .qk_rope_head_dim = 4,
					  .qk_nope_head_dim = 4,
					  .v_head_dim = 4,
					  .n_routed_experts = 8,
					  .num_experts_per_tok = 2,
					  .moe_intermediate_size = 8,
					  .intermediate_size = 16,
					  .vocab_size = 32};
	in.node = &node;
	in.index = &ix;
	in.bells = &bells;
	in.log = (void *)((char *)in.objects.map[OBJ_LOG_INIT] + sizeof(struct object_header));
	in.epoll = epoll_create1(0);
}

static char *map_of(enum object o)
{
	return in.objects.map[o];
}

/* The first bytes of a connection's record, a server's record or a log: what an input can reach. */
struct place {
	char *base;
	size_t bytes;
	size_t record; /* size of the record: both copies are written, its version moves; 0: none */
};

static struct place place_of(const uint8_t *r)
{
	const struct layout *l = &in.layout;
	const struct place places[] = {
		{map_of(OBJ_ROUTER) + l->router_record, l->router_record_size,
		 l->router_record_size},
		{map_of(OBJ_MLA) + l->mla_record, sizeof(struct mla_record),
		 sizeof(struct mla_record)},
		{map_of(OBJ_EXPERTS) + l->experts_record, sizeof(struct experts_record),
		 sizeof(struct experts_record)},
		{map_of(OBJ_CLIENT) + l->client_record, sizeof(struct client_record),
		 sizeof(struct client_record)},
		{map_of(OBJ_CLIENT) + l->client_conn + r[1] % CLIENTS * l->client_conn_stride,
		 sizeof(struct conn_head) + sizeof(struct request), sizeof(struct conn_record)},
		{map_of(OBJ_ROUTER) + l->router_area[r[1] & 1][r[1] >> 1 & 1],
		 sizeof(struct pass_area) + 4 * sizeof(struct pass_row), 0},
		{map_of(OBJ_ROUTER) + l->router_ring[0], RING_ENTRIES * sizeof(struct msg), 0},
		{map_of(OBJ_MLA) + l->mla_ring, RING_ENTRIES * sizeof(struct msg), 0},
		{map_of(OBJ_EXPERTS) + l->experts_ring[0], RING_ENTRIES * sizeof(struct msg), 0},
		{(char *)(uintptr_t)&supervise_log(&in, (enum role)(ROLE_CLIENT + r[1] % 4))
			 ->progress,
		 sizeof(struct progress), 0},
		{(char *)(uintptr_t)&supervise_log(&in, (enum role)(ROLE_CLIENT + r[1] % 4))->spans,
		 8 + 4 * sizeof(struct span), 0},
	};

	return places[r[0] / 4 % (sizeof(places) / sizeof(places[0]))];
}

static void write_word(const uint8_t *r)
{
	static const uint64_t values[] = {0, 1, 2, 3, 65536, UINT32_MAX, 1ull << 40, UINT64_MAX};
	struct place p = place_of(r);
	size_t at = (size_t)(r[2] | (r[7] & 0xf) << 8) % (p.bytes / 4) * 4;
	uint64_t v = r[3] < 200 ? r[3] % 32 : values[r[3] % 8] + (uint64_t)(int8_t)r[4];
	size_t n = p.bytes - at >= 8 && !(r[3] & 1) ? 8 : 4;
	_Atomic uint64_t *version;

	if (!p.record) {
		memcpy(p.base + at, &v, n);
		return;
	}
	for (unsigned copy = 0; copy < 2; copy++)
		memcpy(p.base + sizeof(struct record_word) + copy * record_stride(p.record) + at,
		       &v, n);
	version = &((struct record_word *)(void *)p.base)->version;
	atomic_store(version, atomic_load(version) + 2);
}

/* An entry names no more than it has room for. */
static void check_entry(void)
{
	const struct recorder *r =
		(const void *)(map_of(OBJ_RECORDER) + sizeof(struct object_header));
	uint64_t head = atomic_load(&r->head);
	const struct recorder_entry *e = &r->entry[(head - 1) % RECORDER_ENTRIES];

	if (e->rows > RECORDER_ROWS || e->sequences > RECORDER_SEQUENCES ||
	    e->tokens > RECORDER_TOKENS || e->hashed > RECORDER_HASHED)
		abort();
}

static void act(const uint8_t *r)
{
	const siginfo_t si = {.si_code = CLD_KILLED};
	static char bytes[70000];
	unsigned c = r[1] % CLIENTS;

	switch (r[2] % 8) {
	case 0:
		if (client[c] >= 0 && send(client[c], bytes, 1 + r[3] * 256u, MSG_DONTWAIT) < 0)
			return;
		break;
	case 1:
		while (client[c] >= 0 && recv(client[c], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
		break;
	case 2:
		if (client[c] >= 0) {
			shutdown(client[c], SHUT_WR);
			pump_event(&in.pump, c, EPOLLIN);
		}
		break;
	case 3:
		recorder_take(&in, (enum role)(ROLE_CLIENT + r[3] % 5), &si);
		check_entry();
		break;
	case 4:
		in.hang_ns = 0;
		in.working = r[3] & 1;
		hang_tick(&in);
		break;
	case 5:
		refusal_tick(&in);
		break;
	default:
		for (unsigned i = 0; i < CLIENTS; i++)
			pump_event(&in.pump, i, EPOLLIN);
		if (pump_scan(&in.pump, r[3] & 1) < 0) /* the gateway is killed for that */
			in.server[ROLE_CLIENT].killed_for = 0;
		pump_busy(&in.pump);
		break;
	}
}

/* As at the beginning, for what place_of reaches. */
static void reset(void)
{
	for (unsigned i = 0; i < 256 * 11; i++) {
		uint8_t r[RECORD] = {(uint8_t)(i % 11 * 4), (uint8_t)(i / 11)};
		struct place p = place_of(r);

		if (i / 11 < 4)
			memset(p.base, 0, p.record ? record_bytes(p.record) : p.bytes);
	}
	memset(in.hang, 0, sizeof(in.hang));
	memset(in.refusals, 0, sizeof(in.refusals));
	memset(map_of(OBJ_CONNS) + in.layout.conns_in, 0, CONNS * sizeof(struct conn_in));
	pump_init(&in.pump, &in.layout, map_of(OBJ_CONNS), map_of(OBJ_CLIENT),
		  &bells.bell[ROLE_CLIENT][0], in.log, in.epoll);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!in.node)
		open_node();
	reset();
	for (unsigned i = 0; i < CLIENTS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) ||
		    pump_take_socket(&in.pump, pair[0]) != (int)i)
			abort();
		client[i] = pair[1];
	}
	for (size_t i = 0; i + RECORD <= len && i < RECORDS_MAX * RECORD; i += RECORD) {
		if (data[i] & 1)
			act(data + i);
		else
			write_word(data + i);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		pump_gone(&in.pump, i);
		close(client[i]);
	}
	return 0;
}
