/*
 * Rules 3 and 4 in SIMD registers, written once for AVX2, AVX-512 and AVX-512 with the BF16 dot
 * product; matmul.c and matmul_t.c are the definition. Included by matmul_<isa>.c, each of which
 * first defines
 *
 * 	VR                  stored rows per register: a register of sums holds VR rows x 4 lanes
 * 	GEMV                registers of rows in the kernel for few activation rows
 * 	PANEL, TOKENS       registers of rows, and activation rows, in the panel kernel
 * 	TOKENS_T            activation rows that the transposed kernel works on together
 * 	vbytes, vsum        16 * VR bytes; 4 * VR sums
 * 	vw, vx              4 * VR pairs of weights; 4 * VR pairs of activations
 * 	load_bytes(p), load_part(p, n)   16 * VR bytes; the first n of them, then zeros
 * 	transpose(v)        VR registers of one row each to VR of one 16-byte block of each row
 * 	decode(v, &a, &b)   E4M3 to BF16: the low and the high 8 bytes of each 16-byte block
 * 	pair_low(a, b), pair_high(a, b)   16-bit interleave of each block's low, its high half
 * 	weights(v)          BF16 pairs, made ready
 * 	keep(&w)            holds weights in registers: a compiler would load them for every row
 * 	block_x(p), pair_x(u)   8 activations for every row; one pair for every lane
 * 	dot(a, w, x)        two fma per lane, the odd element first
 * 	sum_zero, sum_add, sum_fold(a, s, t) = fma(a, s, t), sum_store(y, t)
 * 	sum_rows(y, t, n)   each row of n registers to one sum, in the order of rows
 *
 * Bytes and operations. Few rows: every weight byte once; 7 operations and 2 dot products per
 * activation row for 64 of them. Many rows: 256 dot products a block of 128 columns for PANEL * VR
 * rows by four activation rows, and 16 FMAs to fold them; 64 loads of 64 bytes and 64 broadcasts;
 * per block once 8 units of decoding (14 cycles each). README.md has the measured shares.
 *
 * Nothing here decides an order of additions that matmul.c does not have; what is chosen here is
 * how many independent sums are in flight, so that latency is hidden and a weight is decoded once
 * for several activation rows.
 */
#include "drivers/cpu/variants.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define RAW   (16 * VR) /* bytes of a row in one register */
#define FEW   4         /* activation rows up to which the kernel for few of them is used */
#define GROUP 128   /* activation rows whose sums are kept while a chunk of weights is decoded */
#define AHEAD 16384 /* bytes that are fetched at least before they are used by few rows */
#define CHUNK 4     /* blocks of 128 columns decoded together: the chunk stays in the first cache */

_Static_assert(GEMV <= PANEL, "put_rows has room for PANEL registers");

/*
 * Rows of one table of scales: [first, first + count) of a matrix, all with the same scale per
 * block of columns.
 */
struct span {
	const uint8_t *first;
	size_t stride, count; /* bytes; rows */
	size_t n;             /* columns */
	const float *scale;   /* one per 128 columns; BF16: unused */
	float *y;             /* y[r * ldy + i] is row i's */
	size_t ldy;
	const uint16_t *x;
	size_t ldx, rows;
};

/* Takes one 16-byte block of each of VR rows: 16 (FP8) or 8 (BF16) columns. */
INLINE void tile_step(vsum a[GEMV][FEW], const vbytes raw[GEMV], const uint16_t *x, size_t ldx,
		      int nt, int fp8)
{
	vbytes half[GEMV][2];

	UNROLL
	for (int v = 0; v < GEMV; v++) {
		if (fp8)
			decode(raw[v], &half[v][0], &half[v][1]);
		else
			half[v][0] = raw[v];
	}
	UNROLL
	for (int h = 0; h < 1 + fp8; h++) {
		vw w[GEMV];

		UNROLL
		for (int v = 0; v < GEMV; v++)
			w[v] = weights(half[v][h]);
		UNROLL
		for (int t = 0; t < nt; t++) {
			vx b = block_x(x + (size_t)t * ldx + 8 * h);

			UNROLL
			for (int v = 0; v < GEMV; v++)
				a[v][t] = dot(a[v][t], w[v], b);
		}
	}
}

/* One register's width of GEMV * VR rows; part: only that many bytes of each row exist. */
INLINE void tile_group(vsum a[GEMV][FEW], const uint8_t *const row[GEMV * VR], size_t at,
		       size_t part, const uint16_t *x, size_t ldx, int nt, int fp8)
{
	vbytes raw[GEMV][VR], step[GEMV];

	UNROLL
	for (int v = 0; v < GEMV; v++) {
		UNROLL
		for (int i = 0; i < VR; i++)
			raw[v][i] = part ? load_part(row[v * VR + i] + at, part)
					 : load_bytes(row[v * VR + i] + at);
		transpose(raw[v]);
	}
	UNROLL
	for (int i = 0; i < VR; i++) {
		UNROLL
		for (int v = 0; v < GEMV; v++)
			step[v] = raw[v][i];
		tile_step(a, step, x + (fp8 ? 16 : 8) * i, ldx, nt, fp8);
	}
}

