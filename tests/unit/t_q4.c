/*
 * The 4-bit part of the kernel checker (arithmetic 13): packing against its stated error, the
 * definition against sums in double precision, and to_int8 and matmul_q4 of every instruction set
 * against the definition, bit for bit, over ragged shapes, slices and awkward values. Matrices end
 * at a page that must not be touched. -s N chooses the seed, -n N the number of random cases.
 */
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/math.h"
#include "tests/tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OUT_MAX   140
#define IN_MAX    1100
#define ROWS_MAX  140
#define BLOCKS    10
#define DATA_MAX  ((OUT_MAX + 15) / 16 * ((IN_MAX + 31) / 32) * sizeof(struct q4_group))
#define DATA_PAGE ((DATA_MAX + 4095) / 4096 * 4096)

static uint64_t state = 1;
static uint8_t *guarded; /* DATA_PAGE bytes, then a page that must not be touched */
static _Alignas(64) uint16_t x[ROWS_MAX * BLOCKS * 128];
static _Alignas(64) struct int8_block blocks[2][ROWS_MAX * BLOCKS];
static float y_want[ROWS_MAX * (OUT_MAX + 3)], y_got[ROWS_MAX * (OUT_MAX + 3)];
static float plain[OUT_MAX * IN_MAX];

static uint64_t random64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static size_t below(size_t n)
{
	return (size_t)(random64() % n);
}

#define PICK(list) ((list)[below(sizeof(list) / sizeof((list)[0]))])

/* Near enough to a Gaussian of variance 1 */
static float random_normal(void)
{
	double sum = 0.0;

	for (int i = 0; i < 12; i++)
		sum += (double)(random64() >> 11) * 0x1p-53;
	return (float)(sum - 6.0);
}

enum kind {
	ORDINARY,
	ZEROS,
	LARGEST,
	TINY,
	ANY_BITS,
	KINDS
};

static uint16_t random_bf16(enum kind kind)
{
	static const uint16_t largest[] = {0x7f7f, 0xff7f, 0x7f00, 0x0080, 0x0000};
	static const uint16_t tiny[] = {0x0001, 0x807f, 0x0d80, 0x8d7f, 0x0d7f, 0x0e00, 0x0080};

	switch (kind) {
	case ORDINARY:
		return f32_to_bf16(random_normal());
	case ZEROS:
		return below(8) ? (uint16_t)(random64() & 0x8000) : 0x3f80;
	case LARGEST:
		return PICK(largest);
	case TINY:
		return PICK(tiny);
	default:
		return (uint16_t)random64();
	}
}

struct product {
	enum kind kind;
	size_t n_out, n_in, o0, o1, rows, ldx, ldy;
	int8_t table[16];
	struct weight w;
};

static void make_product(struct product *p)
{
	static const size_t widths[] = {1,   31,  32,  33,  64,  96,  100,
					127, 128, 129, 160, 512, 640, 1100};
	static const size_t heights[] = {1, 7, 15, 16, 17, 31, 32, 33, 48, 64, 100, 140};
	static const size_t rows[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 17, 130};
	struct q4_group *g;

	p->kind = (enum kind)below(KINDS);
	p->n_in = PICK(widths);
	p->n_out = PICK(heights);
	p->o0 = below(3) ? below(p->n_out) / 16 * 16 : below(p->n_out);
	p->o1 = below(2) ? p->n_out : p->o0 + 1 + below(p->n_out - p->o0);
	p->rows = PICK(rows);
	p->ldx = (p->n_in + 127) / 128 + below(2);
	p->ldy = p->o1 - p->o0 + below(3);
	for (size_t i = 0; i < 16; i++)
		p->table[i] =
			p->kind == LARGEST ? (i & 1 ? 63 : -64) : (int8_t)((int)below(128) - 64);
	g = (void *)(guarded + DATA_PAGE - q4_bytes(p->n_out, p->n_in));
	p->w = (struct weight){.data = g,
			       .table = p->table,
			       .n_out = (uint32_t)p->n_out,
			       .n_in = (uint32_t)p->n_in,
			       .type = WEIGHT_Q4};
	for (size_t i = 0; i < q4_bytes(p->n_out, p->n_in) / sizeof(*g); i++) {
		for (size_t k = 0; k < sizeof(g->code); k++)
			((uint8_t *)g[i].code)[k] = (uint8_t)random64();
		for (size_t r = 0; r < Q4_ROWS; r++)
			g[i].scale[r] = random_bf16(p->kind);
	}
	memset(x, 0, sizeof(x));
	for (size_t r = 0; r < p->rows; r++)
		for (size_t k = 0; k < p->n_in; k++)
			x[r * p->ldx * 128 + k] =
				random_bf16(p->kind == ANY_BITS && below(100) ? ORDINARY : p->kind);
}

