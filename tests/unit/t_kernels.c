/*
 * The kernel checker: every entry of the table on every instruction set of this processor, against
 * the scalar definition, bit for bit (NaNs are equal to each other), over ragged shapes, strides,
 * slices and awkward values. Weights end at a page that must not be touched. The definition itself
 * is checked against sums in double precision. -s N chooses the seed, -n N the number of random
 * cases per entry; -b times the entries instead (-t N: by N threads, -i NAME: one instruction set).
 */
#include "drivers/cpu/kernels.h"
#include "drivers/cpu/math.h"
#include "tests/tap.h"
#include "tests/unit/kernel_bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t state;

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

/* Kinds of values. ORDINARY ones are also compared with double precision. */
enum kind {
	ORDINARY,
	ZEROS,
	EXTREME,
	ANY_BITS,
	KINDS
};

static uint32_t random_f32_bits(enum kind kind)
{
	static const uint32_t odd[] = {0x7f7fffff, 0xff7fffff, 0x00800000, 0x80800001, 0x00000001,
				       0x807fffff, 0x00400000, 0x7f800000, 0x3f800000, 0x80000000};
	uint32_t r = (uint32_t)random64();

	switch (kind) {
	case ORDINARY: /* 2^-8 to 2^3, either sign */
		return (r & 0x807fffff) | (119 + (r >> 8) % 11) << 23;
	case ZEROS:
		return r & 3 ? (r & 0x80000000) : 0x3f800000 | (r & 0x807ffffc);
	case EXTREME: /* edges, and numbers whose products fall below 2^-126 */
		if (r & 1)
			return PICK(odd);
		return (r & 0x807ffffe) | (r & 2 ? 60 + (r >> 8) % 8 : 1 + (r >> 8) % 80) << 23;
	default:
		return r;
	}
}

static void fill_f32(float *x, size_t n, enum kind kind)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u = random_f32_bits(kind);

		memcpy(x + i, &u, sizeof(u));
	}
}

static void fill_bf16(void *x, size_t n, enum kind kind)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t u = (uint16_t)(random_f32_bits(kind) >> 16);

		memcpy((uint8_t *)x + 2 * i, &u, sizeof(u));
	}
}

static void fill_fp8(uint8_t *x, size_t n, enum kind kind)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)random64();

		if (kind != ANY_BITS && (c & 127) == 127)
			c ^= 1;
		if (kind == ZEROS && below(4))
			c &= 0x87; /* zeros and subnormals */
		x[i] = c;
	}
}

/* A block that ends where an unreadable page begins. */
struct guarded {
	uint8_t *map;
	size_t size, page;
};

static void guarded_open(struct guarded *g, size_t size)
{
	g->page = 4096;
	g->size = (size + g->page - 1) / g->page * g->page;
	g->map = mmap(NULL, g->size + g->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (g->map == MAP_FAILED || mprotect(g->map + g->size, g->page, PROT_NONE)) {
		perror("t_kernels: guard page");
		exit(1);
	}
}

static void *guarded_at(const struct guarded *g, size_t bytes)
{
	return g->map + g->size - bytes;
}

#define Y_MAX      (1 << 16)
#define X_MAX      (1 << 18)
#define W_MAX      (1 << 20)
#define N_MAX      1200
#define SCALES_MAX 1024

static struct guarded weights, keys, scores;
static _Alignas(64) uint16_t x_bf16[X_MAX];
static float scales[SCALES_MAX], y_want[Y_MAX], y_got[Y_MAX];
static float in_a[N_MAX], in_b[N_MAX];

static bool same_f32(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a + i, b + i, sizeof(*a)) && !(isnan(a[i]) && isnan(b[i])))
			return false;
	return true;
}

static bool same_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i] && !((a[i] & 0x7fff) > 0x7f80 && (b[i] & 0x7fff) > 0x7f80))
			return false;
	return true;
}