/*
 * GEMV * VR rows by nt activation rows, straight from the stored bytes: for decoding, where reading
 * is the limit.
 */
INLINE void tile(const struct span *s, const uint8_t *const row[GEMV * VR], size_t r0, int nt,
		 int fp8, vsum t[GEMV][FEW])
{
	const size_t bytes = fp8 ? 1 : 2, group = RAW / bytes;
	const size_t group_bytes = GEMV * VR * s->stride;
	const size_t next = (AHEAD - 1) / group_bytes * group_bytes + group_bytes;
	const uint16_t *x = s->x + r0 * s->ldx;

	UNROLL
	for (int v = 0; v < GEMV; v++)
		UNROLL
	for (int i = 0; i < nt; i++)
		t[v][i] = sum_zero();
	for (size_t k = 0; k < s->n; k += 128) {
		size_t end = k + 128 < s->n ? k + 128 : s->n, c = k;
		vsum a[GEMV][FEW];

		UNROLL
		for (int v = 0; v < GEMV; v++)
			UNROLL
		for (int i = 0; i < nt; i++)
			a[v][i] = sum_zero();
		for (; c + group <= end; c += group) {
			/*
			 * The next rows, in the order of their addresses: the hardware does not see
			 * that far, and one stream is faster than one per row (0.92 instead of 0.85
			 * of a read loop).
			 */
			UNROLL
			for (int i = 0; i < GEMV * VR * RAW / 64; i++)
				_mm_prefetch((const char *)((uintptr_t)row[0] + next +
							    c * bytes * (GEMV * VR) +
							    (size_t)i * 64),
					     _MM_HINT_T0);
			tile_group(a, row, c * bytes, 0, x + c, s->ldx, nt, fp8);
		}
		if (c < end)
			tile_group(a, row, c * bytes, (end - c) * bytes, x + c, s->ldx, nt, fp8);
		UNROLL
		for (int v = 0; v < GEMV; v++)
			UNROLL
		for (int i = 0; i < nt; i++) {
			/* steps that are all padding were skipped: rule 3 asks for + 0 */
			if (end < k + 128)
				a[v][i] = sum_add(a[v][i], sum_zero());
			t[v][i] = fp8 ? sum_fold(a[v][i], s->scale[k / 128], t[v][i])
				      : sum_add(t[v][i], a[v][i]);
		}
	}
}

/* Rows beyond the last are the last one again; their sums are dropped. */
INLINE void row_pointers(const uint8_t **row, size_t count, const struct span *s, size_t o)
{
	for (size_t i = 0; i < count; i++)
		row[i] = s->first + (o + i < s->count ? o + i : s->count - 1) * s->stride;
}

INLINE void put_rows(const struct span *s, size_t r, size_t o, const vsum *t, int registers)
{
	float *to = s->y + r * s->ldy + o, y[PANEL * VR];
	size_t count = (size_t)registers * VR;

	if (count <= s->count - o) {
		sum_rows(to, t, registers);
		return;
	}
	sum_rows(y, t, registers);
	memcpy(to, y, (s->count - o) * sizeof(float));
}

INLINE void few_tokens(const struct span *s, size_t r0, int nt, int fp8)
{
	const uint8_t *row[GEMV * VR];

	for (size_t o = 0; o < s->count; o += GEMV * VR) {
		vsum t[GEMV][FEW];

		row_pointers(row, GEMV * VR, s, o);
		tile(s, row, r0, nt, fp8, t);
		for (int i = 0; i < nt; i++) {
			vsum column[GEMV];

			for (int v = 0; v < GEMV; v++)
				column[v] = t[v][i];
			put_rows(s, r0 + (size_t)i, o, column, GEMV);
		}
	}
}

/*
 * A chunk of weights: columns [k, k + 128 * blocks) of PANEL * VR rows, the first of which is row
 * o of the span.
 */
struct chunk {
	const uint8_t *row[PANEL * VR];
	size_t o, k, blocks;
};

/* Which chunk comes after this one; o is the span's count after the last. */
INLINE void chunk_next(struct chunk *c, const struct span *s)
{
	size_t left;

	c->k += 128 * CHUNK;
	if (c->k >= s->n) {
		c->k = 0;
		c->o += PANEL * VR;
		if (c->o < s->count)
			row_pointers(c->row, PANEL * VR, s, c->o);
	}
	left = (s->n - c->k + 127) / 128;
	c->blocks = left < CHUNK ? left : CHUNK;
}

