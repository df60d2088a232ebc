/* The workload of chaos; see chaos.h. Streams are threads; each keeps its own pauses. */
#include "runtime/cli/chaos.h"

#include "runtime/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

uint64_t chaos_draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t chaos_below(uint64_t *state, uint64_t n)
{
	return chaos_draw(state) % n; /* n is small: the bias does not matter */
}

void chaos_add(struct chaos_list *l, uint64_t v)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 1024;
		uint64_t *p = realloc(l->v, room * sizeof(*p));

		if (!p)
			return;
		l->v = p;
		l->room = room;
	}
	l->v[l->n++] = v;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t chaos_percentile(struct chaos_list *l, double percent)
{
	if (!l->n)
		return 0;
	qsort(l->v, l->n, sizeof(*l->v), compare);
	return l->v[(size_t)((double)(l->n - 1) * percent / 100 + 0.5)];
}

/* ---- One request ---- */

/*
 * Half the requests decode long, a quarter has a long prompt and a short reply, a quarter is in
 * between: prefill and decode run at the same time.
 */
static char *make_body(const struct chaos_load *l, uint64_t number)
{
	uint64_t state = l->seed ^ (number + 1) * 0xd1342543de82ef95u, tokens = l->tokens,
		 prompt = 4 + chaos_below(&state, 28);

	if (number % 4 == 2) {
		prompt = l->prompt / 2 + chaos_below(&state, l->prompt / 2 + 1);
		tokens = l->tokens / 8;
	} else if (number % 4 == 3) {
		prompt = l->prompt / 8 + chaos_below(&state, l->prompt / 4 + 1);
		tokens = l->tokens / 2;
	}
	return bench_body(l->ix, chaos_draw(&state) >> 1, prompt ? prompt : 1, tokens ? tokens : 1);
}

struct piece {
	struct chaos_stream *stream;
	uint64_t last_ns;
};

static void on_piece(void *context, enum client_text kind, const char *text, size_t len)
{
	struct piece *p = context;
	uint64_t now = clock_now_ns();

	(void)text;
	(void)len;
	atomic_store_explicit(&p->stream->moved_ns, now, memory_order_relaxed);
	if (kind == TEXT_PROGRESS)
		return;
	if (p->last_ns) {
		chaos_add(&p->stream->begin, p->last_ns);
		chaos_add(&p->stream->end, now);
	}
	p->last_ns = now;
}

static void ask(struct chaos_stream *s, uint64_t number)
{
	struct chaos_load *l = s->load;
	struct chaos_reply *out = &l->reply[number];
	struct piece piece = {.stream = s};
	char *body = make_body(l, l->pool ? number % l->pool : number);
	struct client_reply reply;
	struct err e = {0};
	int rc = body ? client_post(l->socket, "/v1/completions", body, on_piece, &piece,
				    &l->interrupted, &reply, &e)
		      : err_set(&e, -ENOMEM, "no memory for a request");

	free(body);
	if (rc < 0) {
		snprintf(out->error, sizeof(out->error), "%.159s", e.text);
		return;
	}
	out->content = reply.content;
	memcpy(out->finish, reply.finish, sizeof(out->finish));
	out->prompt_tokens = reply.prompt_tokens;
	out->tokens = reply.completion_tokens;
	if (rc)
		snprintf(out->error, sizeof(out->error), "broken off");
}

static void *stream_main(void *context)
{
	struct chaos_stream *s = context;
	struct chaos_load *l = s->load;

	while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
		uint64_t number = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);

		if (number >= l->limit) {
			atomic_fetch_sub_explicit(&l->next, 1, memory_order_relaxed);
			break;
		}
		atomic_store_explicit(&s->moved_ns, clock_now_ns(), memory_order_relaxed);
		ask(s, number);
	}
	/* release: its replies are there */
	atomic_store_explicit(&s->moved_ns, 0, memory_order_release);
	return NULL;
}

/* ---- All of them ---- */

/* Only there to end a wait for the node. */
static void on_signal(int signo)
{
	(void)signo;
}

int chaos_load_start(struct chaos_load *l, const char *socket, uint64_t limit, struct err *e)
{
	struct sigaction a = {.sa_handler = on_signal};

	sigaction(SIGUSR1, &a, NULL);
	l->socket = socket;
	l->limit = limit < CHAOS_REPLIES ? limit : CHAOS_REPLIES;
	l->interrupted = 0;
	atomic_store(&l->next, 0);
	atomic_store(&l->stop, false);
	l->reply = calloc(CHAOS_REPLIES, sizeof(*l->reply));
	if (!l->reply)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the replies");
	for (unsigned i = 0; i < l->streams; i++) {
		struct chaos_stream *s = &l->stream[i];
		int rc;

		*s = (struct chaos_stream){.load = l};
		atomic_store(&s->moved_ns, clock_now_ns());
		rc = pthread_create(&s->thread, NULL, stream_main, s);
		if (rc)
			return err_set(e, -rc, "cannot start a thread: %s", strerror(rc));
		s->started = true;
	}
	return 0;
}

bool chaos_load_over(const struct chaos_load *l)
{
	for (unsigned i = 0; i < l->streams; i++) {
		/* acquire: pairs with the stream's end */
		if (l->stream[i].started &&
		    atomic_load_explicit(&l->stream[i].moved_ns, memory_order_acquire))
			return false;
	}
	return true;
}

int chaos_load_stuck(const struct chaos_load *l)
{
	uint64_t now = clock_now_ns();

	for (unsigned i = 0; i < l->streams; i++) {
		uint64_t moved = atomic_load_explicit(&l->stream[i].moved_ns, memory_order_relaxed);

		if (moved && moved < now && now - moved > CHAOS_STUCK_S * NS_PER_S)
			return (int)i;
	}
	return -1;
}

uint64_t chaos_load_end(struct chaos_load *l, bool now)
{
	uint64_t sent;

	atomic_store(&l->stop, true);
	if (now)
		l->interrupted = 1;
	for (unsigned i = 0; i < l->streams; i++) {
		struct chaos_stream *s = &l->stream[i];
		const struct timespec look = {0, 10 * 1000 * 1000};

		if (!s->started)
			continue;
		while (now && atomic_load(&s->moved_ns)) { /* it may not be waiting yet */
			pthread_kill(s->thread, SIGUSR1);
			nanosleep(&look, NULL);
		}
		pthread_join(s->thread, NULL);
		s->started = false;
	}
	sent = atomic_load(&l->next);
	return sent < l->limit ? sent : l->limit;
}

void chaos_load_free(struct chaos_load *l)
{
	for (uint64_t i = 0; l->reply && i < CHAOS_REPLIES; i++)
		free(l->reply[i].content);
	free(l->reply);
	l->reply = NULL;
	for (unsigned i = 0; i < l->streams; i++) {
		free(l->stream[i].begin.v);
		free(l->stream[i].end.v);
		l->stream[i].begin = l->stream[i].end = (struct chaos_list){0};
	}
}