static bool same_f32(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a + i, b + i, sizeof(*a)) && !(isnan(a[i]) && isnan(b[i])))
			return false;
	return true;
}

/* The padding of a block means nothing. */
static bool same_blocks(const struct int8_block *a, const struct int8_block *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a[i].q, b[i].q, sizeof(a->q)) ||
		    memcmp(a[i].start, b[i].start, sizeof(a->start)) ||
		    !same_f32(&a[i].scale, &b[i].scale, 1))
			return false;
	return true;
}

static void run_product(const struct cpu_kernels *k, const struct product *p,
			const struct int8_block *b, float *y)
{
	memset(y, 0x5a, sizeof(y_want));
	k->matmul_q4(y, p->ldy, &p->w, p->o0, p->o1, b, p->ldx, p->rows);
}

static void test_products(const struct cpu_kernels *table, size_t isas, size_t cases)
{
	size_t differ[CPU_ISA_COUNT] = {0}, blocks_differ[CPU_ISA_COUNT] = {0};

	for (size_t i = 0; i < cases; i++) {
		struct product p;
		size_t n;

		make_product(&p);
		n = p.ldx * p.rows;
		memset(blocks, 0x77, sizeof(blocks));
		table[0].to_int8(blocks[0], x, n * 128);
		run_product(&table[0], &p, blocks[0], y_want);
		for (size_t k = 1; k < isas; k++) {
			table[k].to_int8(blocks[1], x, n * 128);
			blocks_differ[k] += !same_blocks(blocks[0], blocks[1], n);
			run_product(&table[k], &p, blocks[0], y_got);
			if (!same_f32(y_got, y_want, p.ldy * p.rows) && !differ[k]++)
				diag("%s: n_out %zu n_in %zu rows [%zu, %zu) x rows %zu ldx %zu "
				     "ldy %zu kind %d",
				     cpu_isa_name(table[k].isa), p.n_out, p.n_in, p.o0, p.o1,
				     p.rows, p.ldx, p.ldy, p.kind);
		}
	}
	for (size_t k = 1; k < isas; k++) {
		ok(!differ[k], "matmul_q4 on %s has the scalar bits in %zu cases",
		   cpu_isa_name(table[k].isa), cases);
		ok(!blocks_differ[k], "to_int8 on %s has the scalar bits in %zu cases",
		   cpu_isa_name(table[k].isa), cases);
	}
}

/* Packs `plain`, [n_out, n_in], at the guard. */
static void pack(struct weight *w, size_t n_out, size_t n_in)
{
	uint8_t *at = guarded + DATA_PAGE - q4_bytes(n_out, n_in);

	*w = (struct weight){.data = at,
			     .table = q4_gaussian,
			     .n_out = (uint32_t)n_out,
			     .n_in = (uint32_t)n_in,
			     .type = WEIGHT_Q4};
	for (size_t o = 0; o < n_out; o += Q4_ROWS)
		q4_pack_tile((void *)(at + o / Q4_ROWS * q4_tile_bytes(n_in)), plain + o * n_in,
			     n_in, n_out - o < Q4_ROWS ? n_out - o : Q4_ROWS, n_in, q4_gaussian);
}

static void unpack_row(float *v, const struct weight *w, size_t o)
{
	const struct q4_group *tile = w->data;

	q4_unpack_row(v, tile + o / Q4_ROWS * q4_groups(w->n_in), o % Q4_ROWS, w->n_in, w->table);
}