/* A case of one of the four matrix products; what the fields mean depends on the entry. */
struct product {
	enum {
		MATMUL,
		DOT_ROWS,
		MATMUL_T,
		DOT_ROWS_T,
		PRODUCTS
	} entry;
	enum kind kind;
	uint32_t type;
	size_t n_out, n_in, o0, o1, ldw, rows, ldx, ldy;
	bool odd_address;
	struct weight w;
	const uint16_t *key;
};

static const char *const product_names[PRODUCTS] = {"matmul", "dot_rows", "matmul_t", "dot_rows_t"};

static void make_product(struct product *p)
{
	static const size_t widths[] = {1,   2,   7,   15,  16,  17,  31,  32,  33,  63,
					64,  65,  96,  127, 128, 129, 160, 192, 255, 256,
					257, 320, 384, 512, 576, 640, 641, 1000};
	static const size_t heights[] = {1,  2,  3,  4,  5,   7,   8,   9,
					 15, 16, 17, 33, 100, 140, 257, 300};
	static const size_t rows[] = {1, 1, 2, 3, 4, 5, 6, 9, 10, 11, 17, 131};
	bool transposed = p->entry == MATMUL_T || p->entry == DOT_ROWS_T;
	bool matrix = p->entry == MATMUL || p->entry == MATMUL_T;
	size_t bytes, contraction, outputs;

	do {
		p->kind = (enum kind)below(KINDS);
		p->type = matrix && below(2) ? WEIGHT_FP8 : WEIGHT_BF16;
		p->n_in = PICK(widths);
		p->n_out = PICK(heights);
		p->o0 = matrix ? below(p->n_out) : 0;
		p->o1 = matrix ? p->o0 + 1 + below(p->n_out - p->o0) : p->n_out;
		p->ldw = p->n_in + (matrix ? 0 : below(2) * below(70));
		p->rows = PICK(rows);
		contraction = transposed ? p->o1 - p->o0 : p->n_in;
		outputs = transposed ? p->n_in : p->o1 - p->o0;
		p->ldx = pad128(contraction) + below(3) * 32;
		p->ldy = outputs + below(3);
	} while (p->ldy * p->rows > Y_MAX || p->ldx * p->rows > X_MAX ||
		 p->ldw * p->n_out * 2 > W_MAX || outputs * contraction * p->rows > 4000000);

	bytes = p->type == WEIGHT_FP8 ? 1 : 2;
	p->odd_address = matrix && below(4) == 0;
	p->w = (struct weight){
		.data = guarded_at(&weights, (p->n_out * p->n_in) * bytes + p->odd_address),
		.scale = p->type == WEIGHT_FP8 ? scales : NULL,
		.n_out = (uint32_t)p->n_out,
		.n_in = (uint32_t)p->n_in,
		.type = p->type};
	if (p->type == WEIGHT_FP8)
		fill_fp8(guarded_at(&weights, p->n_out * p->n_in + p->odd_address),
			 p->n_out * p->n_in, p->kind);
	else if (matrix)
		fill_bf16(guarded_at(&weights, p->n_out * p->n_in * 2 + p->odd_address),
			  p->n_out * p->n_in, p->kind);
	fill_f32(scales, pad128(p->n_out) / 128 * (pad128(p->n_in) / 128), p->kind);
	if (!matrix) { /* NaN between the rows; the last row ends at the guard */
		uint16_t *key = guarded_at(&keys, ((p->n_out - 1) * p->ldw + p->n_in) * 2);

		memset(key, 0xff, ((p->n_out - 1) * p->ldw + p->n_in) * 2);
		for (size_t j = 0; j < p->n_out; j++)
			fill_bf16(key + j * p->ldw, p->n_in, p->kind);
		p->key = key;
	}
	memset(x_bf16, 0xff, p->ldx * p->rows * 2);
	for (size_t r = 0; r < p->rows; r++) {
		fill_bf16(x_bf16 + r * p->ldx, contraction, p->kind);
		if (!transposed)
			memset(x_bf16 + r * p->ldx + contraction, 0,
			       (pad128(contraction) - contraction) * 2);
	}
}

