/*
 * Rules 3 and 4 in SIMD registers, written once for AVX2, AVX-512 and AVX-512 with the BF16 dot
 * product; matmul.c and matmul_t.c are the definition. Included by matmul_<isa>.c, each of which
 * first defines
 *
 * 	VR                  stored rows per register: a register of sums holds VR rows x 4 lanes
 * 	PANEL, TOKENS       registers of rows, and activation rows, in the panel kernel
 * 	TOKENS_T            activation rows that the transposed kernel works on together
 * 	UNITS_T             units of columns, where it has one row
 * 	vbytes, vsum        16 * VR bytes; 4 * VR sums
 * 	vw, vx              4 * VR pairs of weights; 4 * VR pairs of activations
 * 	load_bytes(p), load_part(p, n)   16 * VR bytes; the first n of them, then zeros
 * 	zero_bytes()
 * 	transpose(v)        VR registers of one row each to VR of one 16-byte block of each row
 * 	decode(v, &a, &b)   E4M3 to BF16: the low and the high 8 bytes of each 16-byte block
 * 	pair_low(a, b), pair_high(a, b)   16-bit interleave of each block's low, its high half
 * 	weights(v)          BF16 pairs, made ready
 * 	keep(&w)            holds weights in registers: a compiler would load them for every row
 * 	block_x(p), pair_x(u)   8 activations for every row; one pair for every lane
 * 	dot(a, w, x)        two fma per lane, the odd element first
 * 	sum_zero, sum_add, sum_fold(a, s, t) = fma(a, s, t), sum_store(y, t)
 * 	sum_rows(y, t)      each row of PANEL registers to one sum, in the order of rows
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

#define RAW    (16 * VR) /* bytes of a row in one register */
#define FEW    4         /* activation rows up to which the kernel for few of them is used */
#define GROUP  128   /* activation rows whose sums are kept while a chunk of weights is decoded */
#define AHEAD  8192  /* bytes that few rows fetch before they use them */
#define SPREAD 32768 /* activations laid out for few rows: 64 KiB of stack, widened 128 */
#define CHUNK  4 /* blocks of 128 columns decoded together: the chunk stays in the first cache */

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
	const vx *few; /* few rows: x as spread() lays it out, `wide` columns of each; else NULL */
	size_t wide;
};

/* ---- Few activation rows: reading is the limit ---- */

/*
 * Blocks of 128 columns are independent until they are folded, so a register holds VR blocks of one
 * row, and memory is read from one end to the other (figures: drivers/cpu/README.md; two rows side
 * by side are slower, eight keep too much of the first cache waiting). Activations are laid out for
 * it: for each VR blocks and each step of 8 columns their VR times 8 activations, then the next
 * step's.
 */
#define WIDE (128 * VR) /* columns of a register's blocks */
#define STEP (8 * VR)   /* activations of a vx */

/*
 * The first nt rows of x, `wide` columns of each, +0 beyond the last block of n columns; then made
 * ready, from the last to the first, where a vx takes more room.
 */
static void spread(vx *to, const uint16_t *x, size_t ldx, size_t n, size_t wide, int nt)
{
	const __m128i zero = _mm_setzero_si128();
	uint16_t *raw = (uint16_t *)(void *)to;

	for (int t = 0; t < nt; t++)
		for (size_t k = 0; k < wide; k += 8) {
			size_t at = k / WIDE * WIDE + (k % 128 / 8 * VR + k % WIDE / 128) * 8;
			const __m128i *from =
				(const __m128i *)(const void *)(x + (size_t)t * ldx + k);

			_mm_store_si128((__m128i *)(void *)(raw + (size_t)t * wide + at),
					k < pad128(n) ? _mm_loadu_si128(from) : zero);
		}
	if (sizeof(vx) > sizeof(vbytes))
		for (size_t i = (size_t)nt * (wide / STEP); i-- > 0;)
			to[i] = weights(load_bytes(raw + i * STEP));
}

/*
 * One register's width of VR blocks of a row: columns [c, c + RAW / bytes) of each. `have`: bytes
 * that the row has from w on; not looked at if whole.
 */