/*
 * Decoding goes by units: one register's width of VR rows. A chunk is decoded when the one before
 * has met all activation rows; its bytes are fetched during that time, a few units before each part
 * of the rows, for what is read once does not lie in a cache. Decoding in between, too, is slower:
 * both need the processor's second and third port.
 */
INLINE size_t chunk_units(const struct chunk *c, int fp8)
{
	return c->blocks * (size_t)(128 * (fp8 ? 1 : 2) / RAW) * PANEL;
}

/* Unit u of a chunk; what lies beyond the columns becomes +0. */
INLINE void decode_unit(vw panel[CHUNK][16][PANEL], const struct span *s, const struct chunk *c,
			size_t u, int fp8)
{
	const size_t bytes = fp8 ? 1 : 2, group = RAW / bytes;
	size_t v = u % PANEL, at = u / PANEL * group, k = c->k + at;
	vw(*to)[PANEL] = &panel[at / 128][at % 128 / 8];
	vbytes raw[VR], low, high;

	UNROLL
	for (size_t i = 0; i < VR; i++) {
		const uint8_t *p = c->row[v * VR + i];

		if (k + group <= s->n)
			raw[i] = load_bytes(p + k * bytes);
		else
			raw[i] = load_part(p + (k < s->n ? k * bytes : 0),
					   k < s->n ? (s->n - k) * bytes : 0);
	}
	transpose(raw);
	UNROLL
	for (int i = 0; i < VR; i++) {
		if (fp8) {
			decode(raw[i], &low, &high);
			to[2 * i][v] = weights(low);
			to[2 * i + 1][v] = weights(high);
		} else {
			to[i][v] = weights(raw[i]);
		}
	}
}

/* One decoded block of PANEL * VR rows by nt activation rows. */
INLINE void panel_block(vsum (*t)[PANEL], vw w[16][PANEL], const uint16_t *x, size_t ldx,
			float scale, int nt, int fp8)
{
	vsum a[TOKENS][PANEL];

	UNROLL
	for (int i = 0; i < nt; i++)
		UNROLL
	for (int v = 0; v < PANEL; v++)
		a[i][v] = sum_zero();
	UNROLL
	for (int p = 0; p < 16; p++) {
		vw own[PANEL];

		UNROLL
		for (int v = 0; v < PANEL; v++) {
			own[v] = w[p][v];
			keep(&own[v]);
		}
		UNROLL
		for (int i = 0; i < nt; i++) {
			vx b = block_x(x + (size_t)i * ldx + 8 * p);

			UNROLL
			for (int v = 0; v < PANEL; v++)
				a[i][v] = dot(a[i][v], own[v], b);
		}
	}
	/* t stays where it is: a compiler would hold it on the stack too, and store it twice */
	__asm__ volatile("" : : : "memory");
	UNROLL
	for (int i = 0; i < nt; i++)
		UNROLL
	for (int v = 0; v < PANEL; v++)
		t[i][v] = fp8 ? sum_fold(a[i][v], scale, t[i][v]) : sum_add(t[i][v], a[i][v]);
}

INLINE void panel_tokens(vsum (*t)[PANEL], const struct span *s, vw panel[CHUNK][16][PANEL],
			 size_t r, size_t k, size_t blocks, int nt, int fp8)
{
	for (size_t b = 0; b < blocks; b++)
		panel_block(t, panel[b], s->x + r * s->ldx + k + 128 * b, s->ldx,
			    fp8 ? s->scale[k / 128 + b] : 1.0f, nt, fp8);
}

INLINE void fetch_unit(const struct chunk *c, size_t u, int fp8)
{
	size_t at = c->k * (fp8 ? 1 : 2) + u / PANEL * RAW;

	UNROLL
	for (size_t i = 0; i < VR; i++)
		_mm_prefetch((const char *)((uintptr_t)c->row[u % PANEL * VR + i] + at),
			     _MM_HINT_T0);
}

/*
 * Activation rows [r0, r1) by a decoded chunk, in parts of at most TOKENS rows whose sizes differ
 * by one at most; meanwhile the next chunk is fetched, if there is one.
 */