static void run_product(const struct cpu_kernels *k, const struct product *p, float *y)
{
	memset(y, 0x5a, p->ldy * p->rows * sizeof(*y));
	switch (p->entry) {
	case MATMUL:
		k->matmul(y, p->ldy, &p->w, p->o0, p->o1, x_bf16, p->ldx, p->rows);
		break;
	case DOT_ROWS:
		k->dot_rows(y, p->ldy, p->key, p->ldw, p->n_out, p->n_in, x_bf16, p->ldx, p->rows);
		break;
	case MATMUL_T:
		k->matmul_t(y, p->ldy, &p->w, p->o0, p->o1, x_bf16, p->ldx, p->rows);
		break;
	default:
		k->dot_rows_t(y, p->ldy, p->key, p->ldw, p->n_out, p->n_in, x_bf16, p->ldx,
			      p->rows);
		break;
	}
}

/*
 * Whether the definition's sums are near those in double: each of the additions loses at most 2^-24
 * of the whole.
 */
static bool near_double(const struct product *p, const float *y)
{
	bool transposed = p->entry == MATMUL_T || p->entry == DOT_ROWS_T;
	bool matrix = p->entry == MATMUL || p->entry == MATMUL_T;
	size_t outputs = transposed ? p->n_in : p->o1 - p->o0;
	size_t contraction = transposed ? p->o1 - p->o0 : p->n_in, blocks = (p->n_in + 127) / 128;

	for (size_t r = 0; r < p->rows; r++)
		for (size_t c = 0; c < outputs; c++) {
			double sum = 0.0, size = 0.0, tolerance;

			for (size_t i = 0; i < contraction; i++) {
				size_t row = p->o0 + (transposed ? i : c), col = transposed ? c : i;
				size_t at = row * p->ldw + col;
				const uint8_t *data = matrix ? p->w.data : (const void *)p->key;
				uint16_t half;
				double v;

				memcpy(&half, data + (p->type == WEIGHT_FP8 ? 0 : 2 * at), 2);
				v = p->type == WEIGHT_FP8
					    ? (double)e4m3_to_f32(data[at]) *
						      (double)scales[row / 128 * blocks + col / 128]
					    : (double)bf16_to_f32(half);
				v *= (double)bf16_to_f32(x_bf16[r * p->ldx + i]);
				sum += v;
				size += fabs(v);
			}
			tolerance = size * 0x1p-24 * (32.0 + (double)contraction / 64.0);
			if (!(fabs((double)y[r * p->ldy + c] - sum) <= tolerance)) {
				diag("row %zu output %zu: %a, in double %a", r, c,
				     (double)y[r * p->ldy + c], sum);
				return false;
			}
		}
	return true;
}

static void describe(const char *what, const struct product *p)
{
	diag("%s: %s %s n_out %zu n_in %zu rows [%zu, %zu) ldw %zu x rows %zu ldx %zu ldy %zu kind "
	     "%d%s",
	     what, product_names[p->entry], p->type == WEIGHT_FP8 ? "fp8" : "bf16", p->n_out,
	     p->n_in, p->o0, p->o1, p->ldw, p->rows, p->ldx, p->ldy, p->kind,
	     p->odd_address ? " odd address" : "");
}

static void test_products(const struct cpu_kernels *table, size_t isas, size_t cases)
{
	size_t differ[PRODUCTS][CPU_ISA_COUNT] = {0}, far[PRODUCTS] = {0}, checked = 0;

	for (unsigned e = 0; e < PRODUCTS; e++) {
		for (size_t i = 0; i < cases; i++) {
			struct product p = {.entry = e};

			make_product(&p);
			run_product(&table[0], &p, y_want);
			if (p.kind == ORDINARY && p.rows < 12) {
				checked++;
				if (!near_double(&p, y_want) && !far[e]++)
					describe("far from double", &p);
			}
			for (size_t k = 1; k < isas; k++) {
				run_product(&table[k], &p, y_got);
				if (!same_f32(y_got, y_want, p.ldy * p.rows) && !differ[e][k]++)
					describe(cpu_isa_name(table[k].isa), &p);
			}
		}
		ok(!far[e], "%s by the definition is near the sum in double", product_names[e]);
		for (size_t k = 1; k < isas; k++)
			ok(!differ[e][k], "%s on %s has the scalar bits in %zu cases",
			   product_names[e], cpu_isa_name(table[k].isa), cases);
	}
	ok(checked > cases / 4, "%zu cases were compared with double", checked);
}