INLINE void row_unit(vsum a[FEW], const uint8_t *w, size_t have, size_t c, const vx *x, size_t wide,
		     int whole, int nt, int fp8)
{
	const size_t bytes = fp8 ? 1 : 2;
	vbytes raw[VR], half[2];

	UNROLL
	for (size_t i = 0; i < VR; i++) {
		size_t at = (128 * i + c) * bytes;

		if (whole || at + RAW <= have)
			raw[i] = load_bytes(w + at);
		else if (at < have)
			raw[i] = load_part(w + at, have - at);
		else
			raw[i] = zero_bytes();
	}
	transpose(raw);
	UNROLL
	for (int i = 0; i < VR; i++) {
		if (fp8)
			decode(raw[i], &half[0], &half[1]);
		else
			half[0] = raw[i];
		UNROLL
		for (int h = 0; h < 1 + fp8; h++) {
			const vx *step = x + c / 8 + (size_t)((1 + fp8) * i + h);
			vw ready = weights(half[h]);

			UNROLL
			for (int t = 0; t < nt; t++)
				a[t] = dot(a[t], ready, step[(size_t)t * (wide / STEP)]);
		}
	}
}

/*
 * The blocks' sums, one after the other, to the row's. They go through memory: to take a register
 * apart needs the ports that decoding is short of.
 */
INLINE void row_fold(__m128 t[FEW], const vsum a[FEW], const float *scale, size_t blocks, int nt,
		     int fp8)
{
	_Alignas(64) float sums[FEW][4 * VR];

	UNROLL
	for (int k = 0; k < nt; k++) {
		sum_store(sums[k], a[k]);
		__asm__ volatile("" : "+m"(sums[k])); /* a compiler would see through it */
	}
	UNROLL
	for (size_t i = 0; i < VR; i++) {
		if (i >= blocks)
			break;
		UNROLL
		for (int k = 0; k < nt; k++)
			t[k] = fp8 ? _mm_fmadd_ps(_mm_load_ps(sums[k] + 4 * i),
						  _mm_set1_ps(scale[i]), t[k])
				   : _mm_add_ps(t[k], _mm_load_ps(sums[k] + 4 * i));
	}
}

INLINE void row_ahead(const uint8_t *w)
{
	UNROLL
	for (size_t i = 0; i < VR * RAW; i += 64)
		_mm_prefetch((const char *)((uintptr_t)w + AHEAD + i), _MM_HINT_T0);
}

/*
 * Less than VR blocks of a row, from column k on: those that are whole are loaded without a look at
 * what is left.
 */
INLINE void row_rest(__m128 t[FEW], const struct span *s, const uint8_t *w, size_t k, int nt,
		     int fp8)
{
	const size_t bytes = fp8 ? 1 : 2, unit = RAW / bytes;
	vsum a[FEW];

	UNROLL
	for (int i = 0; i < nt; i++)
		a[i] = sum_zero();
	UNROLL
	for (size_t c = 0; c < 128; c += unit) {
		if (c >= s->n - k)
			break;
		row_ahead(w + c * VR * bytes);
		row_unit(a, w, (s->n - k) * bytes, c, s->few + k / STEP, s->wide, 0, nt, fp8);
	}
	UNROLL
	for (int i = 0; i < nt; i++) /* for the steps left out */
		a[i] = sum_add(a[i], sum_zero());
	row_fold(t, a, fp8 ? s->scale + k / 128 : NULL, (s->n - k + 127) / 128, nt, fp8);
}

/* All blocks of one row. What comes AHEAD of it is fetched meanwhile, in the order of addresses. */
INLINE void row_product(__m128 t[FEW], const struct span *s, const uint8_t *row, int nt, int fp8)
{
	const size_t bytes = fp8 ? 1 : 2, unit = RAW / bytes;
	size_t k = 0;

	UNROLL
	for (int i = 0; i < nt; i++)
		t[i] = _mm_setzero_ps();
	for (; k + WIDE <= s->n; k += WIDE) {
		const uint8_t *w = row + k * bytes;
		vsum a[FEW];

		UNROLL
		for (int i = 0; i < nt; i++)
			a[i] = sum_zero();
		UNROLL
		for (size_t c = 0; c < 128; c += unit) {
			row_ahead(w + c * VR * bytes);
			row_unit(a, w, 0, c, s->few + k / STEP, s->wide, 1, nt, fp8);
		}
		row_fold(t, a, fp8 ? s->scale + k / 128 : NULL, VR, nt, fp8);
	}
	if (k < s->n)
		row_rest(t, s, row + k * bytes, k, nt, fp8);
}

