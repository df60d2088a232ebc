/* A booted node's own business; see ask.h. */
#include "boot/ask.h"

#include "boot/report.h"
#include "boot/stage.h"
#include "boot/supervise.h"
#include "ipc/graph.h"
#include "runtime/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PROOF_RETRY_S = 5,
	TRIAL_S = 15 * 60, /* what a new program has to give the known answer */
	LINE_S = 5,        /* between two lines on the console while tokens come */
	TEXT_BYTES = 64 * 1024
};

/* ---- The known answer ---- */

/* Asks our own gateway, as a client would. */
static void begin_proof(struct init *in, uint64_t now)
{
	static const char request[] = "GET /health HTTP/1.0\r\n\r\n";
	struct machine *m = &in->machine;
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = TAG_PROOF};
	int pair[2];

	m->proof_ns = now + PROOF_RETRY_S * NS_PER_S;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return;
	if (pump_take_socket(&in->pump, pair[0]) < 0 ||
	    write(pair[1], request, sizeof(request) - 1) != sizeof(request) - 1 ||
	    epoll_ctl(in->epoll, EPOLL_CTL_ADD, pair[1], &ev)) {
		close(pair[1]);
		return;
	}
	m->proof = pair[1];
}

static void say_times(const struct machine *m)
{
	const double s = (double)NS_PER_S;

	fprintf(stderr,
		"penstock: the known answer has come, %.2f s after the kernel's start: kernel "
		"%.2f, "
		"modules %.2f, finding the model %.2f, index and plan %.2f, weights %.2f, servers "
		"and "
		"answer %.2f\n",
		(double)m->at[AT_ANSWER] / s, (double)m->at[AT_INIT] / s,
		(double)(m->at[AT_MODULES] - m->at[AT_INIT]) / s,
		(double)(m->at[AT_MODEL] - m->at[AT_MODULES]) / s,
		(double)(m->at[AT_INDEX] - m->at[AT_MODEL]) / s,
		(double)(m->at[AT_LOADED] - m->at[AT_INDEX]) / s,
		(double)(m->at[AT_ANSWER] - m->at[AT_LOADED]) / s);
}

/* It works: the firmware may start this program from now on. */
static void proven(struct machine *m)
{
	struct err e = {0};
	int rc;

	m->at[AT_ANSWER] = clock_now_ns();
	say_times(m);
	machine_complete(m);
	rc = update_keep(&e);
	if (rc > 0)
		fprintf(stderr, "penstock: the firmware starts this program from now on\n");
	else if (rc < 0 && rc != -ENODEV)
		fprintf(stderr, "penstock: warning: %s\n", e.text);
}

