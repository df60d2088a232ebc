/*
 * The feed-forward part with matrices in 4 bits, which no checkpoint has: rows as the kernels give
 * them one by one, whatever the number of workers and rows and whether parts go alone or as a set.
 * What checkpoints have is checked by t_forward.
 */
#include "model/ffn.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

enum {
	HIDDEN = 200,
	WIDTH = 256,
	INNER = 168,
	INNER_PADDED = 256,
	ROWS = 70
};

static struct index ix;
static struct model m;
static _Alignas(64) uint16_t x[ROWS * WIDTH];
static float want[ROWS * WIDTH], got[2 * ROWS * WIDTH];
static uint32_t list[ROWS];
static struct weight mlp[3], plain[3];

static void *alloc(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!p)
		abort();
	return memset(p, 0, (bytes + 63) / 64 * 64);
}

static uint32_t random32(void)
{
	static uint32_t state = 1;

	state = state * 1664525 + 1013904223;
	return state >> 8;
}

/* BF16 between 2^-2 and 2^2, either sign */
static uint16_t random_bf16(void)
{
	return (uint16_t)(0x3e80 + random32() % 0x200 + (random32() & 1) * 0x8000);
}

static struct weight make(size_t n_out, size_t n_in, enum weight_type type)
{
	size_t bytes = weight_bytes(type, n_out, n_in);
	uint8_t *data = alloc(bytes);

	if (type == WEIGHT_BF16) {
		for (size_t i = 0; i < n_out * n_in; i++)
			((uint16_t *)(void *)data)[i] = random_bf16();
	} else {
		struct q4_group *g = (void *)data;

		for (size_t i = 0; i < bytes / sizeof(*g); i++) {
			for (size_t k = 0; k < sizeof(g->code); k++)
				((uint8_t *)g[i].code)[k] = (uint8_t)random32();
			for (size_t r = 0; r < Q4_ROWS; r++)
				g[i].scale[r] = 0x3c00;
		}
	}
	return (struct weight){.data = data,
			       .table = type == WEIGHT_Q4 ? q4_gaussian : NULL,
			       .n_out = (uint32_t)n_out,
			       .n_in = (uint32_t)n_in,
			       .type = type};
}

/* want[i] = the MLP of x[list[i]], by the kernels alone */
static void expect(const struct cpu_kernels *k, uint32_t n)
{
	static _Alignas(64) uint16_t v[INNER_PADDED];
	struct int8_block q[2];
	float g[INNER], u[INNER];

	for (uint32_t i = 0; i < n; i++) {
		k->to_int8(q, x + list[i] * WIDTH, WIDTH);
		k->matmul_q4(g, INNER, &mlp[0], 0, INNER, q, 2, 1);
		k->matmul_q4(u, INNER, &mlp[1], 0, INNER, q, 2, 1);
		k->silu_mul(v, g, u, INNER, INNER_PADDED);
		k->to_int8(q, v, INNER_PADDED);
		k->matmul_q4(want + i * WIDTH, WIDTH, &mlp[2], 0, HIDDEN, q, 2, 1);
	}
}

static bool same(const float *f, const float *other, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (memcmp(f + i * WIDTH, other + i * WIDTH, HIDDEN * sizeof(float)))
			return false;
	return true;
}

struct job {
	uint32_t n;
	bool as_set;
	void *scratch;
};

static void work(void *context, struct worker *w)
{
	const struct job *j = context;
	const struct ffn_part part[2] = {
		{.mlp = plain, .n = j->n, .f = got + ROWS * WIDTH},
		{.mlp = mlp, .list = list, .n = j->n, .f = got},
	};

	if (j->as_set)
		ffn_mlp_set(&m, part, 2, x, j->scratch, w);
	else
		ffn_mlp(&m, mlp, x, list, j->n, got, j->scratch, w);
}

static void compare(struct team *t, unsigned workers, uint32_t n)
{
	struct job j = {.n = n, .scratch = alloc(ffn_scratch_bytes(m.config, INNER, n, workers))};
	struct job set = {.n = n,
			  .as_set = true,
			  .scratch = alloc(ffn_set_scratch_bytes(m.config, INNER, 2 * n, workers))};

	expect(m.kernels, n);
	memset(got, 0, sizeof(got));
	team_run(t, work, &j);
	ok(same(got, want, n), "%u rows in 4 bits by %u workers on %s are as the kernels give them",
	   n, workers, cpu_isa_name(m.kernels->isa));
	memset(got, 0, sizeof(got));
	team_run(t, work, &set);
	ok(same(got, want, n), "and in a set beside a part in BF16");
	free(j.scratch);
	free(set.scratch);
}

int main(void)
{
	static const uint32_t rows[] = {1, 3, 64, 70};
	static struct cpu_kernels kernels;
	static struct team *team[3]; /* they never end */
	struct err e = {0};

	if (!cpu_isa_usable(CPU_SCALAR))
		return skip("this processor is below x86-64-v3"), tap_done();
	ix.config.hidden_size = HIDDEN;
	ix.config.moe_intermediate_size = INNER;
	m.config = &ix.config;
	m.kernels = &kernels;
	for (unsigned i = 1; i < 3; i++) {
		team[i] = team_start(i, NULL, 0, &e);
		if (!team[i])
			return 1;
	}
	for (int p = 0; p < 3; p++) {
		size_t n_out = p == 2 ? HIDDEN : INNER, n_in = p == 2 ? INNER : HIDDEN;

		mlp[p] = make(n_out, n_in, WEIGHT_Q4);
		plain[p] = make(n_out, n_in, WEIGHT_BF16);
	}
	for (uint32_t r = 0; r < ROWS; r++) {
		list[r] = ROWS - 1 - r;
		for (uint32_t i = 0; i < HIDDEN; i++)
			x[r * WIDTH + i] = random_bf16();
	}
	for (unsigned isa = 0; isa < CPU_ISA_COUNT; isa++) {
		if (!cpu_isa_usable((enum cpu_isa)isa))
			continue;
		cpu_kernels_init(&kernels, (enum cpu_isa)isa);
		for (unsigned workers = 1; workers < 3; workers++)
			for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
				compare(team[workers], workers, rows[i]);
	}
	for (int p = 0; p < 3; p++) {
		free((void *)(uintptr_t)mlp[p].data);
		free((void *)(uintptr_t)plain[p].data);
	}
	return tap_done();
}
