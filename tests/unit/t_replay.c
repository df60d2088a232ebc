/*
 * Replaying traces: Belady against all possible choices, the others against it, files, and the
 * generator.
 */
#include "runtime/replay/replay.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A trace of decode passes through one layer. */
static struct replay_trace one_layer(const uint16_t *id, uint32_t n, uint32_t experts)
{
	struct replay_trace t = {.layers = 1,
				 .moe_layers = 1,
				 .experts = experts,
				 .top_k = 1,
				 .chunk = 16,
				 .n_passes = n,
				 .n_rows = n,
				 .pass = calloc(n, sizeof(*t.pass)),
				 .route = calloc(n, sizeof(*t.route))};

	for (uint32_t i = 0; i < n; i++) {
		t.pass[i] = (struct replay_pass){.first = i, .rows = 1};
		t.route[i] = id[i];
	}
	return t;
}

static uint64_t hits(const struct replay_trace *t, enum replay_policy p, uint32_t slots)
{
	struct replay_count c = {0};

	if (replay_run(t, p, slots, &c))
		abort();
	return c.hits;
}

/* Most hits of any sequence of choices; `cache` is a set of experts. */
static uint32_t best(const uint16_t *id, uint32_t n, uint32_t slots, uint32_t cache)
{
	uint32_t most = 0;

	if (!n)
		return 0;
	if (cache >> id[0] & 1)
		return 1 + best(id + 1, n - 1, slots, cache);
	if ((uint32_t)__builtin_popcount(cache) < slots)
		return best(id + 1, n - 1, slots, cache | 1u << id[0]);
	for (uint32_t e = 0; e < 32; e++) {
		uint32_t got;

		if (!(cache >> e & 1))
			continue;
		got = best(id + 1, n - 1, slots, (cache & ~(1u << e)) | 1u << id[0]);
		most = got > most ? got : most;
	}
	return most;
}

static void test_belady(void)
{
	uint32_t state = 3, right = 0, bounded = 0;

	for (uint32_t round = 0; round < 60; round++) {
		uint16_t id[13];
		struct replay_trace t;
		bool good = true;

		for (uint32_t i = 0; i < 13; i++) {
			state = state * 1664525u + 1013904223u;
			id[i] = (uint16_t)((state >> 16) % 6);
		}
		t = one_layer(id, 13, 6);
		right += hits(&t, REPLAY_BELADY, 3) == best(id, 13, 3, 0);
		for (uint32_t p = 0; p < REPLAY_POLICIES; p++)
			good = good && hits(&t, (enum replay_policy)p, 3) <= best(id, 13, 3, 0);
		bounded += good;
		replay_free(&t);
	}
	is_int(right, 60, "Belady has as many hits as the best of all possible choices");
	is_int(bounded, 60, "and nobody has more");
}

static void test_known(void)
{
	uint16_t id[40];
	struct replay_trace t;

	for (uint32_t i = 0; i < 40; i++)
		id[i] = (uint16_t)(i % 4);
	t = one_layer(id, 40, 4);
	is_int(hits(&t, REPLAY_LRU, 3), 0, "LRU never hits in a cycle longer than the cache");
	is_int(hits(&t, REPLAY_LRU, 4), 36, "and always in one that fits");
	is_int(hits(&t, REPLAY_OURS, 4), 36, "so does ours");
	ok(hits(&t, REPLAY_OURS, 3) > 12, "which hits in the longer one too: %llu of %llu",
	   (unsigned long long)hits(&t, REPLAY_OURS, 3),
	   (unsigned long long)hits(&t, REPLAY_BELADY, 3));
	replay_free(&t);
	for (uint32_t i = 0; i < 40; i++)
		id[i] = (uint16_t)(i % 2 ? 0 : 1 + i / 2 % 5);
	t = one_layer(id, 40, 6);
	ok(hits(&t, REPLAY_LFU, 2) >= 19 && hits(&t, REPLAY_ARC, 2) >= 18,
	   "LFU and ARC keep what returns, with one slot for what does not");
	replay_free(&t);
}

static void test_file(void)
{
	char path[] = "/tmp/t_replay.XXXXXX";
	const uint16_t id[] = {3, 1, 2, 0, 3};
	struct replay_trace t = one_layer(id, 5, 4), back;
	struct err e = {0};
	int fd = mkstemp(path);
	FILE *f;

	t.pass[1].prefill = 1;
	is_int(fd < 0 ? -1 : replay_write(&t, path, &e), 0, "a trace is written");
	is_int(replay_read(&back, path, &e), 0, "and read: %s", e.text);
	ok(back.n_passes == 5 && back.pass[1].prefill && !back.pass[2].prefill &&
		   back.experts == 4 && !memcmp(back.route, t.route, 5 * sizeof(*t.route)),
	   "with the same passes and routes");
	replay_free(&back);
	f = fopen(path, "r+b");
	fseek(f, (long)(sizeof(struct trace_file) + sizeof(struct trace_row)), SEEK_SET);
	fputc(4, f);
	fclose(f);
	ok(replay_read(&back, path, &e) < 0 && strstr(e.text, "expert 4"),
	   "an expert that the model lacks is refused: %s", e.text);
	e = (struct err){0};
	ok(!truncate(path, 40) && replay_read(&back, path, &e) < 0 && e.text[0],
	   "so is half a head: %s", e.text);
	e = (struct err){0};
	unlink(path);
	ok(replay_read(&back, path, &e) < 0 && e.text[0], "so is a file that is not there: %s",
	   e.text);
	close(fd);
	replay_free(&t);
}

static void test_synth(void)
{
	struct synth_profile p = *replay_profile("crowd");
	struct replay_trace t, again;
	uint64_t rows = 0;
	bool ascending = true;

	p.moe_layers = 2;
	p.conversations = 5;
	is_int(replay_synth(&t, &p, 4), 0, "a trace is made up");
	is_int(replay_synth(&again, &p, 4), 0, "and again");
	ok(t.n_rows == again.n_rows && t.n_passes == again.n_passes &&
		   !memcmp(t.route, again.route,
			   t.n_rows * t.moe_layers * t.top_k * sizeof(*t.route)),
	   "the same from the same seed");
	for (uint32_t i = 0; i < t.n_passes; i++)
		rows += t.pass[i].rows;
	ok(rows == t.n_rows && rows <= (uint64_t)p.conversations * (p.prompt + p.reply),
	   "every row belongs to a pass");
	for (uint64_t i = 0; i < t.n_rows * t.moe_layers * t.top_k; i++)
		ascending = ascending && t.route[i] < t.experts &&
			    (i % t.top_k == 0 || t.route[i] > t.route[i - 1]);
	ok(ascending, "its routes are routes");
	replay_free(&t);
	replay_free(&again);
}

int main(void)
{
	test_belady();
	test_known();
	test_file();
	test_synth();
	return tap_done();
}