void ask_proof(struct init *in)
{
	static const char good[] = "HTTP/1.1 200";
	struct machine *m = &in->machine;
	char text[512];
	ssize_t n = read(m->proof, text, sizeof(text) - 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(m->proof); /* epoll forgets it: nobody else has it */
	m->proof = -1;
	text[n > 0 ? n : 0] = '\0';
	if (n > 0 && !strncmp(text, good, sizeof(good) - 1))
		proven(m);
	else
		fprintf(stderr, "penstock: not healthy: %.60s\n", n > 0 ? text : "no answer");
}

static void proof_tick(struct init *in, uint64_t now)
{
	struct machine *m = &in->machine;

	if (m->at[AT_ANSWER])
		return;
	if (in->stage == STAGE_READY && m->proof < 0 && now >= m->proof_ns)
		begin_proof(in, now);
	if (now - m->at[AT_INIT] > TRIAL_S * NS_PER_S && !m->judged) {
		m->judged = true;
		if (!update_on_trial())
			return;
		err_set(&in->error, -ETIME,
			"this program is new and has not given the known answer");
		supervise_end(in, STATUS_FAILED);
	}
}

/* ---- What the host asks ---- */

static void answer(struct machine *m, const struct err *e)
{
	port_answer(&m->port, e->text, strlen(e->text), e->code ? STATUS_FAILED : STATUS_OK);
}

static void take_update(struct machine *m, uint64_t ask, const void *data, size_t len)
{
	static struct err e; /* the answer's text: it stays */
	uint64_t bytes;
	int rc;

	e = (struct err){0};
	if (ask == ASK_UPDATE) {
		if (len != sizeof(bytes)) {
			err_set(&e, -EINVAL, "an update without its length");
			rc = -EINVAL;
		} else {
			memcpy(&bytes, data, sizeof(bytes));
			rc = update_begin(&m->update, bytes, &e);
		}
		if (rc)
			answer(m, &e);
		return;
	}
	if (m->update.fd < 0)
		return; /* what follows an update that failed; that was said */
	rc = update_piece(&m->update, data, len, &e);
	if (rc)
		answer(m, &e);
}

static void kill_role(struct init *in, const void *data, size_t len)
{
	static struct err e;
	char name[32];

	e = (struct err){0};
	snprintf(name, sizeof(name), "%.*s", (int)(len < 31 ? len : 31), (const char *)data);
	for (unsigned role = ROLE_CLIENT; role <= ROLE_EXPERTS; role++)
		if (!strcasecmp(name, graph_roles[role].program)) {
			supervise_kill(in, (enum role)role);
			answer(&in->machine, &e);
			return;
		}
	err_set(&e, -EINVAL, "\"%s\" is no server of a node", name);
	answer(&in->machine, &e);
}

void ask_take(void *context, uint64_t ask, const void *data, size_t len)
{
	static char text[TEXT_BYTES];
	struct init *in = context;
	struct machine *m = &in->machine;

	switch (ask) {
	case ASK_OFF:
	case ASK_RESTART:
		port_answer(&m->port, "", 0, STATUS_OK);
		stage_signal(in, ask == ASK_OFF ? SIGTERM : SIGINT);
		break;
	case ASK_LIST:
		port_answer(&m->port, text, report_make(m, text, sizeof(text)), STATUS_OK);
		break;
	case ASK_UPDATE:
	case ASK_PIECE:
		take_update(m, ask, data, len);
		break;
	case ASK_KILL:
		kill_role(in, data, len);
		break;
	default:
		port_answer(&m->port, "", 0, STATUS_USAGE);
	}
}

/* ---- The console ---- */

static uint64_t counter(const struct init *in, enum object log, enum counter which)
{
	const char *map = in->objects.map[log];
	const struct log_object *l;

	if (!map)
		return 0;
	l = (const void *)(map + sizeof(struct object_header));
	/* relaxed: only shown */
	return atomic_load_explicit(&l->counter[which], memory_order_relaxed);
}

/* A line while tokens come, and one when they have ended. */
static void console_tick(struct init *in, uint64_t now)
{
	struct machine *m = &in->machine;
	const struct console was = m->console;
	struct console is;
	double seconds = (double)(now - was.ns) / (double)NS_PER_S;
	uint64_t asked, tokens;
	int degrees;

	if (now - was.ns < LINE_S * NS_PER_S)
		return;
	is = (struct console){.ns = now,
			      .tokens = counter(in, OBJ_LOG_ROUTER, COUNT_TOKENS) +
					counter(in, OBJ_LOG_ROUTER, COUNT_PROMPT_TOKENS),
			      .hits = counter(in, OBJ_LOG_EXPERTS, COUNT_HITS),
			      .misses = counter(in, OBJ_LOG_EXPERTS, COUNT_MISSES),
			      .bytes = counter(in, OBJ_LOG_EXPERTS, COUNT_READ_BYTES)};
	m->console = is;
	tokens = is.tokens - was.tokens;
	asked = is.hits - was.hits + is.misses - was.misses;
	if (!was.ns || !tokens)
		return;
	degrees = machine_degrees();
	fprintf(stderr, "penstock: %llu running, %llu waiting, %.1f tokens/s, ",
		(unsigned long long)counter(in, OBJ_LOG_ROUTER, COUNT_RUNNING),
		(unsigned long long)counter(in, OBJ_LOG_ROUTER, COUNT_QUEUED),
		(double)tokens / seconds);
	fprintf(stderr, "%.0f %% of experts in memory, drive %.2f GB/s",
		asked ? 100.0 * (double)(is.hits - was.hits) / (double)asked : 100.0,
		(double)(is.bytes - was.bytes) / seconds * 1e-9);
	if (degrees)
		fprintf(stderr, ", %d degrees C", degrees);
	fprintf(stderr, "\n");
}

int ask_tick(struct init *in)
{
	struct machine *m = &in->machine;
	uint64_t now = clock_now_ns();
	int ms = machine_tick(m, in->epoll, TAG_PORT);

	proof_tick(in, now);
	console_tick(in, now);
	if (!m->at[AT_ANSWER] && (ms < 0 || ms > 1000))
		ms = 1000;
	return ms;
}
