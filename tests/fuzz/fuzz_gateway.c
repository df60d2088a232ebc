/*
 * The gateway's ends against hostile neighbours: the input is cut into records of 8 bytes, each
 * something that a client sends, that a router has made of its record and its token logs, that init
 * tells of a connection, or that a predecessor has left in the gateway's own records. Whatever
 * comes, the gateway goes on and its rings' counts stay possible.
 */
#include "tests/gateway/fake_node.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	RECORD = 8,
	RECORDS_MAX = 48,
	CLIENTS = 4,
	STEPS = 6 /* of the gateway between two records */
};

static const char *const request[] = {
	"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	"Content-Length: 46\r\n\r\n{\"prompt\":\"hello\",\"max_tokens\":9,\"stream\":true}",
	"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	"Content-Length: 43\r\n\r\n{\"prompt\":[1,2],\"stop\":[\"he\"],\"logprobs\":0}",
	"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	"Transfer-Encoding: chunked\r\n\r\n",
	"2b\r\n{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}\r\n0\r\n\r\n",
	"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	"Content-Length: 18\r\n\r\n{\"content\":\"hello\"}",
	"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	"Content-Length: 200000\r\n\r\n{\"prompt\":\"",
};

static const uint64_t values[] = {0, 1, 2, 3, 255, 2047, 65536, UINT32_MAX, 1ull << 40, UINT64_MAX};

static uint64_t value_of(const uint8_t *r)
{
	size_t n = sizeof(values) / sizeof(values[0]);

	return r[4] < 2 * n ? values[r[4] % n] + (uint64_t)(int8_t)r[5]
			    : r[5] | (uint64_t)r[6] << 8;
}

/* Writes at a place of a committed record, as its owner could. */
static void damage(char *base, size_t size, size_t at, uint64_t v)
{
	struct record_word *w = (struct record_word *)(void *)base;
	uint64_t version = atomic_load(&w->version);

	for (unsigned copy = 0; copy < 2; copy++)
		memcpy(base + sizeof(*w) + copy * record_stride(size) + at % (size / 8) * 8, &v, 8);
	atomic_store(&w->version, version + 2);
}

static void hostile_router(struct fake_node *n, const uint8_t *r, uint32_t conn)
{
	const struct layout *l = &n->at.layout;
	size_t seq = l->seq_off + conn * sizeof(struct router_seq);
	struct token_entry *log = attach_at(&n->at, OBJ_ROUTER, l->router_tokens);
	char *base = attach_at(&n->at, OBJ_ROUTER, l->router_record);
	uint64_t v = value_of(r);
	uint32_t half = (uint32_t)v;

	if (r[2] & 0x80) {
		log[(size_t)conn * n->plan.context + r[3]].token = half;
		return;
	}
	/* two fields of 32 bits lie in each word: most are tokens, counts and states */
	if (r[2] & 0x40)
		memcpy((char *)n->router.draft + seq + r[3] % (sizeof(struct router_seq) / 4) * 4,
		       &half, 4);
	else if (r[2] & 0x20)
		memcpy((char *)n->router.draft + r[3] % (sizeof(struct router_head) / 8) * 8, &v,
		       8);
	else
		damage(base, l->router_record_size, r[3], v);
	n->router.whole = true;
	record_commit(&n->router);
}

/* What the next gateway inherits. */
static void hostile_predecessor(struct fake_node *n, const uint8_t *r, uint32_t conn)
{
	const struct layout *l = &n->at.layout;
	char *client = attach_at(&n->at, OBJ_CLIENT, 0);

	if (r[2] == 0xff)
		damage(client + l->client_record, sizeof(struct client_record), r[3], value_of(r));
	else
		damage(client + l->client_conn + conn * l->client_conn_stride,
		       sizeof(struct conn_record), r[3], value_of(r));
	fake_kill(n);
}

static void as_init(struct fake_node *n, const uint8_t *r, uint32_t conn)
{
	switch (r[2] % 8) {
	case 0:
		fake_connect(n, conn);
		break;
	case 1:
		fake_eof(n, conn);
		break;
	case 2:
		fake_gone(n, conn);
		break;
	case 3:
		n->node->stage = STAGE_READY + r[3] % 3;
		break;
	case 4:
		n->node->drain_until_ns = value_of(r);
		break;
	default:
		n->node->poison[ROLE_CLIENT].deaths = value_of(r);
		n->node->poison[ROLE_CLIENT].step = conn;
	}
}

static void take(struct fake_node *n)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		const struct conn_in *in =
			(struct conn_in *)attach_at(&n->at, OBJ_CONNS, n->at.layout.conns_in) + i;
		struct conn_record c = fake_record(n, i);

		/* what init refuses */
		if (c.head.tx_tail - in->tx_head > CONN_RING ||
		    in->rx_tail - c.head.rx_head > CONN_RING)
			abort();
		fake_take(n, i);
		n->n_got[i] = 0;
	}
}

static void do_record(struct fake_node *n, const uint8_t *r)
{
	uint32_t conn = r[1] & 0x80 ? CONN_HEALTH : r[1] % CLIENTS;
	bool health = conn == CONN_HEALTH;
	const char *text = request[r[2] % (sizeof(request) / sizeof(request[0]))];

	switch (r[0] % 8) {
	case 0:
	case 1:
		if (!health)
			fake_send(n, conn, text, r[3] ? strlen(text) : r[4] % strlen(text));
		break;
	case 2:
		if (!health)
			fake_send(n, conn, (const char *)r + 2, RECORD - 2);
		break;
	case 3:
		hostile_router(n, r, conn);
		break;
	case 4:
		hostile_predecessor(n, r, conn);
		break;
	case 5:
		if (!health)
			as_init(n, r, conn);
		break;
	default:
		fake_router(n);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint32_t tokens[] = {5, 'h', 'e', 0xc3, 256, TINY_EOS};
	static struct fake_node n; /* its tokenizer lies behind it */

	fake_open(&n, BODY_LEAST);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		n.script[i] = (struct fake_script){.token = tokens, .n = 6, .status = SEQ_DONE};
		fake_connect(&n, i);
	}
	for (size_t i = 0; i + RECORD <= len && i < RECORDS_MAX * RECORD; i += RECORD) {
		do_record(&n, data + i);
		for (unsigned k = 0; k < STEPS && gateway_pending(n.g); k++)
			gateway_step(n.g);
		gateway_step(n.g);
		take(&n);
	}
	fake_close(&n);
	return 0;
}
