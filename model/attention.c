/*
 * The attention block; see attention.h. Rows are worked off in blocks of at most ROW_BLOCK, so that
 * scratch stays bounded however long a prefill chunk is. The phases of a block, a barrier between
 * each two (split by what):
 *
 * 	norm_in (rows) -> down_project (outputs) -> cache_rows (rows) -> queries (heads)
 * 	-> attend (row x heads, or segments) -> values (heads) -> out_project (outputs)
 * 	-> leave (rows)
 *
 * A block's cached rows are written before it attends, and blocks follow each other in order, so a
 * row finds all earlier positions of its sequence.
 */
#include "model/attention.h"

#include "drivers/cpu/math.h"
#include "model/rope.h"

#include <errno.h>
#include <string.h>

enum {
	ROW_BLOCK = 64,  /* V3: 28 MB of scratch; a layer's weights are read once per block */
	HEAD_BLOCK = 16, /* heads that share a read of the keys; their sums fit the L2 cache */
	OUT_GRAIN = 16 /* outputs of a matrix given to a worker: a multiple of the kernels' tiles */
};

/*
 * Everything a worker needs of one job; made by each worker for itself. All strides are in
 * elements.
 */
struct pass {
	const struct model *m;
	const struct cpu_kernels *k;
	const struct layer *l;
	const struct attention_job *job;
	struct worker *w;
	size_t d, width, heads, nope, rope, v, rank, q_rank;
	size_t q_in;             /* padded input width of q_b */
	size_t key;              /* padded width of a query against the cache: latent, rope */
	size_t latent;           /* padded kv_lora_rank */
	size_t o_in;             /* padded input width of o_proj */
	size_t kv_row;           /* stride of the cache */
	uint32_t row[ROW_BLOCK]; /* of the job */
	uint32_t rows;           /* in this block */

	/* shared scratch, [ROW_BLOCK or fewer] rows */
	uint16_t *x;    /* [q_in or width] normed input */
	float *q_down;  /* [q_rank] */
	float *kv_down; /* [rank + rope] */
	uint16_t *cq;   /* [q_in]; is x if there is no q_lora */
	float *cs;      /* [rope] */
	uint16_t *q;    /* [heads][key] absorbed queries */
	uint16_t *o;    /* [heads][latent] */
	uint16_t *ov;   /* [o_in] */
	float *out;     /* [width] */
	float *part; /* [2][workers] of struct-of-arrays: u [heads][rank], m [heads], l [heads] */
	size_t part_floats; /* of one of them; 0: the row is never cut by keys */
	unsigned round;     /* which half of `part` is next */
	/* private scratch of this worker */
	float *vec;       /* one row of any width */
	float *head_f;    /* [ROW_BLOCK][max(nope + rope, v)]; fewer rows: so many more heads */
	float *absorb;    /* [ROW_BLOCK][rank] */
	uint16_t *head_x; /* [ROW_BLOCK][pad32(nope)] */
	float *score;     /* [HEAD_BLOCK][256] */
	uint16_t *prob;   /* [HEAD_BLOCK][256] */
	float *seg;       /* [HEAD_BLOCK][rank] */
	float *sum;       /* [HEAD_BLOCK][rank] */
};

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t head_groups(const struct pass *p)
{
	return (p->heads + HEAD_BLOCK - 1) / HEAD_BLOCK;
}

/* The next piece of scratch; with base NULL only counts. */
static void *piece(char *base, size_t *at, size_t elements, size_t element_bytes)
{
	size_t begin = *at;

	*at += scratch_round(elements * element_bytes);
	return base ? base + begin : NULL;
}

/*
 * Lays the scratch out from `base`; returns the bytes for `workers`. Blocks have at most `rows`
 * rows.
 */