/* The vector entries. Each writes what it gives into floats or BF16 numbers. */
#define VECTOR_LIST(X)                                                                             \
	X(RMSNORM, rmsnorm)                                                                        \
	X(TO_BF16, to_bf16)                                                                        \
	X(SILU_MUL, silu_mul)                                                                      \
	X(AXPY, axpy)                                                                              \
	X(ADD, add)                                                                                \
	X(EXP, exp)                                                                                \
	X(SIGMOID, sigmoid)                                                                        \
	X(SOFTMAX, softmax_segment)                                                                \
	X(COMBINE, combine)                                                                        \
	X(ROPE, rope)                                                                              \
	X(SUM, sum)                                                                                \
	X(SCALE, scale)                                                                            \
	X(ARGMAX, argmax)                                                                          \
	X(ALL_FINITE, all_finite)

#define ENUM_ITEM(item, name) V_##item,
#define NAME_ITEM(item, name) #name,
enum vector_entry {
	VECTOR_LIST(ENUM_ITEM) VECTORS
};
static const char *const vector_names[VECTORS] = {VECTOR_LIST(NAME_ITEM)};

struct outcome {
	float f[N_MAX];
	uint16_t h[N_MAX];
	size_t index;
};

struct vector_case {
	enum vector_entry entry;
	enum kind kind;
	size_t n, first;
	bool in_place;
	float a, b;
};

static void run_vector(const struct cpu_kernels *k, const struct vector_case *c, struct outcome *o)
{
	float *y = o->f;
	size_t n = c->n;

	memset(o, 0x5a, sizeof(*o));
	if (c->in_place || c->entry == V_AXPY || c->entry == V_COMBINE || c->entry == V_ROPE)
		memcpy(y, in_a, n * sizeof(*y));
	const float *a = c->in_place ? y : in_a;

	switch (c->entry) {
	case V_RMSNORM:
		k->rmsnorm(y, a, in_b, n, 1e-6f);
		break;
	case V_TO_BF16:
		k->to_bf16(o->h, in_a, n, n + c->first);
		break;
	case V_SILU_MUL:
		k->silu_mul(o->h, in_a, in_b, n, n + c->first);
		break;
	case V_AXPY:
		k->axpy(y, c->a, in_b, n);
		break;
	case V_ADD:
		k->add(y, a, in_b, n);
		break;
	case V_EXP:
		k->exp(y, a, n);
		break;
	case V_SIGMOID:
		k->sigmoid(y, a, n);
		break;
	case V_SOFTMAX: {
		float *s = guarded_at(&scores, n * sizeof(*s));

		memcpy(s, in_a, n * sizeof(*s));
		memset(s, 0xff, (c->first < n ? c->first : n) * sizeof(*s));
		k->softmax_segment(o->h, s, c->first, n, y, y + 1);
		break;
	}
	case V_COMBINE:
		k->combine(y, c->a, in_b, c->b, n);
		break;
	case V_ROPE:
		k->rope(y, in_b, n);
		break;
	case V_SUM:
		y[0] = k->sum(in_a, n);
		break;
	case V_SCALE:
		k->scale(y, a, c->a, n);
		break;
	case V_ARGMAX:
		o->index = k->argmax(in_a, n);
		break;
	default:
		o->index = k->all_finite(in_a, n);
		break;
	}
}