static void test_packing(void)
{
	float row[IN_MAX], half[3] = {1.0f, NAN, 2.0f};
	double error = 0.0, size = 0.0;
	struct q4_group g;
	struct weight w;

	for (size_t i = 0; i < OUT_MAX * IN_MAX; i++)
		plain[i] = random_normal() * 0.02f;
	pack(&w, OUT_MAX, IN_MAX);
	for (size_t o = 0; o < OUT_MAX; o++) {
		unpack_row(row, &w, o);
		for (size_t k = 0; k < IN_MAX; k++) {
			double v = (double)plain[o * IN_MAX + k], d = v - (double)row[k];

			error += d * d;
			size += v * v;
		}
	}
	ok(sqrt(error / size) < 0.0745, "Gaussian weights in 4 bits are off by %.4f of their size",
	   sqrt(error / size));
	for (size_t i = 0; i < 16; i++)
		row[i] = (float)q4_gaussian[i] * 0.25f;
	q4_pack_tile(&g, row, 16, 1, 16, q4_gaussian);
	q4_unpack_row(plain, &g, 0, 16, q4_gaussian);
	ok(!memcmp(row, plain, 16 * sizeof(*row)), "numbers that the table has come back exactly");
	for (size_t i = 0; i < 16; i++)
		row[i] = -row[i];
	q4_pack_tile(&g, row, 16, 1, 16, q4_gaussian);
	q4_unpack_row(plain, &g, 0, 16, q4_gaussian);
	ok(!memcmp(row, plain, 16 * sizeof(*row)), "and so do their opposites, by a scale below 0");
	ok(!g.scale[1] && !g.scale[15], "rows that a tile lacks have scale 0");
	q4_pack_tile(&g, half, 3, 1, 3, q4_gaussian);
	q4_unpack_row(row, &g, 0, 3, q4_gaussian);
	ok(isnan(row[0]) && isnan(row[2]), "a group with a NaN becomes NaN");
}

static void test_definition(const struct cpu_kernels *k)
{
	float row[IN_MAX];
	double worst = 0.0;
	struct weight w;
	size_t n_in = 1000;

	for (size_t i = 0; i < 48 * n_in; i++)
		plain[i] = random_normal();
	pack(&w, 48, n_in);
	memset(x, 0, sizeof(x));
	for (size_t i = 0; i < n_in; i++)
		x[i] = random_bf16(ORDINARY);
	k->to_int8(blocks[0], x, pad128(n_in));
	k->matmul_q4(y_want, 48, &w, 0, 48, blocks[0], BLOCKS, 1);
	for (size_t o = 0; o < 48; o++) {
		double sum = 0.0, exact = 0.0, size = 0.0;

		unpack_row(row, &w, o);
		for (size_t i = 0; i < n_in; i++) {
			const struct int8_block *b = &blocks[0][i / 128];
			double v = (double)b->q[i % 128] * (double)b->scale;

			sum += (double)row[i] * v;
			size += fabs((double)row[i] * v);
			exact += (double)row[i] * (double)bf16_to_f32(x[i]);
		}
		if (!(fabs((double)y_want[o] - sum) <= size * 0x1p-21))
			worst = (double)INFINITY;
		if (fabs(exact - sum) / sqrt((double)n_in) > worst)
			worst = fabs(exact - sum) / sqrt((double)n_in);
	}
	ok(worst < 0.05, "products are near the sums in double; int8 activations cost %.4f at most",
	   worst);
	x[130] = 0x7f80;
	x[300] = 0x7fc0;
	for (size_t i = 384; i < 512; i++)
		x[i] = 0x0d7f; /* below 2^-100 */
	k->to_int8(blocks[0], x, pad128(n_in));
	ok(isnan(blocks[0][1].scale) && isnan(blocks[0][2].scale) && !isnan(blocks[0][0].scale),
	   "a block with an infinity or a NaN is NaN");
	ok(blocks[0][3].scale == 0.0f && !blocks[0][3].q[0] && !blocks[0][3].start[0],
	   "a block below 2^-100 is zero");
	k->matmul_q4(y_want, 48, &w, 0, 48, blocks[0], BLOCKS, 1);
	ok(isnan(y_want[0]) && isnan(y_want[47]), "and so is what it meets");
}

int main(int argc, char **argv)
{
	struct cpu_kernels table[CPU_ISA_COUNT];
	size_t cases = 400, isas = 0;

	for (int c; (c = getopt(argc, argv, "s:n:")) != -1;) {
		if (c == 's') {
			state = strtoull(optarg, NULL, 0);
		} else if (c == 'n') {
			cases = strtoull(optarg, NULL, 0);
		} else {
			fprintf(stderr, "usage: t_q4 [-s seed] [-n cases]\n");
			return 2;
		}
	}
	guarded = mmap(NULL, DATA_PAGE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (guarded == MAP_FAILED || mprotect(guarded + DATA_PAGE, 4096, PROT_NONE)) {
		perror("t_q4: guard page");
		return 1;
	}
	for (unsigned isa = 0; isa < CPU_ISA_COUNT; isa++) {
		if (cpu_isa_usable((enum cpu_isa)isa))
			cpu_kernels_init(&table[isas++], (enum cpu_isa)isa);
		else
			skip("this processor has no %s", cpu_isa_name((enum cpu_isa)isa));
	}
	cpu_thread_init();
	diag("seed %llu", (unsigned long long)state);
	if (!isas)
		return tap_done();
	test_packing();
	test_definition(&table[0]);
	test_products(table, isas, cases);
	return tap_done();
}
