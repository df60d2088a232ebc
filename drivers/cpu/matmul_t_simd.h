/*
 * Rule 4 in SIMD registers; the second half of matmul_simd.h, which says what the including file
 * defines. A unit is the columns that one register of E4M3 holds, 16 * VR of them: four registers
 * of sums per activation row.
 */
#define UNIT (16 * VR)

/* A contraction over stored rows: groups end as rule 4 says. */
struct contraction {
	const uint8_t *first; /* the first row */
	size_t stride, count; /* bytes; rows */
	size_t n;             /* columns */
	const float *scale;   /* the whole table, blocks per row of it; BF16: NULL */
	size_t blocks, in0;   /* in0: the stored row of `first` */
	float *y;
	size_t ldy;
	const uint16_t *x;
	size_t ldx;
};

/* Where the group that holds row i ends. */
static size_t group_end(const struct contraction *s, size_t i)
{
	size_t end = i / 128 * 128 + 128;

	if (s->scale && (s->in0 + i) / 128 * 128 + 128 - s->in0 < end)
		end = (s->in0 + i) / 128 * 128 + 128 - s->in0;
	return end < s->count ? end : s->count;
}

/* `part` columns of a row, 0 meaning the whole unit; BF16: half h of the unit. */
INLINE vbytes unit_bytes(const uint8_t *p, int h, size_t part, int fp8)
{
	size_t n;

	if (!part)
		return load_bytes(p + h * RAW);
	n = fp8 ? part : part * 2;
	if (n <= (size_t)h * RAW)
		return load_part(p, 0);
	n -= (size_t)h * RAW;
	return n >= RAW ? load_bytes(p + h * RAW) : load_part(p + h * RAW, n);
}

/* Rows i and i + 1 (zeros if `last`): four registers of pairs, in the order that put_unit undoes */
INLINE void unit_pairs(vbytes w[4], const uint8_t *p, size_t stride, size_t part, int last, int fp8)
{
	vbytes even[2], odd[2];

	if (fp8) {
		decode(unit_bytes(p, 0, part, 1), &even[0], &even[1]);
		if (last)
			odd[0] = odd[1] = load_part(p, 0);
		else
			decode(unit_bytes(p + stride, 0, part, 1), &odd[0], &odd[1]);
	} else {
		UNROLL
		for (int h = 0; h < 2; h++) {
			even[h] = unit_bytes(p, h, part, 0);
			odd[h] = last ? load_part(p, 0) : unit_bytes(p + stride, h, part, 0);
		}
	}
	UNROLL
	for (int h = 0; h < 2; h++) {
		w[2 * h] = pair_low(even[h], odd[h]);
		w[2 * h + 1] = pair_high(even[h], odd[h]);
	}
}

INLINE void unit_step(vsum a[TOKENS_T][4], const uint8_t *p, const struct contraction *s,
		      const uint16_t *x, size_t part, int last, int nt, int fp8)
{
	vbytes w[4];
	vx b[TOKENS_T];

	unit_pairs(w, p, s->stride, part, last, fp8);
	UNROLL
	for (int i = 0; i < nt; i++) {
		uint32_t pair;

		if (last)
			pair = x[(size_t)i * s->ldx];
		else
			memcpy(&pair, x + (size_t)i * s->ldx, sizeof(pair));
		b[i] = pair_x(pair);
	}
	UNROLL
	for (int j = 0; j < 4; j++) {
		vw ready = weights(w[j]);

		UNROLL
		for (int i = 0; i < nt; i++)
			a[i][j] = dot(a[i][j], ready, b[i]);
	}
}

/* Sums to columns: lane block k of register j is 4 columns that lie together. */
INLINE void put_unit(float *y, const vsum t[4], size_t columns, int fp8)
{
	float sums[4][4 * VR], out[UNIT];

	UNROLL
	for (int j = 0; j < 4; j++) {
		sum_store(sums[j], t[j]);
		UNROLL
		for (int k = 0; k < VR; k++) {
			int at = fp8 ? 16 * k + 4 * j : j / 2 * (UNIT / 2) + 8 * k + j % 2 * 4;

			memcpy(out + at, sums[j] + 4 * k, 4 * sizeof(float));
		}
	}
	memcpy(y, out, columns * sizeof(float));
}

INLINE void unit_zero(vsum a[TOKENS_T][4], int nt)
{
	UNROLL
	for (int k = 0; k < nt; k++)
		UNROLL
	for (int j = 0; j < 4; j++)
		a[k][j] = sum_zero();
}

INLINE void unit_fold(vsum t[TOKENS_T][4], vsum a[TOKENS_T][4], float scale, int nt, int fp8)
{
	UNROLL
	for (int k = 0; k < nt; k++)
		UNROLL
	for (int j = 0; j < 4; j++) {
		vsum done = sum_add(a[k][j], sum_zero());

		t[k][j] = fp8 ? sum_fold(done, scale, t[k][j]) : sum_add(t[k][j], done);
	}
}

/*
 * Fetches for two rows, of which columns from c on begin at p. Units side by side: with the
 * first ones whole rows that come later, in the order of addresses. Else the next unit of these
 * rows.
 */
INLINE void fetch_pair(const struct contraction *s, const uint8_t *p, size_t c, int units,
		       size_t bytes)
{
	if (units == 1) {
		_mm_prefetch((const char *)((uintptr_t)p + UNIT * bytes), _MM_HINT_T1);
		_mm_prefetch((const char *)((uintptr_t)p + UNIT * bytes + s->stride), _MM_HINT_T1);
		return;
	}
	if (c)
		return;
	for (size_t i = 0; i < 2 * s->stride; i += 64)
		_mm_prefetch((const char *)((uintptr_t)p + AHEAD + i), _MM_HINT_T0);
}