INLINE void few_tokens(const struct span *s, int nt, int fp8)
{
	for (size_t o = 0; o < s->count; o++) {
		__m128 t[FEW];

		row_product(t, s, s->first + o * s->stride, nt, fp8);
		UNROLL
		for (int i = 0; i < nt; i++) {
			__m128 u = _mm_add_ps(t[i], _mm_movehl_ps(t[i], t[i]));

			s->y[(size_t)i * s->ldy + o] =
				_mm_cvtss_f32(_mm_add_ss(u, _mm_shuffle_ps(u, u, 1)));
		}
	}
}

/* ---- Many activation rows: multiplying is the limit ---- */

/* Rows beyond the last are the last one again; their sums are dropped. */
INLINE void row_pointers(const uint8_t **row, size_t count, const struct span *s, size_t o)
{
	for (size_t i = 0; i < count; i++)
		row[i] = s->first + (o + i < s->count ? o + i : s->count - 1) * s->stride;
	/* gcc keeps pointers in vector registers otherwise, and takes each out for every load */
	__asm__ volatile("" : : "r"(row) : "memory");
}

INLINE void put_rows(const struct span *s, size_t r, size_t o, const vsum t[PANEL])
{
	float *to = s->y + r * s->ldy + o, y[PANEL * VR];

	if (PANEL * VR <= s->count - o) {
		sum_rows(to, t);
		return;
	}
	sum_rows(y, t);
	memcpy(to, y, (s->count - o) * sizeof(float));
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
 * A register's width of VR rows, from byte `at` of each: 16 (BF16: 8) columns go to each of VR
 * steps. part: only so many bytes exist, what lies beyond becomes +0.
 */
INLINE void decode_unit(vw (*to)[PANEL], const uint8_t *const row[VR], size_t at, size_t part,
			int fp8)
{
	vbytes raw[VR], low, high;

	UNROLL
	for (int i = 0; i < VR; i++)
		raw[i] = part < RAW ? load_part(row[i] + (part ? at : 0), part)
				    : load_bytes(row[i] + at);
	transpose(raw);
	UNROLL
	for (int i = 0; i < VR; i++) {
		if (fp8) {
			decode(raw[i], &low, &high);
			to[2 * i][0] = weights(low);
			to[2 * i + 1][0] = weights(high);
		} else {
			to[i][0] = weights(raw[i]);
		}
	}
}

/* One block of 128 columns; `have` bytes of each row exist from byte `at` on. */
INLINE void decode_block(vw to[16][PANEL], const uint8_t *const row[PANEL * VR], size_t at,
			 size_t have, int whole, int fp8)
{
	const size_t bytes = fp8 ? 1 : 2, steps = RAW / bytes / 8;

	for (int v = 0; v < PANEL; v++) {
		UNROLL
		for (size_t u = 0; u < 128 * bytes; u += RAW) {
			size_t left = whole ? RAW : u < have ? have - u : 0;

			decode_unit((vw(*)[PANEL]) & to[u / RAW * steps][v], row + v * VR, at + u,
				    left < RAW ? left : RAW, fp8);
		}
	}
}

/*
 * A chunk is decoded when the one before has met all activation rows. Its bytes are fetched during
 * that time, a few lines before each part of the rows, for what is read once does not lie in a
 * cache. Decoding in between, too, is slower: both need the processor's second and third port.
 */
INLINE void decode_chunk(vw panel[CHUNK][16][PANEL], const struct span *s, const struct chunk *c,
			 int fp8)
{
	const size_t bytes = fp8 ? 1 : 2;

	for (size_t b = 0; b < c->blocks; b++) {
		size_t k = c->k + 128 * b;

		if (k + 128 <= s->n)
			decode_block(panel[b], c->row, k * bytes, 0, 1, fp8);
		else
			decode_block(panel[b], c->row, k * bytes, (s->n - k) * bytes, 0, fp8);
	}
}

INLINE size_t chunk_units(const struct chunk *c, int fp8)
{
	return c->blocks * (size_t)(128 * (fp8 ? 1 : 2) / RAW) * PANEL;
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
				put_rows(s, r, now.o, t[r - r0]);
	}
}

