/*
 * The commit word: what a reader sees is one moment's state, what a successor finds is what was
 * committed, wherever the writer was killed (machinery 2).
 */
#include "ipc/record.h"
#include "tests/tap.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	WORDS = 512,
	KILLS = 300
};

/*
 * Consistent when sum is the sum of all words and every word is at least the one before: any torn
 * copy breaks it.
 */
struct state {
	uint64_t count;
	uint64_t sum;
	uint64_t word[WORDS];
};

static void *shared(void)
{
	void *p = mmap(NULL, record_bytes(sizeof(struct state)), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int consistent(const struct state *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < WORDS; i++)
		sum += s->word[i];
	return sum == s->sum && s->sum == 3 * s->count;
}

/* Three scattered changes and their sum. */
static void advance(struct record *r)
{
	struct state *d = r->draft;
	uint64_t n = d->count;

	for (unsigned i = 0; i < 3; i++) {
		uint64_t *w = &d->word[(n * 7 + i * 131) % WORDS];

		record_touch(r, w, sizeof(*w));
		*w += 1;
	}
	record_touch(r, d, offsetof(struct state, word));
	d->sum += 3;
	d->count++;
	record_commit(r);
}

static void test_commit(void *base)
{
	struct record r;
	struct state s;

	record_open(&r, base, sizeof(struct state));
	((struct state *)r.draft)->count = 99;
	ok(record_read(base, sizeof(s), 0, &s, sizeof(s)), "a record at rest is read at once");
	is_int((long long)s.count, 0, "what is not committed is not seen");
	record_open(&r, base, sizeof(struct state));
	is_int((long long)((struct state *)r.draft)->count, 0,
	       "a successor never reads a half-made copy");
	for (unsigned i = 0; i < 1000; i++)
		advance(&r);
	ok(record_read(base, sizeof(s), 0, &s, sizeof(s)), "a record at rest is read at once");
	is_int((long long)s.count, 1000, "every commit is seen");
	ok(consistent(&s), "a thousand commits keep both copies whole");
	is_mem(r.draft, r.copy[r.draft == r.copy[0]], sizeof(s),
	       "after a commit the draft equals what is committed");
	is_int((long long)record_version(base), 1000, "the version counts commits");
}

static void test_many_ranges(void *base)
{
	struct record r;
	struct state *d;

	record_open(&r, base, sizeof(struct state));
	d = r.draft;
	for (unsigned i = 0; i < WORDS; i += 2) {
		record_touch(&r, &d->word[i], sizeof(d->word[i]));
		d->word[i] += 5;
	}
	record_commit(&r);
	is_mem(r.draft, r.copy[r.draft == r.copy[0]], sizeof(*d),
	       "more changes than the list holds are repeated whole");
	memset(base, 0, record_bytes(sizeof(struct state)));
}

/* A writer that commits as fast as it can. */
static void writer(void *base)
{
	struct record r;

	record_open(&r, base, sizeof(struct state));
	for (;;)
		advance(&r);
}

static void test_kills(void *base)
{
	unsigned bad_live = 0, bad_dead = 0, backwards = 0;
	uint64_t last = 0, reads = 0;
	struct state s;

	srand(7);
	for (unsigned k = 0; k < KILLS; k++) {
		struct timespec nap = {.tv_nsec = 200000 + rand() % 600000};
		pid_t pid = fork();

		if (pid == 0)
			writer(base);
		nanosleep(&nap, NULL);
		for (unsigned i = 0; i < 20; i++, reads++) {
			/* a writer that does nothing else may not let a reader through for long */
			while (!record_read(base, sizeof(s), 0, &s, sizeof(s)))
				;
			bad_live += !consistent(&s);
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		bad_dead += !record_read(base, sizeof(s), 0, &s, sizeof(s)) || !consistent(&s);
		backwards += s.count < last;
		last = s.count;
	}
	is_int(bad_live, 0,
	       "no reader sees a torn state beside a running writer (%llu reads, seed 7)",
	       (unsigned long long)reads);
	is_int(bad_dead, 0, "no kill leaves a torn state (%d kills)", KILLS);
	is_int(backwards, 0, "no kill takes a commit back");
	ok(last > KILLS, "the writers were at work: %llu commits", (unsigned long long)last);
}

int main(void)
{
	void *base = shared();

	if (!ok(base != NULL, "there is shared memory"))
		return tap_done();
	test_many_ranges(base);
	test_commit(base);
	memset(base, 0, record_bytes(sizeof(struct state)));
	test_kills(base);
	return tap_done();
}