static size_t lay_out(struct pass *p, char *base, unsigned workers, unsigned index, size_t rows)
{
	size_t head_f = max_size(p->nope + p->rope, p->v);
	size_t at = 0, shared, each = 0;

	p->x = piece(base, &at, rows * p->width, 2);
	p->q_down = piece(base, &at, rows * p->q_rank, 4);
	p->kv_down = piece(base, &at, rows * (p->rank + p->rope), 4);
	p->cq = p->q_rank ? piece(base, &at, rows * p->q_in, 2) : p->x;
	p->cs = piece(base, &at, rows * p->rope, 4);
	p->q = piece(base, &at, rows * p->heads * p->key, 2);
	p->o = piece(base, &at, rows * p->heads * p->latent, 2);
	p->ov = piece(base, &at, rows * p->o_in, 2);
	p->out = piece(base, &at, rows * p->width, 4);
	p->part_floats = head_groups(p) < workers ? p->heads * (p->rank + 2) : 0;
	p->part = piece(base, &at, 2 * workers * p->part_floats, 4);
	shared = at;
	for (int pass = 0; pass < 2; pass++) { /* the first only measures one worker's part */
		char *own = base && pass ? base + shared + index * each : NULL;

		at = 0;
		p->vec = piece(own, &at, max_size(p->width, p->q_rank), 4);
		p->head_f = piece(own, &at, ROW_BLOCK * head_f, 4);
		p->absorb = piece(own, &at, rows * p->rank, 4);
		p->head_x = piece(own, &at, rows * pad128(p->nope), 2);
		p->score = piece(own, &at, HEAD_BLOCK * (size_t)KV_PAGE_ROWS, 4);
		p->prob = piece(own, &at, HEAD_BLOCK * (size_t)KV_PAGE_ROWS, 2);
		p->seg = piece(own, &at, HEAD_BLOCK * p->rank, 4);
		p->sum = piece(own, &at, HEAD_BLOCK * p->rank, 4);
		each = at;
	}
	return shared + workers * each;
}

static void set_shape(struct pass *p, const struct model_config *c)
{
	p->d = c->hidden_size;
	p->width = model_width(c);
	p->heads = c->num_attention_heads;
	p->nope = c->qk_nope_head_dim;
	p->rope = c->qk_rope_head_dim;
	p->v = c->v_head_dim;
	p->rank = c->kv_lora_rank;
	p->q_rank = c->q_lora_rank;
	p->q_in = pad128(p->q_rank ? p->q_rank : p->d);
	p->key = pad128(p->rank + p->rope);
	p->latent = pad128(p->rank);
	p->o_in = pad128(p->heads * p->v);
	p->kv_row = config_kv_row(c);
}

size_t attention_scratch_bytes(const struct model_config *c, unsigned workers, uint32_t rows)
{
	struct pass p = {0};

	set_shape(&p, c);
	return lay_out(&p, NULL, workers, 0, rows < ROW_BLOCK ? rows : ROW_BLOCK);
}

int attention_check(const struct model *m, const struct attention_job *job, struct err *e)
{
	bool mtp = job->layer >= m->config->num_hidden_layers;

	if (job->layer >= config_layers(m->config))
		return err_set(e, -EBADMSG, "attention: layer %u of %u", job->layer,
			       config_layers(m->config));
	for (uint32_t r = 0; r < job->rows; r++) {
		const struct attention_row *row = &job->row[r];
		uint32_t last = row->position / KV_PAGE_ROWS;

		if (row->skip)
			continue;
		if (row->position < row->first_key || (row->first_key != 0) != mtp ||
		    row->position >= m->config->max_position_embeddings || last >= row->n_pages)
			return err_set(e, -EBADMSG,
				       "attention: row %u: position %u, first key %u, %u pages", r,
				       row->position, row->first_key, row->n_pages);
		for (uint32_t i = 0; i <= last; i++)
			if (row->pages[i] >= job->kv_pages)
				return err_set(e, -EBADMSG, "attention: row %u: page %u of %u", r,
					       row->pages[i], job->kv_pages);
	}
	return 0;
}

/* The cached row of a position that lies in page `page` of the object. */
static uint16_t *cached(const struct pass *p, uint32_t page, uint32_t position)
{
	char *base = p->job->kv;
	uint16_t *rows = (uint16_t *)(void *)(base + page * config_kv_page_bytes(p->m->config));
	size_t at = (size_t)p->job->layer * KV_PAGE_ROWS + position % KV_PAGE_ROWS;

	return rows + at * p->kv_row;
}

static const struct attention_row *block_row(const struct pass *p, size_t i)
{
	return &p->job->row[p->row[i]];
}

/* Collects the next rows that are not skipped, beginning at `from`; returns where to go on. */
static uint32_t take_block(struct pass *p, uint32_t from)
{
	p->rows = 0;
	while (from < p->job->rows && p->rows < ROW_BLOCK) {
		if (!p->job->row[from].skip)
			p->row[p->rows++] = from;
		from++;
	}
	return from;
}

static void norm_in(struct pass *p)
{
	size_t begin, end;

	worker_share(p->w, p->rows, 1, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		p->k->rmsnorm(p->vec, p->job->h_in + p->row[i] * p->width, p->l->input_norm, p->d,
			      p->m->config->rms_norm_eps);
		p->k->to_bf16(p->x + i * p->width, p->vec, p->d, p->width);
	}
}