/*
 * Columns [c, c + units * UNIT) (the first `part` of one unit if part is not 0) for activation rows
 * [r, r + nt).
 */
INLINE void unit_product(const struct contraction *s, size_t c, size_t part, size_t r, int nt,
			 int units, int fp8)
{
	const size_t bytes = fp8 ? 1 : 2;
	const uint16_t *x = s->x + r * s->ldx;
	vsum t[UNITS_T][TOKENS_T][4];

	UNROLL
	for (int u = 0; u < units; u++)
		unit_zero(t[u], nt);
	for (size_t i = 0, end; i < s->count; i = end) {
		vsum a[UNITS_T][TOKENS_T][4];
		size_t q = i;

		end = group_end(s, i);
		UNROLL
		for (int u = 0; u < units; u++)
			unit_zero(a[u], nt);
		for (; q + 2 <= end; q += 2) {
			const uint8_t *p = s->first + q * s->stride + c * bytes;

			fetch_pair(s, p, c, units, bytes);
			UNROLL
			for (int u = 0; u < units; u++)
				unit_step(a[u], p + (size_t)u * UNIT * bytes, s, x + q, part, 0, nt,
					  fp8);
		}
		if (q < end)
			UNROLL
		for (int u = 0; u < units; u++)
			unit_step(a[u], s->first + q * s->stride + (c + (size_t)u * UNIT) * bytes,
				  s, x + q, part, 1, nt, fp8);
		UNROLL
		for (int u = 0; u < units; u++)
			unit_fold(t[u], a[u],
				  fp8 ? s->scale[(s->in0 + i) / 128 * s->blocks +
						 (c + (size_t)u * UNIT) / 128]
				      : 1.0f,
				  nt, fp8);
	}
	UNROLL
	for (int u = 0; u < units; u++)
		UNROLL
	for (int k = 0; k < nt; k++)
		put_unit(s->y + (r + (size_t)k) * s->ldy + c + (size_t)u * UNIT, t[u][k],
			 part ? part : UNIT, fp8);
}

/* A whole unit by all activation rows, in parts whose sizes differ by one at most. */
INLINE void unit_rows(const struct contraction *s, size_t c, size_t rows, int fp8)
{
	size_t parts = (rows + TOKENS_T - 1) / TOKENS_T;

	for (size_t r = 0, nt; r < rows; r += nt, parts--) {
		nt = (rows - r) / parts;
		switch (nt) {
#if TOKENS_T > 4
		case 5:
			unit_product(s, c, 0, r, 5, 1, fp8);
			break;
#endif
		case 4:
			unit_product(s, c, 0, r, 4, 1, fp8);
			break;
		case 3:
			unit_product(s, c, 0, r, 3, 1, fp8);
			break;
		case 2:
			unit_product(s, c, 0, r, 2, 1, fp8);
			break;
		default:
			unit_product(s, c, 0, r, 1, 1, fp8);
			break;
		}
	}
}

/*
 * One activation row: reading is the limit. So many units go side by side as there are registers
 * for their sums; returns the columns done.
 */
INLINE size_t one_row(const struct contraction *s, int fp8)
{
	size_t c = 0;

	for (; c + UNITS_T * UNIT <= s->n; c += UNITS_T * UNIT)
		unit_product(s, c, 0, 0, 1, UNITS_T, fp8);
	return c;
}

INLINE void contract(const struct contraction *s, size_t rows, int fp8)
{
	for (size_t c = rows == 1 ? one_row(s, fp8) : 0; c < s->n; c += UNIT) {
		if (c + UNIT > s->n) {
			for (size_t r = 0; r < rows; r++)
				unit_product(s, c, s->n - c, r, 1, 1, fp8);
			continue;
		}
		unit_rows(s, c, rows, fp8);
	}
}

static __attribute__((noinline)) void contract_bf16(const struct contraction *s, size_t rows)
{
	contract(s, rows, 0);
}

static __attribute__((noinline)) void contract_fp8(const struct contraction *s, size_t rows)
{
	contract(s, rows, 1);
}

static void matmul_t_simd(float *y, size_t ldy, const struct weight *w, size_t in0, size_t in1,
			  const uint16_t *x, size_t ldx, size_t rows)
{
	size_t n = w->n_in, bytes = w->type == WEIGHT_FP8 ? 1 : 2;
	struct contraction s = {.first = (const uint8_t *)w->data + in0 * n * bytes,
				.stride = n * bytes,
				.count = in1 - in0,
				.n = n,
				.blocks = (n + 127) / 128,
				.in0 = in0,
				.y = y,
				.ldy = ldy,
				.x = x,
				.ldx = ldx};

	if (w->type == WEIGHT_FP8) {
		s.scale = w->scale;
		contract_fp8(&s, rows);
	} else {
		contract_bf16(&s, rows);
	}
}

static void dot_rows_t_simd(float *y, size_t ldy, const uint16_t *key, size_t ldk, size_t keys,
			    size_t n, const uint16_t *x, size_t ldx, size_t rows)
{
	struct contraction s = {.first = (const uint8_t *)key,
				.stride = ldk * sizeof(*key),
				.count = keys,
				.n = n,
				.y = y,
				.ldy = ldy,
				.x = x,
				.ldx = ldx};

	contract_bf16(&s, rows);
}