INLINE void panel_rows(vsum (*t)[PANEL], const struct span *s, const struct chunk *c,
		       vw panel[CHUNK][16][PANEL], const struct chunk *next, size_t r0, size_t r1,
		       int fp8)
{
	size_t parts = (r1 - r0 + TOKENS - 1) / TOKENS, unit = 0;
	size_t units = next->o < s->count ? chunk_units(next, fp8) : 0;
	size_t each = (units + parts - 1) / parts;

	for (size_t r = r0, nt; r < r1; r += nt, parts--) {
		for (size_t i = 0; i < each && unit < units; i++)
			fetch_unit(next, unit++, fp8);
		nt = (r1 - r) / parts;
		switch (nt) {
#if TOKENS > 5
		case 6:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 6, fp8);
			break;
#endif
#if TOKENS > 4
		case 5:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 5, fp8);
			break;
#endif
#if TOKENS > 3
		case 4:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 4, fp8);
			break;
#endif
#if TOKENS > 2
		case 3:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 3, fp8);
			break;
#endif
		case 2:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 2, fp8);
			break;
		default:
			panel_tokens(t + (r - r0), s, panel, r, c->k, c->blocks, 1, fp8);
			break;
		}
	}
}

INLINE void decode_chunk(vw panel[CHUNK][16][PANEL], const struct span *s, const struct chunk *c,
			 int fp8)
{
	for (size_t u = 0; u < chunk_units(c, fp8); u++)
		decode_unit(panel, s, c, u, fp8);
}

/* Activation rows [r0, r1), at most GROUP: weights are decoded once for all of them. */
INLINE void many_tokens(const struct span *s, size_t r0, size_t r1, int fp8)
{
	vw panel[CHUNK][16][PANEL];
	vsum t[GROUP][PANEL];
	struct chunk now = {.k = 0}, next;

	row_pointers(now.row, PANEL * VR, s, 0);
	now.blocks = (s->n + 127) / 128 < CHUNK ? (s->n + 127) / 128 : CHUNK;
	for (; now.o < s->count; now = next) {
		if (now.k == 0)
			for (size_t r = 0; r < r1 - r0; r++)
				for (int v = 0; v < PANEL; v++)
					t[r][v] = sum_zero();
		decode_chunk(panel, s, &now, fp8);
		next = now;
		chunk_next(&next, s);
		panel_rows(t, s, &now, panel, &next, r0, r1, fp8);
		if (next.o != now.o)
			for (size_t r = r0; r < r1; r++)
				put_rows(s, r, now.o, t[r - r0], PANEL);
	}
}

INLINE void span_product(const struct span *s, int fp8)
{
	size_t r = 0;

	while (s->rows - r > FEW) {
		size_t end = s->rows - r > GROUP ? r + GROUP : s->rows;

		many_tokens(s, r, end, fp8);
		r = end;
	}
	switch (s->rows - r) {
	case 1:
		few_tokens(s, r, 1, fp8);
		break;
	case 2:
		few_tokens(s, r, 2, fp8);
		break;
	case 3:
		few_tokens(s, r, 3, fp8);
		break;
	case 4:
		few_tokens(s, r, 4, fp8);
		break;
	default:
		break;
	}
}

static __attribute__((noinline)) void span_product_bf16(const struct span *s)
{
	span_product(s, 0);
}

static __attribute__((noinline)) void span_product_fp8(const struct span *s)
{
	span_product(s, 1);
}

static void matmul_simd(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
			const uint16_t *x, size_t ldx, size_t rows)
{
	size_t n = w->n_in, blocks = (n + 127) / 128, bytes = w->type == WEIGHT_FP8 ? 1 : 2;
	struct span s = {.stride = n * bytes, .n = n, .ldy = ldy, .x = x, .ldx = ldx, .rows = rows};

	for (size_t o = out0; o < out1; o += s.count) {
		/* FP8 rows are taken up to the next row of scales */
		s.count = out1 - o;
		if (w->type == WEIGHT_FP8 && s.count > 128 - o % 128)
			s.count = 128 - o % 128;
		s.first = (const uint8_t *)w->data + o * s.stride;
		s.y = y + (o - out0);
		if (w->type == WEIGHT_FP8) {
			s.scale = w->scale + o / 128 * blocks;
			span_product_fp8(&s);
		} else {
			span_product_bf16(&s);
		}
	}
}

static void dot_rows_simd(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys,
			  size_t n, const uint16_t *x, size_t ldx, size_t rows)
{
	struct span s = {.first = (const uint8_t *)key,
			 .stride = ldk * sizeof(*key),
			 .count = keys,
			 .n = n,
			 .y = y,
			 .ldy = ldy,
			 .x = x,
			 .ldx = ldx,
			 .rows = rows};

	if (keys)
		span_product_bf16(&s);
}

#include "drivers/cpu/matmul_t_simd.h"

static void fill_matmul_table(struct cpu_kernels *k)
{
	k->matmul = matmul_simd;
	k->dot_rows = dot_rows_simd;
	k->matmul_t = matmul_t_simd;
	k->dot_rows_t = dot_rows_t_simd;
}