/* This worker's outputs of y = W x for all rows of the block. */
static void project(const struct pass *p, float *y, size_t ldy, const struct weight *weight,
		    const uint16_t *x, size_t ldx)
{
	size_t begin, end;

	worker_share(p->w, weight->n_out, OUT_GRAIN, &begin, &end);
	if (begin < end)
		p->k->matmul(y + begin, ldy, weight, begin, end, x, ldx, p->rows);
}

static void down_project(struct pass *p)
{
	if (p->q_rank)
		project(p, p->q_down, p->q_rank, &p->l->q_a, p->x, p->width);
	project(p, p->kv_down, p->rank + p->rope, &p->l->kv_a, p->x, p->width);
}

/* MTP: keys below the first are missing, and kernels want +0 there. */
static void cache_missing(const struct pass *p)
{
	for (size_t i = 0; i < p->rows; i++) {
		const struct attention_row *row = block_row(p, i);

		if (row->position == row->first_key)
			memset(cached(p, row->pages[row->position / KV_PAGE_ROWS], 0), 0,
			       row->position % KV_PAGE_ROWS * p->kv_row * sizeof(uint16_t));
	}
}

static void cache_row(struct pass *p, size_t i)
{
	const struct attention_row *row = block_row(p, i);
	uint16_t *kv = cached(p, row->pages[row->position / KV_PAGE_ROWS], row->position);
	float *down = p->kv_down + i * (p->rank + p->rope), *cs = p->cs + i * p->rope;

	if (p->l->kv_a_bias)
		p->k->add(down, down, p->l->kv_a_bias, p->rank + p->rope);
	rope_angles(p->m->config, row->position, cs);
	p->k->rope(down + p->rank, cs, p->rope);
	p->k->rmsnorm(p->vec, down, p->l->kv_a_norm, p->rank, p->m->config->latent_norm_eps);
	p->k->to_bf16(kv, p->vec, p->rank, p->rank);
	p->k->to_bf16(kv + p->rank, down + p->rank, p->rope, p->kv_row - p->rank);
}

static void cache_rows(struct pass *p)
{
	size_t begin, end;

	if (p->l->is_mtp && p->w->index == 0)
		cache_missing(p);
	worker_share(p->w, p->rows, 1, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		float *down = p->q_down + i * p->q_rank;

		cache_row(p, i);
		if (!p->q_rank)
			continue;
		if (p->l->q_a_bias)
			p->k->add(down, down, p->l->q_a_bias, p->q_rank);
		p->k->rmsnorm(p->vec, down, p->l->q_a_norm, p->q_rank,
			      p->m->config->latent_norm_eps);
		p->k->to_bf16(p->cq + i * p->q_in, p->vec, p->q_rank, p->q_in);
	}
}

/* q' = [W_UK^T q_nope ; q_pe] of head h; q: its row of each row's output of q_b, ldq apart. */
static void absorb_head(struct pass *p, size_t h, float *q, size_t ldq)
{
	size_t ldx = pad128(p->nope), uk = h * (p->nope + p->v);

	for (size_t i = 0; i < p->rows; i++)
		p->k->to_bf16(p->head_x + i * ldx, q + i * ldq, p->nope, ldx);
	p->k->matmul_t(p->absorb, p->rank, &p->l->kv_b, uk, uk + p->nope, p->head_x, ldx, p->rows);
	for (size_t i = 0; i < p->rows; i++) {
		uint16_t *to = p->q + (i * p->heads + h) * p->key;
		float *pe = q + i * ldq + p->nope;

		p->k->rope(pe, p->cs + i * p->rope, p->rope);
		p->k->to_bf16(to, p->absorb + i * p->rank, p->rank, p->rank);
		p->k->to_bf16(to + p->rank, pe, p->rope, p->key - p->rank);
	}
}

/*
 * The absorbed queries of this worker's heads. Few rows take many heads at once: q_b is read in
 * one stretch.
 */
static void queries(struct pass *p)
{
	size_t wide = p->nope + p->rope, most = ROW_BLOCK / p->rows, begin, end, n;

	worker_share(p->w, p->heads, 1, &begin, &end);
	for (size_t h = begin; h < end; h += n) {
		n = end - h < most ? end - h : most;
		p->k->matmul(p->head_f, n * wide, &p->l->q_b, h * wide, (h + n) * wide, p->cq,
			     p->q_in, p->rows);
		for (size_t i = 0; i < n; i++)
			absorb_head(p, h + i, p->head_f + i * wide, n * wide);
	}
}