static void make_vector(struct vector_case *c)
{
	static const size_t lengths[] = {1,  2,  3,  7,   8,   9,   15,  16,  17,  31,   32,
					 33, 64, 96, 127, 128, 129, 255, 256, 576, 1000, 1024};
	size_t n = PICK(lengths);

	if (c->entry == V_SOFTMAX)
		n = 1 + below(256);
	c->n = n;
	c->kind = (enum kind)below(KINDS);
	c->first = c->entry == V_SOFTMAX ? below(3) * below(n + 1) / 2 : below(130);
	c->in_place = below(2);
	fill_f32(in_a, n, c->kind);
	fill_f32(in_b, n, c->kind);
	fill_f32(&c->a, 1, c->kind);
	fill_f32(&c->b, 1, c->kind);
	if (c->entry == V_ARGMAX || c->entry == V_ALL_FINITE || c->entry == V_SOFTMAX)
		switch (below(4)) {
		case 0: /* many ties */
			for (size_t i = 0; i < n; i++)
				in_a[i] = below(2) ? 1.0f : below(2) ? -0.0f : 0.0f;
			break;
		case 1: /* one odd one out */
			fill_f32(in_a, n, ORDINARY);
			fill_f32(in_a + below(n), 1, EXTREME);
			break;
		case 2:
			for (size_t i = 0; i < n; i++)
				in_a[i] = -in_a[i] * 20.0f;
			break;
		default:
			break;
		}
	if (c->entry == V_EXP || c->entry == V_SIGMOID || c->entry == V_SILU_MUL)
		for (size_t i = 0; i < n && c->kind == ORDINARY; i++)
			in_a[i] *= 12.0f;
}

static void test_vectors(const struct cpu_kernels *table, size_t isas, size_t cases)
{
	static struct outcome want, got;

	for (unsigned e = 0; e < VECTORS; e++) {
		size_t differ[CPU_ISA_COUNT] = {0};

		for (size_t i = 0; i < cases; i++) {
			struct vector_case c = {.entry = e};

			make_vector(&c);
			run_vector(&table[0], &c, &want);
			for (size_t k = 1; k < isas; k++) {
				run_vector(&table[k], &c, &got);
				if (same_f32(want.f, got.f, N_MAX) &&
				    same_bf16(want.h, got.h, N_MAX) && want.index == got.index)
					continue;
				if (!differ[k]++)
					diag("%s on %s: n %zu first %zu kind %d in place %d case "
					     "%zu",
					     vector_names[e], cpu_isa_name(table[k].isa), c.n,
					     c.first, c.kind, c.in_place, i);
			}
		}
		for (size_t k = 1; k < isas; k++)
			ok(!differ[k], "%s on %s has the scalar bits in %zu cases", vector_names[e],
			   cpu_isa_name(table[k].isa), cases);
	}
}

/*
 * A sweep with a step that meets all exponents and many mantissas; vectors of 1,000 and so with a
 * ragged end.
 */
static void test_exp_sweep(const struct cpu_kernels *table, size_t isas)
{
	size_t differ[CPU_ISA_COUNT] = {0};
	uint32_t u = 0;

	for (size_t i = 0; i < 1000; i++) {
		for (size_t l = 0; l < 1000; l++, u += 4295 * 999 + 2)
			memcpy(in_a + l, &u, sizeof(u));
		table[0].exp(y_want, in_a, 1000);
		table[0].sigmoid(y_want + 1000, in_a, 1000);
		for (size_t k = 1; k < isas; k++) {
			table[k].exp(y_got, in_a, 1000);
			table[k].sigmoid(y_got + 1000, in_a, 1000);
			differ[k] += !same_f32(y_want, y_got, 2000);
		}
	}
	for (size_t k = 1; k < isas; k++)
		ok(!differ[k],
		   "exp and sigmoid on %s have the scalar bits in a sweep of a million numbers",
		   cpu_isa_name(table[k].isa));
}

