/*
 * Routed experts in 4 bits: one expert's conversion, and the table fitted to the weights at hand;
 * see pack.h. The same checkpoint gives the same table and the same bytes, on any machine.
 */
#include "drivers/cpu/kernels.h"
#include "model/tensors.h"
#include "runtime/cli/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIT_EXPERTS = 32, /* looked at: this many, evenly over the model */
	FIT_TILES = 2,    /* of each matrix of these */
	FIT_ROUNDS = 16
};

/* Rows [row, row + 16) of a matrix as numbers, what is behind its last row being zero. */
static void widen_rows(const struct pack_matrix *m, uint64_t row, float *out)
{
	const uint64_t blocks = tensor_blocks(m->n_in);

	memset(out, 0, Q4_ROWS * m->n_in * sizeof(*out));
	for (uint64_t r = row; r < row + Q4_ROWS && r < m->n_out; r++, out += m->n_in)
		for (uint64_t i = 0; i < m->n_in; i++) {
			if (m->type == INDEX_FP8) {
				const uint8_t code = ((const uint8_t *)m->data)[r * m->n_in + i];

				out[i] = m->e4m3[code] * m->scale[r / 128 * blocks + i / 128];
			} else {
				out[i] = bf16_to_f32(((const uint16_t *)m->data)[r * m->n_in + i]);
			}
		}
}

void pack_to_q4(const struct pack_matrix *m, const int8_t table[16], float *rows, void *out)
{
	struct q4_group *tile = out;

	for (uint64_t row = 0; row < m->n_out; row += Q4_ROWS) {
		uint64_t n = m->n_out - row < Q4_ROWS ? m->n_out - row : Q4_ROWS;

		widen_rows(m, row, rows);
		q4_pack_tile(tile, rows, m->n_in, n, m->n_in, table);
		tile += q4_groups(m->n_in);
	}
}

/* ---- The table ---- */

/* Some tiles of the model's matrices as numbers. */
struct sample {
	float *rows; /* of all tiles, [Q4_ROWS][n_in] each */
	struct {
		uint64_t at, n_in; /* in rows */
	} tile[FIT_EXPERTS * EXPERT_PARTS * FIT_TILES];
	unsigned tiles;
	struct q4_group *packed; /* the longest tile */
};

static int take_sample(const struct pack_plan *p, struct sample *x, struct err *e)
{
	const struct model_config *c = &p->m->ix->config;
	const uint64_t experts = p->g.area[PACK_EXPERTS].count;
	const uint64_t looked = experts < FIT_EXPERTS ? experts : FIT_EXPERTS;
	const uint64_t wide = c->hidden_size > c->moe_intermediate_size ? c->hidden_size
									: c->moe_intermediate_size;
	struct pack_scratch s;
	uint64_t at = 0;
	int rc = pack_scratch_open(&s, p, e);

	x->rows = malloc(looked * EXPERT_PARTS * FIT_TILES * Q4_ROWS * wide * sizeof(float));
	x->packed = aligned_alloc(64, (q4_tile_bytes(wide) + 63) & ~63ul);
	if (!rc && (!x->rows || !x->packed))
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to fit a table");
	for (uint64_t i = 0; !rc && i < looked * EXPERT_PARTS; i++) {
		struct pack_matrix m;
		uint64_t tiles;

		rc = pack_read_matrix(p, i / EXPERT_PARTS * experts / looked,
				      (unsigned)(i % EXPERT_PARTS), &s, &m, e);
		tiles = m.n_out / Q4_ROWS; /* whole ones */
		for (unsigned t = 0; !rc && t < FIT_TILES && t < tiles; t++) {
			widen_rows(&m, t * tiles / FIT_TILES * Q4_ROWS, x->rows + at);
			x->tile[x->tiles].at = at;
			x->tile[x->tiles++].n_in = m.n_in;
			at += Q4_ROWS * m.n_in;
		}
	}
	pack_scratch_close(&s);
	return rc;
}

/* What entry c should have been, num[c] / den[c], when scales and codes stay; returns the squared
 * error. */
static double try_table(const struct sample *x, const int8_t table[16], double num[16],
			double den[16])
{
	double error = 0;

	memset(num, 0, 16 * sizeof(*num));
	memset(den, 0, 16 * sizeof(*den));
	for (unsigned t = 0; t < x->tiles; t++) {
		const uint64_t n_in = x->tile[t].n_in;
		const float *w = x->rows + x->tile[t].at;

		q4_pack_tile(x->packed, w, n_in, Q4_ROWS, n_in, table);
		for (uint64_t i = 0; i < Q4_ROWS * n_in; i++) {
			const struct q4_group *g = &x->packed[i % n_in / Q4_GROUP];
			uint8_t c = q4_code(g, i / n_in, i % n_in % Q4_GROUP);
			double scale = (double)bf16_to_f32(g->scale[i / n_in]);
			double off = (double)w[i] - scale * table[c];

			num[c] += (double)w[i] * scale;
			den[c] += scale * scale;
			error += off * off;
		}
	}
	return error;
}

/* The next table: as wide as the numbers allow, and still ascending. */
static void next_table(int8_t table[16], const double num[16], const double den[16])
{
	double value[16], most = 0;

	for (int c = 0; c < 16; c++) {
		value[c] = den[c] > 0 ? num[c] / den[c] : table[c];
		if (value[c] > most || -value[c] > most)
			most = value[c] > 0 ? value[c] : -value[c];
	}
	for (int c = 0; c < 16 && most > 0; c++) {
		double v = value[c] * 63 / most;
		int8_t entry = (int8_t)(int)(v < 0 ? v - 0.5 : v + 0.5);

		table[c] = c && entry <= table[c - 1] && table[c - 1] < 63
				   ? (int8_t)(table[c - 1] + 1)
				   : entry;
	}
}

int pack_fit_table(const struct pack_plan *p, int8_t table[16], struct err *e)
{
	struct sample *x = calloc(1, sizeof(*x));
	double best = 0, num[16], den[16];
	int8_t now[16], before[16];
	int rc;

	if (!x)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to fit a table");
	rc = take_sample(p, x, e);
	memcpy(now, q4_gaussian, sizeof(now));
	memcpy(table, now, sizeof(now));
	for (unsigned round = 0; !rc && round < FIT_ROUNDS; round++) {
		double error = try_table(x, now, num, den);

		if (!round || error < best) {
			best = error;
			memcpy(table, now, sizeof(now));
		}
		memcpy(before, now, sizeof(now));
		next_table(now, num, den);
		if (!memcmp(before, now, sizeof(now)))
			break;
	}
	free(x->rows);
	free(x->packed);
	free(x);
	return rc;
}
