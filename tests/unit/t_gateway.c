/*
 * Connections, errors, health and the limits of api.md, against a node that is played
 * (tests/gateway/fake_node.h).
 */
#include "tests/gateway/fake_node.h"
#include "tests/tap.h"

#include "runtime/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAT "/v1/chat/completions"
#define HI   "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static const uint32_t abc[] = {'a', 'b', 'c', TINY_EOS};
static const struct fake_script well = {.token = abc, .n = 4, .status = SEQ_DONE};
static const struct fake_script hangs = {.token = abc, .n = 2, .status = SEQ_NONE};

#define HEALTH "GET /health HTTP/1.1\r\n\r\n"

static bool begins(const char *s, const char *with)
{
	return s && strncmp(s, with, strlen(with)) == 0;
}

static int count(const char *s, const char *what)
{
	int n = 0;

	for (; s && (s = strstr(s, what)) != NULL; s += strlen(what))
		n++;
	return n;
}

static bool is_closing(const struct fake_node *n, uint32_t conn)
{
	return fake_record(n, conn).head.state == CONN_CLOSING;
}

/* What one request is answered on a connection of its own. */
static const char *once(struct fake_node *n, const char *text)
{
	static uint32_t conn;

	conn = (conn + 1) % FAKE_CONNS;
	fake_gone(n, conn);
	fake_run(n);
	fake_connect(n, conn);
	return fake_talk(n, conn, text, strlen(text));
}

static void test_routes(void)
{
	static const struct {
		const char *request, *status, *has;
	} list[] = {
		{"GET /v1/models HTTP/1.1\r\n\r\n", "200", "\"max_model_len\":2048"},
		{"GET /v1/models/a/b HTTP/1.1\r\n\r\n", "200", "\"id\":\"a/b\""},
		{"GET /v1/models/a%2Fb HTTP/1.1\r\n\r\n", "200", "\"id\":\"a/b\""},
		{"GET http://host/v1/models?x=1 HTTP/1.1\r\n\r\n", "200", "\"list\""},
		{"GET /v1/models/other HTTP/1.1\r\n\r\n", "404", "model_not_found"},
		{"GET /v1/models/ HTTP/1.1\r\n\r\n", "404", "\"error\""},
		{"GET / HTTP/1.1\r\n\r\n", "404", "\"error\""},
		{"GET /%00 HTTP/1.1\r\n\r\n", "404", "\"error\""},
		{"POST /v1/models HTTP/1.1\r\n\r\n", "405", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"GET /v1/chat/completions HTTP/1.1\r\n\r\n", "405", "Allow: POST, OPTIONS\r\n"},
		{"DELETE /v1/models/x HTTP/1.1\r\n\r\n", "405", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"OPTIONS /tokenize HTTP/1.1\r\n\r\n", "200", "Allow: POST, OPTIONS\r\n"},
		{"OPTIONS * HTTP/1.1\r\n\r\n", "200", "Allow: "},
		{"HEAD /v1/models HTTP/1.1\r\n\r\n", "200", "\r\n\r\n"},
		{"HEAD /nothing HTTP/1.1\r\n\r\n", "404", "\r\n\r\n"},
		{"GET /metrics HTTP/1.1\r\n\r\n", "200",
		 "penstock_requests_total{role=\"router\"} 0"},
		{"POST /tokenize HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: "
		 "2\r\n\r\n{}",
		 "415", "\"error\""},
		{"POST /tokenize HTTP/1.1\r\nContent-Length: "
		 "26\r\n\r\n{\"content\":\"hello<think>\"}",
		 "200", "{\"tokens\":[258,111,1004]}"},
		{"POST /detokenize HTTP/1.1\r\nContent-Length: "
		 "25\r\n\r\n{\"tokens\":[104,1004,195]}",
		 "200", "{\"content\":\"h<think>\xef\xbf\xbd\"}"},
		{"POST /detokenize HTTP/1.1\r\nContent-Length: 17\r\n\r\n{\"tokens\":[1100]}",
		 "400", "\"param\":\"tokens\""},
		{"POST /apply-template HTTP/1.1\r\nContent-Length: 48\r\n\r\n"
		 "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]} ",
		 "200",
		 "hello<\xef\xbd\x9c"
		 "Assistant\xef\xbd\x9c></think>\"}"},
	};
	struct fake_node n;

	fake_open(&n, BODY_MAX);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		const char *got = once(&n, list[i].request);
		char status[32];

		snprintf(status, sizeof(status), "HTTP/1.1 %s ", list[i].status);
		if (!ok(begins(got, status) && strstr(got, list[i].has), "%.*s gives %s",
			(int)strcspn(list[i].request, "\r"), list[i].request, list[i].status))
			diag("%s", got);
	}
	fake_close(&n);
}