/* Adds one segment's values to the sums of one head; *max and *norm are M and L of arithmetic 8. */
static void join(const struct pass *p, float *sum, const float *seg, float *max, float *norm,
		 float m, float l)
{
	float both = m > *max ? m : *max;
	float alpha = exp_f32(*max - both), beta = exp_f32(m - both);

	p->k->combine(norm, alpha, &l, beta, 1);
	p->k->combine(sum, alpha, seg, beta, p->rank);
	*max = both;
}

/* A segment of a row: where its keys are, how many, and which of them are missing. */
struct segment {
	const uint16_t *key;
	size_t first, keys; /* those below `first` are missing */
};

static struct segment segment(const struct pass *p, const struct attention_row *row, uint32_t s)
{
	bool begins = s == row->first_key / KV_PAGE_ROWS, ends = s == row->position / KV_PAGE_ROWS;

	return (struct segment){
		.key = cached(p, row->pages[s], 0),
		.first = begins ? row->first_key % KV_PAGE_ROWS : 0,
		.keys = ends ? row->position % KV_PAGE_ROWS + 1 : KV_PAGE_ROWS,
	};
}

/* u, m and l of arithmetic 8 for `count` heads, at most HEAD_BLOCK, of one row. */
static void attend_segment(struct pass *p, const struct segment *s, const uint16_t *q, size_t count,
			   float *u, float *m, float *l)
{
	p->k->dot_rows(p->score, KV_PAGE_ROWS, s->key, p->kv_row, s->keys, p->rank + p->rope, q,
		       p->key, count);
	for (size_t h = 0; h < count; h++) {
		float *score = p->score + h * KV_PAGE_ROWS;

		p->k->scale(score, score, p->m->config->softmax_scale, s->keys);
		p->k->softmax_segment(p->prob + h * KV_PAGE_ROWS, score, s->first, s->keys, &m[h],
				      &l[h]);
	}
	p->k->dot_rows_t(u, p->rank, s->key, p->kv_row, s->keys, p->rank, p->prob, KV_PAGE_ROWS,
			 count);
}

/* sum / norm of `count` heads of row i of the block, beginning with head `h`. */
static void put_heads(struct pass *p, size_t i, size_t h, size_t count, const float *norm)
{
	for (size_t n = 0; n < count; n++) {
		float *sum = p->sum + n * p->rank;

		p->k->scale(sum, sum, 1.0f / norm[n], p->rank);
		p->k->to_bf16(p->o + (i * p->heads + h + n) * p->latent, sum, p->rank, p->latent);
	}
}

/* `count` heads of one row, beginning with head `h`. */
static void attend_heads(struct pass *p, size_t i, size_t h, size_t count)
{
	const struct attention_row *row = block_row(p, i);
	const uint16_t *q = p->q + (i * p->heads + h) * p->key;
	float max[HEAD_BLOCK], norm[HEAD_BLOCK], m[HEAD_BLOCK], l[HEAD_BLOCK];
	uint32_t begin = row->first_key / KV_PAGE_ROWS, last = row->position / KV_PAGE_ROWS;
	struct segment s = segment(p, row, begin);

	attend_segment(p, &s, q, count, p->sum, max, norm);
	for (uint32_t at = begin + 1; at <= last; at++) {
		s = segment(p, row, at);
		attend_segment(p, &s, q, count, p->seg, m, l);
		for (size_t n = 0; n < count; n++)
			join(p, p->sum + n * p->rank, p->seg + n * p->rank, &max[n], &norm[n], m[n],
			     l[n]);
	}
	put_heads(p, i, h, count, norm);
}

/*
 * All heads of one row, cut by keys: in each round every worker takes one segment, and then every
 * worker joins all of them, in their order, for its own heads. Each key is read by one worker, and
 * meets all heads at once. A round writes while the slowest may still read the one before, so
 * there are two sets of parts.
 */
