/*
 * Rule 13's products in SIMD registers, written once for AVX2, AVX-512 and AVX-512 with VNNI;
 * matmul_q4.c is the definition. Included by matmul_q4_<isa>.c, each of which first defines
 *
 * 	PARTS               registers of a tile: 16 rows in dwords
 * 	TILES, TOKENS       tiles and activation rows that the panel kernel works on together
 * 	vbytes, vint, vsum  64 / PARTS bytes; dwords; sums
 * 	load_bytes(p), store_bytes(p, v)
 * 	load_table(t)       T + 64 for look()
 * 	look(t, v, &low, &high)   codes to T + 64: of the low nibbles, of the high ones
 * 	int_set(i), int_dot(a, u, q)   a + each dword's dot product, u's bytes without sign
 * 	sum_zero, sum_int(a), sum_scales(p) BF16 widened, sum_fma(a, b, c), sum_set(x),
 * 	sum_store(y, t)
 *
 * A group's sum of (T + 64) * q, begun at -64 times the sum of q, is the exact integer that the
 * rule asks for, in any order; the FP32 operations follow the definition's order.
 *
 * Bytes and operations: a tile and group are 288 bytes; each of their four vectors of 64 bytes
 * takes 5 operations to decode, and 2 dot products per activation row. With VNNI and one row a
 * group is 35 operations, so 8 bytes each, where memory gives two cores 6 to 7 bytes per cycle.
 * Measured (2 threads, t_kernels -b): 0.97-0.98 of the best read loop with one row on all three,
 * 0.94 with four rows and VNNI; with many rows 1.57 times the peak of the BF16 dot product.
 */
#include "drivers/cpu/variants.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define FEW   4            /* activation rows up to which the kernel for few of them is used */
#define ROWS  128          /* activation rows whose sums are kept while a panel is decoded */
#define CHUNK 4            /* blocks decoded together: the panel stays in the first cache */
#define BYTES (64 / PARTS) /* of a register */
#define LANES (16 / PARTS)

/* Tiles of a matrix by rows of activations. */
struct q4_span {
	const struct q4_group *first; /* of the first tile */
	size_t groups;                /* of a tile */
	const int8_t *table;
	const struct int8_block *x;
	size_t ldx;
};

/* One group of a tile by nt rows: int32 dot products, in FP32 scaled and added to a. */
INLINE void group_few(vsum a[FEW][PARTS], const struct q4_group *g, vbytes table,
		      const struct int8_block *x, size_t ldx, size_t i, int nt)
{
	UNROLL
	for (int h = 0; h < PARTS; h++) {
		vint sum[FEW][2];
		vsum scale = sum_scales(g->scale + LANES * h);

		UNROLL
		for (int r = 0; r < nt; r++) {
			sum[r][0] = int_set(x[(size_t)r * ldx].start[i]);
			sum[r][1] = int_set(0);
		}
		UNROLL
		for (int j = 0; j < 4; j++) {
			vbytes low, high;

			look(table, load_bytes((const uint8_t *)g->code[j] + BYTES * h), &low,
			     &high);
			UNROLL
			for (int r = 0; r < nt; r++) {
				const int8_t *q =
					x[(size_t)r * ldx].q + Q4_GROUP * i + 4 * (size_t)j;

				sum[r][0] = int_dot(sum[r][0], low, q);
				sum[r][1] = int_dot(sum[r][1], high, q + 16);
			}
		}
		UNROLL
		for (int r = 0; r < nt; r++)
			a[r][h] = sum_fma(sum_int(int_add(sum[r][0], sum[r][1])), scale, a[r][h]);
	}
}

/*
 * One tile by nt rows, straight from the stored bytes: for decoding, where reading is the limit.
 * What is prefetched is the same group of the next tile.
 */
INLINE void tile_few(const struct q4_span *s, size_t tile, size_t r0, int nt, vsum t[FEW][PARTS])
{
	const struct q4_group *g = s->first + tile * s->groups;
	const struct int8_block *x = s->x + r0 * s->ldx;
	const vbytes table = load_table(s->table);

	UNROLL
	for (int r = 0; r < nt; r++)
		UNROLL
	for (int h = 0; h < PARTS; h++)
		t[r][h] = sum_zero();
	for (size_t k = 0; k < s->groups; x++) {
		size_t n = s->groups - k < 4 ? s->groups - k : 4;
		vsum a[FEW][PARTS];

		UNROLL
		for (int r = 0; r < nt; r++)
			UNROLL
		for (int h = 0; h < PARTS; h++)
			a[r][h] = sum_zero();
		for (size_t i = 0; i < n; i++, k++) {
			UNROLL
			for (size_t line = 0; line < sizeof(*g); line += 64)
				_mm_prefetch((const char *)((uintptr_t)(g + k + s->groups) + line),
					     _MM_HINT_T0);
			group_few(a, g + k, table, x, s->ldx, i, nt);
		}
		UNROLL
		for (int r = 0; r < nt; r++)
			UNROLL
		for (int h = 0; h < PARTS; h++)
			t[r][h] = sum_fma(a[r][h], sum_set(x[(size_t)r * s->ldx].scale), t[r][h]);
	}
}