static void test_names(void)
{
	enum cpu_isa isa;

	for (unsigned i = 0; i < CPU_ISA_COUNT; i++)
		ok(!cpu_isa_parse(cpu_isa_name((enum cpu_isa)i), &isa) && isa == i,
		   "%s is known by its name", cpu_isa_name((enum cpu_isa)i));
	ok(!cpu_isa_parse("auto", &isa) && isa == cpu_isa_best() && cpu_isa_usable(isa),
	   "auto is the best usable one, here %s", cpu_isa_name(isa));
	is_int(cpu_isa_parse("sse9", &isa), -EINVAL, "another name is refused");
}

/* The definition where its answer is known. */
static void test_definition(const struct cpu_kernels *k)
{
	uint16_t p[256];
	float v[32] = {0}, m, l;
	double sum = 0.0;

	for (size_t i = 0; i < 32; i++)
		sum += (double)(v[i] = (float)i - 7.0f);
	ok((double)k->sum(v, 32) == sum, "a sum of small integers is exact");
	is_int((long long)k->argmax(v, 32), 31, "the largest is found");
	v[3] = v[31];
	is_int((long long)k->argmax(v, 32), 3, "of two equal ones the first is taken");
	v[9] = NAN;
	ok(k->argmax(v, 32) == SIZE_MAX, "a NaN has no place in an order");
	ok(!k->all_finite(v, 32) && k->all_finite(v, 9),
	   "all_finite sees the NaN, and only where it is");
	k->softmax_segment(p, v, 2, 2, &m, &l);
	ok(m == -INFINITY && l == 0.0f && !p[0] && !p[255], "a segment without keys has sum 0");
	v[0] = NAN;
	v[1] = v[2] = 3.0f;
	k->softmax_segment(p, v, 1, 3, &m, &l);
	ok(m == 3.0f && l == 2.0f && p[0] == 0 && p[1] == 0x3f80 && p[2] == 0x3f80 && p[3] == 0,
	   "two equal keys have weight 1 each, missing ones none, whatever lies there");
	for (size_t i = 0; i < 32; i++)
		v[i] = 2.0f;
	k->rmsnorm(v, v, v, 32, 0.0f);
	ok(v[0] == 2.0f && v[31] == 2.0f, "a vector of twos has norm 1 each, times its weight");
}

struct options {
	size_t cases;
	unsigned threads;
	bool bench, one;
	enum cpu_isa isa;
};

static bool parse(struct options *o, int argc, char **argv)
{
	for (int c; (c = getopt(argc, argv, "s:n:bt:i:")) != -1;) {
		switch (c) {
		case 's':
			state = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			o->cases = strtoull(optarg, NULL, 0);
			break;
		case 'b':
			o->bench = true;
			break;
		case 't':
			o->threads = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'i':
			o->one = true;
			if (cpu_isa_parse(optarg, &o->isa))
				return false;
			break;
		default:
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	struct options o = {.cases = 150, .threads = 1};
	struct cpu_kernels table[CPU_ISA_COUNT];
	unsigned isas = 0;

	state = 1;
	if (!parse(&o, argc, argv)) {
		fprintf(stderr,
			"usage: t_kernels [-s seed] [-n cases] [-b [-t threads]] [-i isa]\n");
		return 2;
	}
	for (unsigned isa = 0; isa < CPU_ISA_COUNT; isa++) {
		if (o.one && isa != o.isa && (o.bench || isa != CPU_SCALAR))
			continue;
		if (cpu_isa_usable((enum cpu_isa)isa))
			cpu_kernels_init(&table[isas++], (enum cpu_isa)isa);
		else if (!o.bench)
			skip("this processor has no %s", cpu_isa_name((enum cpu_isa)isa));
	}
	cpu_thread_init();
	if (o.bench)
		return kernel_bench(table, isas, o.threads) ? 1 : 0;
	diag("seed %llu", (unsigned long long)state);
	guarded_open(&weights, W_MAX + 1);
	guarded_open(&keys, W_MAX);
	guarded_open(&scores, 4096);
	if (!isas)
		return tap_done();
	test_names();
	test_definition(&table[0]);
	test_exp_sweep(table, isas);
	test_products(table, isas, o.cases);
	test_vectors(table, isas, o.cases * 10);
	return tap_done();
}