static void attend_split(struct pass *p, size_t i)
{
	const struct attention_row *row = block_row(p, i);
	const uint16_t *q = p->q + i * p->heads * p->key;
	uint32_t begin = row->first_key / KV_PAGE_ROWS, last = row->position / KV_PAGE_ROWS;
	float max[HEAD_BLOCK], norm[HEAD_BLOCK];
	size_t h0, h1;

	worker_share(p->w, p->heads, 1, &h0, &h1);
	for (uint32_t at = begin; at <= last; at += p->w->count, p->round++) {
		float *set = p->part + p->round % 2 * p->w->count * p->part_floats;
		float *u = set + p->w->index * p->part_floats, *m = u + p->heads * p->rank;
		uint32_t there = last - at < p->w->count ? last - at + 1 : p->w->count;

		if (p->w->index < there) {
			struct segment s = segment(p, row, at + p->w->index);

			for (size_t h = 0; h < p->heads; h += HEAD_BLOCK)
				attend_segment(p, &s, q + h * p->key,
					       p->heads - h < HEAD_BLOCK ? p->heads - h
									 : HEAD_BLOCK,
					       u + h * p->rank, m + h, m + p->heads + h);
		}
		worker_barrier(p->w);
		for (uint32_t j = 0; j < there; j++) {
			u = set + j * p->part_floats;
			m = u + p->heads * p->rank;
			for (size_t h = h0; h < h1; h++) {
				float *sum = p->sum + (h - h0) * p->rank;

				if (at + j == begin) {
					memcpy(sum, u + h * p->rank, p->rank * sizeof(*sum));
					max[h - h0] = m[h];
					norm[h - h0] = m[p->heads + h];
				} else {
					join(p, sum, u + h * p->rank, &max[h - h0], &norm[h - h0],
					     m[h], m[p->heads + h]);
				}
			}
		}
	}
	put_heads(p, i, h0, h1 - h0, norm);
}

/* Whether there are too few rows and heads for all workers, and keys enough. */
static bool is_split(const struct pass *p, size_t i)
{
	const struct attention_row *row = block_row(p, i);
	uint32_t segments = row->position / KV_PAGE_ROWS - row->first_key / KV_PAGE_ROWS + 1;

	return p->rows * head_groups(p) < p->w->count && segments > p->w->count;
}

/*
 * Units of one row and some heads, dealt out in turn, because later rows have more keys; then the
 * rows that are cut by keys.
 */
static void attend(struct pass *p)
{
	size_t each = HEAD_BLOCK, per_row, unit;

	while (each > 1 && p->rows * ((p->heads + each - 1) / each) < p->w->count)
		each /= 2;
	per_row = (p->heads + each - 1) / each;
	for (unit = p->w->index; unit < p->rows * per_row; unit += p->w->count) {
		size_t h = unit % per_row * each;

		if (!is_split(p, unit / per_row))
			attend_heads(p, unit / per_row, h,
				     p->heads - h < each ? p->heads - h : each);
	}
	for (size_t i = 0; i < p->rows; i++)
		if (is_split(p, i))
			attend_split(p, i);
}

/* W_UV of this worker's heads. */
static void values(struct pass *p)
{
	size_t begin, end;

	worker_share(p->w, p->heads, 1, &begin, &end);
	for (size_t h = begin; h < end; h++) {
		size_t uv = h * (p->nope + p->v) + p->nope;
		size_t fill = h + 1 == p->heads ? p->o_in - h * p->v : p->v;

		p->k->matmul(p->head_f, p->v, &p->l->kv_b, uv, uv + p->v, p->o + h * p->latent,
			     p->heads * p->latent, p->rows);
		for (size_t i = 0; i < p->rows; i++)
			p->k->to_bf16(p->ov + i * p->o_in + h * p->v, p->head_f + i * p->v, p->v,
				      fill);
	}
}

static void leave(struct pass *p)
{
	size_t begin, end;

	worker_share(p->w, p->rows, 1, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		size_t at = p->row[i] * p->width;
		float *out = p->out + i * p->width, *h = p->job->h_out + at;

		if (p->l->o_bias)
			p->k->add(out, out, p->l->o_bias, p->d);
		p->k->add(h, p->job->h_in + at, out, p->d);
		p->k->rmsnorm(p->vec, h, p->l->post_norm, p->d, p->m->config->rms_norm_eps);
		p->k->to_bf16(p->job->x_out + at, p->vec, p->d, p->width);
	}
}

void attention_rows(const struct model *m, const struct attention_job *job, void *scratch,
		    struct worker *w)
{
	struct pass p = {.m = m, .k = m->kernels, .l = &m->layer[job->layer], .job = job, .w = w};
	size_t rows = job->rows < ROW_BLOCK ? job->rows : ROW_BLOCK;

	set_shape(&p, m->config);
	lay_out(&p, scratch, w->count, w->index, rows);
	for (uint32_t at = take_block(&p, 0); p.rows; at = take_block(&p, at)) {
		norm_in(&p);
		worker_barrier(w);
		down_project(&p);
		worker_barrier(w);
		cache_rows(&p);
		worker_barrier(w);
		queries(&p);
		worker_barrier(w);
		attend(&p);
		worker_barrier(w);
		values(&p);
		worker_barrier(w);
		project(&p, p.out, p.width, &p.l->o, p.ov, p.o_in);
		worker_barrier(w);
		leave(&p);
	}
}