static void test_connection(unsigned kill)
{
	static const char two[] = "GET /v1/models HTTP/1.1\r\n\r\nPOST /tokenize HTTP/1.1\r\n"
				  "Content-Length: 2\r\n\r\n{}GET /none HTTP/1.1\r\n\r\n";
	static const char expect[] = "POST /tokenize HTTP/1.1\r\nExpect: 100-continue\r\n"
				     "Content-Length: 15\r\n\r\n";
	struct fake_node n;
	const char *got;

	fake_open(&n, BODY_MAX);
	n.kill = kill;
	fake_connect(&n, 1);
	got = fake_talk(&n, 1, two, sizeof(two) - 1);
	ok(count(got, "HTTP/1.1 ") == 3 && strstr(got, "200") < strstr(got, "400") &&
		   strstr(got, "400") < strstr(got, "404"),
	   "pipelined requests are answered in order, and errors do not end the connection");
	got = fake_talk(&n, 1, expect, sizeof(expect) - 1);
	is_str(got, "HTTP/1.1 100 Continue\r\n\r\n", "an expectation is met at once, and once");
	got = fake_talk(&n, 1, "{\"content\":\"a\"}", 15);
	ok(begins(got, "HTTP/1.1 200"), "and the body is taken");
	got = fake_talk(&n, 1, "GET /v1/models HTTP/1.0\r\n\r\n", 27);
	ok(begins(got, "HTTP/1.1 200") && strstr(got, "Connection: close") && is_closing(&n, 1),
	   "HTTP/1.0 closes");
	got = fake_talk(&n, 1, "GET /v1/models HTTP/1.0\r\n\r\n", 27);
	is_str(got, "", "and then nothing is answered");
	fake_gone(&n, 1);
	fake_run(&n);
	ok(fake_record(&n, 1).head.state == CONN_FREE, "what is gone is freed");
	fake_connect(&n, 1);
	got = fake_talk(&n, 1, "GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 51);
	ok(strstr(got, "Connection: keep-alive") && !is_closing(&n, 1), "unless it asks to stay");
	got = fake_talk(&n, 1, "GET / HTTP/1.1\nHost: a\n\n", 24);
	ok(begins(got, "HTTP/1.1 400") && strstr(got, "\"error\"") && is_closing(&n, 1),
	   "what cannot be read is refused in the envelope, and the connection closes");
	fake_gone(&n, 1);
	fake_run(&n);
	fake_connect(&n, 1);
	n.script[1] = well;
	fake_eof(&n, 1);
	got = fake_post(&n, 1, CHAT, HI "}");
	ok(strstr(got, "\"content\":\"abc\"") && is_closing(&n, 1),
	   "a client that only shuts down writing gets its reply");
	fake_gone(&n, 1);
	fake_run(&n);
	fake_connect(&n, 1);
	fake_eof(&n, 1);
	got = fake_talk(&n, 1, "GET /v1/mod", 11);
	ok(begins(got, "HTTP/1.1 400"), "half a request and an end is an error");
	fake_close(&n);
}

static char *large(size_t len)
{
	char *s = malloc(len + 200);
	int n = sprintf(s, "POST /tokenize HTTP/1.1\r\nContent-Length: %zu\r\n\r\n{\"content\":\"",
			len);
	size_t body = strlen(strstr(s, "\r\n\r\n") + 4);

	for (size_t k = 0; k < len - body - 2; k++)
		s[n++] = k % 10 ? 'x' : ' ';
	strcpy(s + n, "\"}");
	return s;
}

static void test_bodies(void)
{
	char *s = large(300000);
	char *big = large(17 << 20);
	struct fake_node n;
	char *plain;
	const char *got;

	fake_open(&n, BODY_MAX);
	fake_connect(&n, 1);
	plain = strdup(fake_talk(&n, 1, s, strlen(s)));
	ok(begins(plain, "HTTP/1.1 200") && strlen(plain) > 2 * CONN_RING,
	   "a body of many rings is taken");
	fake_connect(&n, 2);
	n.kill = 3;
	n.take = 20000;
	got = fake_talk(&n, 2, s, strlen(s));
	is_str(got, plain, "also by gateways that die, with a reply of many rings");
	n.kill = 0;
	for (uint32_t i = 3; i < 3 + CLIENT_BODIES; i++) {
		fake_connect(&n, i);
		fake_talk(&n, i, s, 200000);
	}
	fake_connect(&n, 30);
	got = fake_talk(&n, 30, s, 200000);
	ok(begins(got, "HTTP/1.1 503") && strstr(got, "Retry-After: "),
	   "when the memory for bodies is used up it is 503");
	fake_gone(&n, 3);
	fake_run(&n);
	fake_connect(&n, 31);
	got = fake_talk(&n, 31, s, strlen(s));
	is_str(got, plain, "and one that goes away makes room");
	got = fake_talk(&n, 31, big, strlen(big));
	ok(begins(got, "HTTP/1.1 413") && is_closing(&n, 31), "17 MiB are 413");
	free(s);
	free(big);
	free(plain);
	fake_close(&n);
}

static void test_failures(unsigned kill)
{
	struct fake_node n;
	const char *got;

	fake_open(&n, BODY_MAX);
	n.kill = kill;
	fake_connect(&n, 1);
	n.script[1] = (struct fake_script){.status = SEQ_BUSY};
	got = fake_post(&n, 1, CHAT, HI ",\"stream\":true}");
	ok(begins(got, "HTTP/1.1 429") && strstr(got, "Retry-After: ") && !is_closing(&n, 1),
	   "a full queue is 429");
	n.script[1] = (struct fake_script){.status = SEQ_FAILED,
					   .error = row_error(CAUSE_POISON, 3, 0, 0)};
	got = fake_post(&n, 1, CHAT, HI "}");
	ok(begins(got, "HTTP/1.1 500") && strstr(got, "layer 3"),
	   "a failure before the first byte is a status");
	n.script[1] = (struct fake_script){.token = abc,
					   .n = 2,
					   .status = SEQ_FAILED,
					   .error = row_error(CAUSE_POISON, 3, 0, 0)};
	got = fake_post(&n, 1, CHAT, HI ",\"stream\":true}");
	ok(begins(got, "HTTP/1.1 200") && strstr(got, "\"content\":\"b\"") &&
		   strstr(got, "data: {\"error\":") && !strstr(got, "[DONE]") && is_closing(&n, 1),
	   "one after it is an event, and the connection closes");
	fake_gone(&n, 1);
	fake_run(&n);
	fake_connect(&n, 1);
	n.script[1] = well;
	got = fake_post(&n, 1, CHAT, HI ",\"max_tokens\":3000}");
	ok(begins(got, "HTTP/1.1 400") && strstr(got, "context_length_exceeded") &&
		   strstr(got, "2048") && strstr(got, "3000"),
	   "what is too long is told both numbers");
	got = fake_post(&n, 1, CHAT, HI ",\"max_tokens\":2042}");
	ok(begins(got, "HTTP/1.1 200"), "prompt and completion may fill the context");
	got = fake_post(&n, 1, CHAT, HI ",\"max_tokens\":2043}");
	ok(begins(got, "HTTP/1.1 400"), "and not a token more");
	fake_close(&n);
}

static void test_cancel(void)
{
	struct fake_node n;
	const char *got;

	fake_open(&n, BODY_MAX);
	fake_connect(&n, 1);
	n.script[1] = hangs;
	got = fake_post(&n, 1, CHAT, HI ",\"stream\":true}");
	ok(strstr(got, "\"content\":\"b\"") && fake_record(&n, 1).request.live, "a stream runs");
	n.script[1].slow_cancel = true;
	fake_gone(&n, 1);
	fake_run(&n);
	ok(!fake_record(&n, 1).request.live, "a client that goes away stops it");
	fake_connect(&n, 1);
	got = fake_post(&n, 1, CHAT, HI ",\"stream\":true}");
	is_int((long long)fake_record(&n, 1).request.number, 1,
	       "while the router is still in a pass with it, no other prompt is written");
	n.script[1] = well;
	fake_run(&n);
	ok(strstr(n.got[1], "[DONE]") && fake_record(&n, 1).request.number == 2,
	   "then the next one is");
	n.script[2] = hangs;
	fake_connect(&n, 2);
	fake_post(&n, 2, CHAT, HI "}");
	n.node->stage = STAGE_DRAINING;
	n.node->drain_until_ns = clock_now_ns() + 1000 * NS_PER_S;
	fake_run(&n);
	ok(fake_record(&n, 2).request.live, "a running reply goes on while the node drains");
	n.node->drain_until_ns = 1;
	fake_run(&n);
	ok(begins(n.got[2], "HTTP/1.1 503") && is_closing(&n, 2), "until its time is over");
	fake_close(&n);
}

static void test_deadlines(void)
{
	struct fake_node n;
	struct conn *c;

	fake_open(&n, BODY_MAX);
	c = &n.g->conn[1];
	fake_connect(&n, 1);
	fake_talk(&n, 1, "GET / HT", 8);
	c->request_ns -= 11 * NS_PER_S;
	fake_run(&n);
	ok(begins(n.got[1], "HTTP/1.1 408"), "a header that takes 11 seconds is 408");
	fake_connect(&n, 2);
	fake_talk(&n, 2, "POST /tokenize HTTP/1.1\r\nContent-Length: 5\r\n\r\n1", 48);
	c = &n.g->conn[2];
	c->request_ns -= 100 * NS_PER_S;
	fake_run(&n);
	ok(n.n_got[2] == 0, "a slow body may take longer");
	c->received_ns -= 31 * NS_PER_S;
	fake_run(&n);
	ok(begins(n.got[2], "HTTP/1.1 408"), "but not stand still for 31 seconds");
	fake_connect(&n, 3);
	fake_run(&n);
	((struct conn_in *)attach_at(&n.at, OBJ_CONNS, n.at.layout.conns_in))[3].sent_ns -=
		61 * NS_PER_S;
	fake_run(&n);
	ok(is_closing(&n, 3) && n.n_got[3] == 0, "an idle connection is closed without a word");
	fake_connect(&n, 4);
	n.script[4] = hangs;
	fake_post(&n, 4, CHAT, HI ",\"stream\":true}");
	n.g->conn[4].produced_ns -= 16 * NS_PER_S;
	fake_run(&n);
	fake_run(&n);
	is_int(count(n.got[4], ": still here"), 1,
	       "a stream without news says so every 15 seconds");
	fake_close(&n);
}

static void test_health(void)
{
	struct router_head *h;
	struct fake_node n;
	const char *got;

	fake_open(&n, BODY_MAX);
	fake_connect(&n, 1);
	n.node->stage = STAGE_LOADING;
	got = fake_talk(&n, 1, HEALTH, strlen(HEALTH));
	ok(begins(got, "HTTP/1.1 503") && strstr(got, "Loading model") &&
		   strstr(got, "Retry-After"),
	   "a loading node is 503");
	n.node->stage = STAGE_READY;
	n.health_hash = 7;
	h = n.router.draft;
	h->health_hash = 7;
	n.router.whole = true;
	record_commit(&n.router);
	got = fake_talk(&n, 1, HEALTH, strlen(HEALTH));
	ok(begins(got, "HTTP/1.1 200") && strstr(got, "{\"status\":\"ok\"}"),
	   "the known answer is green");
	is_int((long long)fake_record(&n, CONN_HEALTH).request.number, 1, "and was asked for");
	h = n.router.draft;
	h->health_ns = clock_now_ns();
	n.router.whole = true;
	record_commit(&n.router);
	fake_talk(&n, 1, HEALTH, strlen(HEALTH));
	is_int((long long)fake_record(&n, CONN_HEALTH).request.number, 1,
	       "a fresh token makes asking needless");
	h = n.router.draft;
	h->health_ns = 1;
	n.router.whole = true;
	record_commit(&n.router);
	n.router_stops = true;
	fake_connect(&n, 2);
	fake_talk(&n, 1, HEALTH, strlen(HEALTH));
	got = fake_talk(&n, 2, HEALTH, strlen(HEALTH));
	is_str(got, "", "with a router that hangs the answer waits");
	n.g->health_ns = 0; /* long ago */
	n.g->conn[2].since_ns -= 60 * NS_PER_S;
	fake_run(&n);
	ok(begins(n.got[2], "HTTP/1.1 503") && strstr(n.got[2], "has not come through"),
	   "and says at last that it is late");
	n.health_hash = 8;
	n.router_stops = false;
	fake_run(&n);
	ok(strstr(n.got[1], "differently"), "another answer is red");
	n.health_hash = 7;
	fake_kill(&n);
	got = fake_talk(&n, 2, HEALTH, strlen(HEALTH));
	ok(begins(got, "HTTP/1.1 503"), "and stays red, whoever answers");
	is_int((long long)fake_record(&n, CONN_HEALTH).request.number, 2,
	       "two who ask share one pass");
	fake_close(&n);
}

int main(void)
{
	test_routes();
	test_connection(0);
	test_connection(1);
	test_bodies();
	test_failures(0);
	test_failures(1);
	test_cancel();
	test_deadlines();
	test_health();
	return tap_done();
}