/* Outputs [from, to) of a tile. */
INLINE void put_tile(float *y, const vsum t[PARTS], size_t from, size_t to)
{
	float out[Q4_ROWS];

	UNROLL
	for (int h = 0; h < PARTS; h++)
		sum_store(out + LANES * h, t[h]);
	memcpy(y, out + from, (to - from) * sizeof(*y));
}

/* A decoded group of TILES tiles: T + 64 of inputs 4j to 4j + 3 in vector j, and the scales. */
struct q4_panel {
	_Alignas(64) uint8_t entry[8][TILES][64];
	float scale[TILES][Q4_ROWS];
};

INLINE void decode_group(struct q4_panel *p, const struct q4_group *g, int tile, vbytes table)
{
	UNROLL
	for (int h = 0; h < PARTS; h++) {
		UNROLL
		for (int j = 0; j < 4; j++) {
			vbytes low, high;

			look(table, load_bytes((const uint8_t *)g->code[j] + BYTES * h), &low,
			     &high);
			store_bytes(p->entry[j][tile] + BYTES * h, low);
			store_bytes(p->entry[j + 4][tile] + BYTES * h, high);
		}
		sum_store(p->scale[tile] + LANES * h, sum_scales(g->scale + LANES * h));
	}
}

/* One decoded block, `n` groups of it, by nt rows. */
INLINE void panel_block(vsum (*t)[TILES][PARTS], const struct q4_panel *p, size_t n,
			const struct int8_block *x, size_t ldx, int nt)
{
	vsum a[TOKENS][TILES][PARTS];

	UNROLL
	for (int r = 0; r < nt; r++)
		UNROLL
	for (int v = 0; v < TILES; v++)
		UNROLL
	for (int h = 0; h < PARTS; h++)
		a[r][v][h] = sum_zero();
	for (size_t i = 0; i < n; i++, p++) {
		vint sum[TOKENS][TILES][PARTS];

		UNROLL
		for (int r = 0; r < nt; r++)
			UNROLL
		for (int v = 0; v < TILES; v++)
			UNROLL
		for (int h = 0; h < PARTS; h++)
			sum[r][v][h] = int_set(x[(size_t)r * ldx].start[i]);
		UNROLL
		for (int j = 0; j < 8; j++) {
			UNROLL
			for (int v = 0; v < TILES; v++)
				UNROLL
			for (int h = 0; h < PARTS; h++) {
				vbytes e = load_bytes(p->entry[j][v] + BYTES * h);

				UNROLL
				for (int r = 0; r < nt; r++)
					sum[r][v][h] = int_dot(sum[r][v][h], e,
							       x[(size_t)r * ldx].q + Q4_GROUP * i +
								       4 * (size_t)j);
			}
		}
		UNROLL
		for (int r = 0; r < nt; r++)
			UNROLL
		for (int v = 0; v < TILES; v++)
			UNROLL
		for (int h = 0; h < PARTS; h++)
			a[r][v][h] = sum_fma(sum_int(sum[r][v][h]),
					     sum_load(p->scale[v] + LANES * h), a[r][v][h]);
	}
	UNROLL
	for (int r = 0; r < nt; r++)
		UNROLL
	for (int v = 0; v < TILES; v++)
		UNROLL
	for (int h = 0; h < PARTS; h++)
		t[r][v][h] = sum_fma(a[r][v][h], sum_set(x[(size_t)r * ldx].scale), t[r][v][h]);
}