INLINE void span_product(const struct span *s, int fp8)
{
	for (size_t r = 0; !s->few && r < s->rows; r += GROUP)
		many_tokens(s, r, s->rows - r > GROUP ? r + GROUP : s->rows, fp8);
	switch (s->few ? s->rows : 0) {
	case 1:
		few_tokens(s, 1, fp8);
		break;
	case 2:
		few_tokens(s, 2, fp8);
		break;
	case 3:
		few_tokens(s, 3, fp8);
		break;
	case 4:
		few_tokens(s, 4, fp8);
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

/* A row of scales is read from memory once: the one that comes after this. */
static inline void fetch_scales(const float *scale, size_t n)
{
	for (size_t i = 0; i < n; i += 16)
		_mm_prefetch((const char *)((uintptr_t)scale + i * sizeof(*scale)), _MM_HINT_T0);
}

/* The span's rows of weights, with the scales of row `o` of the matrix if `scale` is not NULL. */
static void spans_product(struct span s, const float *scale, size_t o)
{
	size_t left = s.count, blocks = (s.n + 127) / 128;

	if (!scale) {
		span_product_bf16(&s);
		return;
	}
	/* FP8 rows are taken up to the next row of scales */
	for (; left; left -= s.count, o += s.count) {
		s.count = left < 128 - o % 128 ? left : 128 - o % 128;
		s.scale = scale + o / 128 * blocks;
		fetch_scales(s.scale + blocks, blocks);
		span_product_fp8(&s);
		s.first += s.count * s.stride;
		s.y += s.count;
	}
}

/* The last rows, at most FEW. */
static __attribute__((noinline)) void few_rows(struct span s, const float *scale, size_t o)
{
	vx x[SPREAD / STEP];
	size_t left = s.rows, wide = (s.n + WIDE - 1) / WIDE * WIDE;

	for (; left; left -= s.rows) {
		struct span part = s;

		s.rows = left < SPREAD / wide ? left : SPREAD / wide;
		spread(x, s.x, s.ldx, s.n, wide, (int)s.rows);
		part.rows = s.rows;
		part.few = x;
		part.wide = wide;
		spans_product(part, scale, o);
		s.x += s.rows * s.ldx;
		s.y += s.rows * s.ldy;
	}
}

/* scale: of row 0 of the matrix, o the first row; NULL: BF16. */
static void product(struct span s, const float *scale, size_t o)
{
	size_t few = s.rows % GROUP;

	if (few > FEW || s.n > SPREAD - WIDE)
		few = 0;
	s.rows -= few;
	if (s.rows)
		spans_product(s, scale, o);
	s.x += s.rows * s.ldx;
	s.y += s.rows * s.ldy;
	s.rows = few;
	if (few)
		few_rows(s, scale, o);
}

static void matmul_simd(float *y, size_t ldy, const struct weight *w, size_t out0, size_t out1,
			const uint16_t *x, size_t ldx, size_t rows)
{
	size_t n = w->n_in, bytes = w->type == WEIGHT_FP8 ? 1 : 2;
	struct span s = {.first = (const uint8_t *)w->data + out0 * n * bytes,
			 .stride = n * bytes,
			 .count = out1 - out0,
			 .n = n,
			 .y = y,
			 .ldy = ldy,
			 .x = x,
			 .ldx = ldx,
			 .rows = rows};

	product(s, w->type == WEIGHT_FP8 ? w->scale : NULL, out0);
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

	product(s, NULL, 0);
}

#include "drivers/cpu/matmul_t_simd.h"

static void fill_matmul_table(struct cpu_kernels *k)
{
	k->matmul = matmul_simd;
	k->dot_rows = dot_rows_simd;
	k->matmul_t = matmul_t_simd;
	k->dot_rows_t = dot_rows_t_simd;
}