/* Rows [0, rows) by the chunk that begins at block b, in parts of at most TOKENS rows. */
INLINE void panel_rows(vsum (*t)[TILES][PARTS], const struct q4_panel *panel, size_t groups,
		       const struct int8_block *x, size_t ldx, size_t rows)
{
	size_t parts = (rows + TOKENS - 1) / TOKENS;

	for (size_t r = 0, nt; r < rows; r += nt, parts--) {
		nt = (rows - r) / parts;
		for (size_t k = 0; k < groups; k += 4) {
			const struct int8_block *at = x + r * ldx + k / 4;
			size_t n = groups - k < 4 ? groups - k : 4;

			switch (nt) {
#if TOKENS > 3
			case 4:
				panel_block(t + r, panel + k, n, at, ldx, 4);
				break;
#endif
#if TOKENS > 2
			case 3:
				panel_block(t + r, panel + k, n, at, ldx, 3);
				break;
#endif
			case 2:
				panel_block(t + r, panel + k, n, at, ldx, 2);
				break;
			default:
				panel_block(t + r, panel + k, n, at, ldx, 1);
				break;
			}
		}
	}
}

/* What a product asks for: outputs [out0, out1) for rows of activations, at most ROWS. */
struct q4_job {
	struct q4_span s;
	float *y;
	size_t ldy, out0, out1, rows;
};

/* Puts row r's sums of one tile where they belong. */
INLINE void put_job(const struct q4_job *j, size_t tile, size_t r, const vsum t[PARTS])
{
	size_t first = tile * Q4_ROWS, from = first < j->out0 ? j->out0 - first : 0;
	size_t to = j->out1 - first < Q4_ROWS ? j->out1 - first : Q4_ROWS;

	put_tile(j->y + r * j->ldy + (first + from - j->out0), t, from, to);
}

static __attribute__((noinline)) void product_many(const struct q4_job *j)
{
	struct q4_panel panel[4 * CHUNK];
	vsum t[ROWS][TILES][PARTS];
	const vbytes table = load_table(j->s.table);
	size_t end = (j->out1 + Q4_ROWS - 1) / Q4_ROWS;

	for (size_t o = j->out0 / Q4_ROWS; o < end; o += TILES) {
		size_t tiles = end - o < TILES ? end - o : TILES;

		for (size_t r = 0; r < j->rows; r++)
			for (int v = 0; v < TILES; v++)
				for (int h = 0; h < PARTS; h++)
					t[r][v][h] = sum_zero();
		for (size_t k = 0; k < j->s.groups; k += 4 * CHUNK) {
			size_t n = j->s.groups - k < 4 * CHUNK ? j->s.groups - k : 4 * CHUNK;

			for (size_t v = 0; v < TILES; v++) {
				/* a tile that is not there is the last one again */
				const struct q4_group *g =
					j->s.first +
					(o + (v < tiles ? v : tiles - 1)) * j->s.groups;

				for (size_t i = 0; i < n; i++)
					decode_group(&panel[i], g + k + i, (int)v, table);
			}
			panel_rows(t, panel, n, j->s.x + k / 4, j->s.ldx, j->rows);
		}
		for (size_t r = 0; r < j->rows; r++)
			for (size_t v = 0; v < tiles; v++)
				put_job(j, o + v, r, t[r][v]);
	}
}

INLINE void product_few(const struct q4_job *j, int nt)
{
	for (size_t o = j->out0 / Q4_ROWS; o * Q4_ROWS < j->out1; o++) {
		vsum t[FEW][PARTS];

		tile_few(&j->s, o, 0, nt, t);
		for (int r = 0; r < nt; r++)
			put_job(j, o, (size_t)r, t[r]);
	}
}

static __attribute__((noinline)) void product_1(const struct q4_job *j)
{
	product_few(j, 1);
}

static __attribute__((noinline)) void product_2(const struct q4_job *j)
{
	product_few(j, 2);
}

static __attribute__((noinline)) void product_3(const struct q4_job *j)
{
	product_few(j, 3);
}

static __attribute__((noinline)) void product_4(const struct q4_job *j)
{
	product_few(j, 4);
}

static void matmul_q4_simd(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
			   const struct int8_block *x, size_t ldx, size_t rows)
{
	static void (*const few[FEW + 1])(const struct q4_job *j) = {NULL, product_1, product_2,
								     product_3, product_4};

	for (size_t r = 0, n; r < rows; r += n) {
		struct q4_job j = {.s = {.first = w->data,
					 .groups = q4_groups(w->n_in),
					 .table = w->table,
					 .x = x + r * ldx,
					 .ldx = ldx},
				   .y = y + r * ldy,
				   .ldy = ldy,
				   .out0 = out0,
				   .out1 = out1};

		n = rows - r < ROWS ? rows - r : ROWS;
		j.rows = n;
		if (n <= FEW)
			few[n](&j);
		else
			product_many(&j);
	}
}
