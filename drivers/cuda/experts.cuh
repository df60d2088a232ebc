/*
 * The gate's choice (arithmetic 10) and the routed experts (11, 13). Pairs (row, choice) keep an
 * output each; which of them are computed when changes nothing. Pairs of one expert are taken four
 * at a time, so that they share a read of its weights.
 */
#ifndef DRIVERS_CUDA_EXPERTS_CUH
#define DRIVERS_CUDA_EXPERTS_CUH

#include "drivers/cuda/product.cuh"
#include "drivers/cuda/rows.cuh"

#define NO_PAIR 0xffffffffu

enum {
	GROUPS_MAX = GPU_GROUP_MAX /* more is refused by the executor */
};

/* ---- The gate ---- */

struct choice {
	float score[4096], value[4096]; /* CONFIG_EXPERTS_MAX; value: what chooses */
	uint8_t taken[4096];
	float group[GROUPS_MAX], lane[16], best_value[WARPS];
	uint32_t best_index[WARPS], chosen[64];
};

/* The larger of two candidates, ties to the lower index; index NO_PAIR: none. */
DEVICE void better(float *value, uint32_t *index, float v, uint32_t i)
{
	bool take = i != NO_PAIR &&
		    (*index == NO_PAIR || v > *value || (v == *value && i < *index));

	*value = take ? v : *value;
	*index = take ? i : *index;
}

/* The lowest index of the largest value that is not taken. By one warp. */
DEVICE uint32_t best_free(const float *value, const uint8_t *taken, uint32_t n)
{
	const uint32_t lane = threadIdx.x % 32;
	float v = 0.0f;
	uint32_t index = NO_PAIR;

	for (uint32_t i = lane; i < n; i += 32)
		if (!taken[i])
			better(&v, &index, value[i], i);
	UNROLL
	for (int d = 16; d; d /= 2) {
		float other = __shfl_xor_sync(ALL_LANES, v, d);
		uint32_t at_other = __shfl_xor_sync(ALL_LANES, index, d);

		better(&v, &index, other, at_other);
	}
	return index;
}

/* Scores of all experts; by all threads. Softmax as gate.c: the largest logit, rule 6's sum. */
DEVICE void score_experts(const struct job *j, struct choice *k, const float *logits)
{
	const struct dev_shape *s = &j->g->shape;
	float max = logits[0], sum;

	if (s->scoring_func == 1) { /* SCORE_SIGMOID */
		for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS)
			k->score[i] = __fdiv_rn(1.0f, 1.0f + exp_rule(-logits[i]));
		__syncthreads();
		return;
	}
	for (uint32_t i = 0; i < s->experts; i++)
		max = logits[i] > max ? logits[i] : max;
	for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS)
		k->score[i] = exp_rule(logits[i] - max);
	__syncthreads();
	if (threadIdx.x < 16) {
		float a = 0.0f;

		for (uint32_t i = threadIdx.x; i < (s->experts + 15) / 16 * 16; i += 16)
			a = a + (i < s->experts ? k->score[i] : 0.0f);
		k->lane[threadIdx.x] = a;
	}
	__syncthreads();
	sum = lanes_tree(k->lane);
	for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS)
		k->score[i] = __fdiv_rn(k->score[i], sum);
	__syncthreads();
}

/* A group's two largest values, larger plus smaller, or its largest alone. */
DEVICE float score_group(const float *value, uint32_t n, bool two)
{
	float first = __uint_as_float(0xff800000), second = first;

	for (uint32_t i = 0; i < n; i++) {
		if (value[i] > first) {
			second = first;
			first = value[i];
		} else if (value[i] > second) {
			second = value[i];
		}
	}
	return two ? first + second : first;
}

/* Marks the experts outside the best groups as taken. By all threads. */
DEVICE void limit_groups(const struct job *j, struct choice *k)
{
	const struct dev_shape *s = &j->g->shape;
	const uint32_t members = s->experts / s->n_group;

	for (uint32_t g = threadIdx.x; g < s->n_group; g += THREADS)
		k->group[g] = score_group(k->value + g * members, members, s->topk_method == 2);
	for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS)
		k->taken[i] = 1;
	__syncthreads();
	if (threadIdx.x < 32) {
		const uint32_t lane = threadIdx.x;
		uint8_t *kept = (uint8_t *)k->chosen; /* GROUPS_MAX bytes, not in use yet */

		for (uint32_t g = lane; g < s->n_group; g += 32)
			kept[g] = 0;
		__syncwarp(ALL_LANES);
		for (uint32_t n = 0; n < s->topk_group; n++) {
			uint32_t best = best_free(k->group, kept, s->n_group);

			__syncwarp(ALL_LANES);
			if (lane == 0)
				kept[best] = 1;
			for (uint32_t i = lane; i < members; i += 32)
				k->taken[best * members + i] = 0;
			__syncwarp(ALL_LANES);
		}
	}
	__syncthreads();
}

/* By one thread: the chosen in ascending order, their weights (specification 4.6). */
DEVICE void weigh(const struct job *j, const struct choice *k, uint16_t *expert, float *weight)
{
	const struct dev_shape *s = &j->g->shape;
	float sum = 0.0f;

	for (uint32_t i = 0; i < s->top_k; i++) {
		uint32_t rank = 0;

		for (uint32_t n = 0; n < s->top_k; n++)
			rank += k->chosen[n] < k->chosen[i];
		expert[rank] = (uint16_t)k->chosen[i];
		weight[rank] = k->score[k->chosen[i]];
	}
	for (uint32_t i = 0; s->normalise && i < s->top_k; i++)
		sum = sum + weight[i];
	sum = sum + 1e-20f;
	for (uint32_t i = 0; s->normalise && i < s->top_k; i++)
		weight[i] = __fdiv_rn(weight[i], sum);
	for (uint32_t i = 0; s->rescale && i < s->top_k; i++)
		weight[i] = weight[i] * s->routed_scaling_factor;
}

DEVICE void choose_row(const struct job *j, struct choice *k, const float *logits, uint16_t *expert,
		       float *weight)
{
	const struct dev_shape *s = &j->g->shape;
	const float *bias = j->c->bias ? (const float *)at(j, j->c->bias) : NULL;

	score_experts(j, k, logits);
	for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS) {
		k->value[i] = bias ? k->score[i] + bias[i] : k->score[i];
		k->taken[i] = 0;
	}
	__syncthreads();
	if (s->topk_method != 0 && s->n_group > 1) /* TOPK_GREEDY has no groups */
		limit_groups(j, k);
	if (threadIdx.x >= 32)
		return;
	for (uint32_t i = 0; i < s->top_k; i++) {
		uint32_t best = best_free(k->value, k->taken, s->experts);

		__syncwarp(ALL_LANES);
		if (threadIdx.x == 0) {
			k->taken[best] = 1;
			k->chosen[i] = best;
		}
		__syncwarp(ALL_LANES);
	}
	if (threadIdx.x == 0)
		weigh(j, k, expert, weight);
}

DEVICE size_t pair_at(const struct job *j, uint32_t r)
{
	return ((size_t)j->c->layer * j->f->rows + r) * j->g->shape.top_k;
}

DEVICE void do_choose(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	uint32_t *state = (uint32_t *)in_frame(j, j->f->state);

	for (uint32_t r = blockIdx.x; r < j->c->rows; r += gridDim.x) {
		const float *logits = (const float *)in_frame(j, j->f->logits) +
				      (size_t)r * s->experts;
		uint16_t *expert = (uint16_t *)in_frame(j, j->f->expert) + pair_at(j, r);
		float *weight = (float *)in_frame(j, j->f->weight) + pair_at(j, r);
		int bad = has_failed(j, r), not_finite = 0;

		for (uint32_t i = threadIdx.x; i < s->experts; i += THREADS)
			not_finite |= !is_finite(logits[i]);
		not_finite = __syncthreads_or(not_finite);
		if (not_finite && threadIdx.x == 0)
			fail_row(j, r, j->c->bytes);
		bad |= not_finite;
		for (uint32_t i = threadIdx.x; i < s->top_k; i += THREADS) {
			expert[i] = 0;
			weight[i] = 0.0f;
			state[r * s->top_k + i] = bad ? PAIR_NONE : PAIR_WAITS;
		}
		__syncthreads();
		if (!bad)
			choose_row(j, (struct choice *)j->shared, logits, expert, weight);
		__syncthreads();
	}
}

/* ---- Routed experts ---- */

DEVICE const struct dev_expert *expert_of_pair(const struct job *j, uint32_t pair)
{
	const uint16_t *expert = (const uint16_t *)in_frame(j, j->f->expert) + pair_at(j, 0);

	return &j->g->table[(size_t)j->c->layer * j->g->shape.experts + expert[pair]];
}

DEVICE bool is_ready(const struct job *j, uint32_t pair)
{
	const uint32_t *state = (const uint32_t *)in_frame(j, j->f->state);

	return state[pair] == PAIR_WAITS && expert_of_pair(j, pair)->data[0];
}

/*
 * Phase 0: order[TILE_ROWS * i] = the pairs of a group that begins with pair i, or NO_PAIR where no
 * group begins with it. A pair looks at those before it.
 */
DEVICE void experts_order(const struct job *j)
{
	const uint32_t pairs = j->c->rows * j->g->shape.top_k;
	const uint16_t *expert = (const uint16_t *)in_frame(j, j->f->expert) + pair_at(j, 0);
	uint32_t *order = (uint32_t *)in_frame(j, j->f->order);

	for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < pairs;
	     i += gridDim.x * THREADS) {
		uint32_t rank = 0, n = 1;

		for (int m = 0; m < TILE_ROWS; m++)
			order[TILE_ROWS * i + m] = NO_PAIR;
		if (!is_ready(j, i))
			continue;
		for (uint32_t o = 0; o < i; o++)
			rank += expert[o] == expert[i] && is_ready(j, o);
		if (rank % TILE_ROWS)
			continue;
		order[TILE_ROWS * i] = i;
		for (uint32_t o = i + 1; o < pairs && n < TILE_ROWS; o++)
			if (expert[o] == expert[i] && is_ready(j, o))
				order[TILE_ROWS * i + n++] = o;
	}
}

DEVICE struct matrix expert_matrix(const struct job *j, uint32_t pair, int part)
{
	const struct dev_shape *s = &j->g->shape;
	const struct dev_expert *x = expert_of_pair(j, pair);
	struct matrix m;

	m.data = (const char *)at(j, x->data[part]);
	m.scale = (const float *)at(j, x->scale[part]);
	m.n_out = part == 2 ? s->hidden : s->inner;
	m.n_in = part == 2 ? s->inner : s->hidden;
	m.type = s->expert_type;
	m.even = is_even(m.data, m.type == 1 ? m.n_in : 2 * (size_t)m.n_in);
	return m;
}

/* ---- 4 bits ---- */

/* One block of rule 13's activations, as drivers/cpu/q4.h has it. */
struct q8_block {
	int8_t q[128];
	int32_t start[4];
	float scale;
	uint32_t pad[3];
};

struct q4_tile_group {
	uint8_t code[4][16][4];
	uint16_t scale[16];
};

/* Blocks of a pair's activations lie this far apart. */
DEVICE uint32_t q8_stride(const struct dev_shape *s)
{
	return (s->width > s->inner_pad ? s->width : s->inner_pad) / 128;
}

/* A warp makes one block of 128. */
DEVICE void to_int8(struct q8_block *y, const uint16_t *x)
{
	const uint32_t lane = threadIdx.x % 32;
	uint32_t largest = 0;
	float max, inv;
	bool zero;

	for (uint32_t i = lane; i < 128; i += 32)
		largest = (x[i] & 0x7fffu) > largest ? (x[i] & 0x7fffu) : largest;
	UNROLL
	for (int d = 16; d; d /= 2) {
		uint32_t other = __shfl_xor_sync(ALL_LANES, largest, d);

		largest = other > largest ? other : largest;
	}
	max = bf16_float((uint16_t)largest);
	zero = !is_finite(max) || max < 0x1p-100f;
	inv = zero ? 0.0f : __fdiv_rn(127.0f, max);
	for (uint32_t i = lane; i < 128; i += 32)
		y->q[i] = zero ? 0 : (int8_t)__float2int_rn(bf16_float(x[i]) * inv);
	if (lane == 0)
		y->scale = !is_finite(max) ? __uint_as_float(0x7fc00000)
			   : zero	   ? 0.0f
					   : __fdiv_rn(max, 127.0f);
}

/* q8 of the waiting pairs: of x, or (part 2) of v. */
DEVICE void experts_int8(const struct job *j, bool of_v)
{
	const struct dev_shape *s = &j->g->shape;
	const uint32_t blocks = (of_v ? s->inner_pad : s->width) / 128;
	const uint32_t pairs = j->c->rows * s->top_k, stride = q8_stride(s);
	struct q8_block *q8 = (struct q8_block *)in_frame(j, j->f->q8);
	const uint16_t *x = (const uint16_t *)in_frame(j, of_v ? j->f->v : j->f->x);

	for (uint32_t u = blockIdx.x * WARPS + threadIdx.x / 32; u < pairs * blocks;
	     u += gridDim.x * WARPS) {
		uint32_t pair = u / blocks, b = u % blocks;

		if (is_ready(j, pair))
			to_int8(&q8[(size_t)pair * stride + b],
				x + (size_t)(of_v ? pair : pair / s->top_k) *
					    (of_v ? s->inner_pad : s->width) +
					128 * b);
	}
}

DEVICE int group_dot(const struct q4_tile_group *g, uint32_t row, const int8_t *table,
		     const int8_t *q)
{
	int sum = 0;

	UNROLL
	for (int v = 0; v < 4; v++) {
		UNROLL
		for (int b = 0; b < 4; b++) {
			uint8_t c = g->code[v][row][b];

			sum += table[c & 15] * q[4 * v + b];
			sum += table[c >> 4] * q[4 * (v + 4) + b];
		}
	}
	return sum;
}

/*
 * 16 outputs, a tile of the matrix, for one row of q8: half a warp for each even and odd block,
 * then a fold in ascending order. Thread l < 16 of the warp gets output l. By one warp.
 */
DEVICE float q4_outputs(const struct job *j, const struct matrix *m, uint32_t index,
			const struct q8_block *x)
{
	const uint32_t lane = threadIdx.x % 32, row = lane % 16;
	const uint32_t groups = (m->n_in + 31) / 32, blocks = (m->n_in + 127) / 128;
	const struct q4_tile_group *tile_data =
		(const struct q4_tile_group *)m->data + (size_t)index * groups;
	const int8_t *table = j->g->shape.q4_table;
	float t = 0.0f;

	for (uint32_t b0 = 0; b0 < blocks; b0 += 2) {
		uint32_t b = b0 + lane / 16;
		float a = 0.0f, other;

		if (b < blocks) {
			for (uint32_t i = 0; i < 4 && 4 * b + i < groups; i++) {
				const struct q4_tile_group *g = &tile_data[4 * b + i];

				a = __fmaf_rn((float)group_dot(g, row, table, x[b].q + 32 * i),
					      bf16_float(g->scale[row]), a);
			}
		}
		other = __shfl_xor_sync(ALL_LANES, a, 16);
		if (lane < 16) {
			t = __fmaf_rn(a, x[b0].scale, t);
			if (b0 + 1 < blocks)
				t = __fmaf_rn(other, x[b0 + 1].scale, t);
		}
	}
	return t;
}

DEVICE void experts_enter_q4(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const uint32_t tiles = (s->inner + 15) / 16, pairs = j->c->rows * s->top_k;
	const struct q8_block *q8 = (const struct q8_block *)in_frame(j, j->f->q8);
	const uint32_t lane = threadIdx.x % 32;

	for (uint32_t u = blockIdx.x * WARPS + threadIdx.x / 32; u < pairs * tiles;
	     u += gridDim.x * WARPS) {
		uint32_t pair = u / tiles, o = u % tiles * 16 + lane;
		uint16_t *v = (uint16_t *)in_frame(j, j->f->v) + (size_t)pair * s->inner_pad;
		const struct q8_block *x = q8 + (size_t)pair * q8_stride(s);
		struct matrix gate, up;
		float g, p;

		if (!is_ready(j, pair))
			continue;
		gate = expert_matrix(j, pair, 0);
		up = expert_matrix(j, pair, 1);
		g = q4_outputs(j, &gate, u % tiles, x);
		p = q4_outputs(j, &up, u % tiles, x);
		if (lane < 16 && o < s->inner)
			v[o] = float_bf16(silu_rule(g) * p);
		if (u % tiles == tiles - 1)
			for (uint32_t i = s->inner + lane; i < s->inner_pad; i += 32)
				v[i] = 0;
	}
}

DEVICE void experts_leave_q4(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const uint32_t tiles = (s->hidden + 15) / 16, pairs = j->c->rows * s->top_k;
	const struct q8_block *q8 = (const struct q8_block *)in_frame(j, j->f->q8);
	float *f = (float *)in_frame(j, j->f->f);
	const uint32_t lane = threadIdx.x % 32;

	for (uint32_t u = blockIdx.x * WARPS + threadIdx.x / 32; u < pairs * tiles;
	     u += gridDim.x * WARPS) {
		uint32_t pair = u / tiles, o = u % tiles * 16 + lane;
		struct matrix down;
		float y;

		if (!is_ready(j, pair))
			continue;
		down = expert_matrix(j, pair, 2);
		y = q4_outputs(j, &down, u % tiles, q8 + (size_t)pair * q8_stride(s));
		if (lane < 16 && o < s->hidden)
			f[(size_t)pair * s->width + o] = y;
	}
}

/* ---- FP8 and BF16 ---- */

/* The pairs of the group that begins with `pair`; how many. Those that are not there repeat it. */
DEVICE uint32_t group_of(const struct job *j, uint32_t pair, uint32_t member[TILE_ROWS])
{
	const uint32_t *order = (const uint32_t *)in_frame(j, j->f->order) + TILE_ROWS * pair;
	uint32_t n = 0;

	UNROLL
	for (int i = 0; i < TILE_ROWS; i++) {
		member[i] = order[i] == NO_PAIR ? pair : order[i];
		n += order[i] != NO_PAIR;
	}
	return n;
}

DEVICE void experts_enter(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const struct split split = split_of(s->hidden);
	const uint32_t outs = tile_outputs(&split), tiles = (s->inner + outs - 1) / outs;
	const uint32_t pairs = j->c->rows * s->top_k;

	for (uint32_t u = blockIdx.x * WARPS + threadIdx.x / 32; u < pairs * tiles;
	     u += gridDim.x * WARPS) {
		uint32_t pair = u / tiles, member[TILE_ROWS], n = group_of(j, pair, member);
		const uint16_t *x[TILE_ROWS];
		uint16_t *v[TILE_ROWS];
		struct matrix gate, up;

		if (!n)
			continue;
		gate = expert_matrix(j, pair, 0);
		up = expert_matrix(j, pair, 1);
		UNROLL
		for (int i = 0; i < TILE_ROWS; i++) {
			x[i] = (const uint16_t *)in_frame(j, j->f->x) +
			       (size_t)(member[i] / s->top_k) * s->width;
			v[i] = (uint32_t)i < n ? (uint16_t *)in_frame(j, j->f->v) +
							 (size_t)member[i] * s->inner_pad
					       : NULL;
		}
		if (n == 1)
			enter_tile(j, &gate, &up, &split, u % tiles * outs, x, v, s->inner_pad, 1);
		else
			enter_tile(j, &gate, &up, &split, u % tiles * outs, x, v, s->inner_pad,
				   TILE_ROWS);
	}
}

/* f of outputs [o, o + outs) for R members of a group of n. */
DEVICE void leave_tile(const struct job *j, const struct matrix *down, const struct split *split,
		       uint32_t o, const uint32_t member[TILE_ROWS], uint32_t n, const int R)
{
	const struct dev_shape *s = &j->g->shape;
	const uint32_t lane = threadIdx.x % 32, outs = tile_outputs(split);
	const uint16_t *x[TILE_ROWS];
	float *f = (float *)in_frame(j, j->f->f), y[FOLDS_MAX];

	UNROLL
	for (int i = 0; i < TILE_ROWS; i++)
		x[i] = (const uint16_t *)in_frame(j, j->f->v) + (size_t)member[i] * s->inner_pad;
	tile(y, j, down, split, o, s->hidden, x, R);
	UNROLL
	for (int k = 0; k < FOLDS_MAX; k++) {
		uint32_t fold = k * 32 + lane, row = o + fold / 4 / R, r = fold / 4 % R;

		if (fold >= outs * R * 4 || fold % 4 || row >= s->hidden || r >= n)
			continue;
		UNROLL
		for (int i = 0; i < R; i++)
			if (r == (uint32_t)i)
				f[(size_t)member[i] * s->width + row] = y[k];
	}
}

DEVICE void experts_leave(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const struct split split = split_of(s->inner);
	const uint32_t outs = tile_outputs(&split), tiles = (s->hidden + outs - 1) / outs;
	const uint32_t pairs = j->c->rows * s->top_k;

	for (uint32_t u = blockIdx.x * WARPS + threadIdx.x / 32; u < pairs * tiles;
	     u += gridDim.x * WARPS) {
		uint32_t pair = u / tiles, member[TILE_ROWS], n = group_of(j, pair, member);
		struct matrix down;

		if (!n)
			continue;
		down = expert_matrix(j, pair, 2);
		if (n == 1)
			leave_tile(j, &down, &split, u % tiles * outs, member, n, 1);
		else
			leave_tile(j, &down, &split, u % tiles * outs, member, n, TILE_ROWS);
	}
}

/* The last phase: what was computed is done; whether anything still waits stops the list. */
DEVICE void experts_settle(const struct job *j, uint32_t index)
{
	const uint32_t pairs = j->c->rows * j->g->shape.top_k;
	uint32_t *state = (uint32_t *)in_frame(j, j->f->state);

	for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < pairs;
	     i += gridDim.x * THREADS) {
		if (is_ready(j, i))
			state[i] = PAIR_DONE;
		else if (state[i] == PAIR_WAITS)
			j->g->control->stopped = index; /* every writer writes the same */
	}
}

/* ---- The sum, and experts that cannot be had ---- */

DEVICE void do_combine(const struct job *j)
{
	const struct dev_shape *s = &j->g->shape;
	const float *h1 = (const float *)in_frame(j, j->f->h[1]);
	const float *shared = (const float *)in_frame(j, j->f->shared);
	const float *f = (const float *)in_frame(j, j->f->f);
	float *h0 = (float *)in_frame(j, j->f->h[0]);

	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
	     i < (size_t)j->c->rows * s->width; i += gridDim.x * (size_t)THREADS) {
		uint32_t r = (uint32_t)(i / s->width), k = (uint32_t)(i % s->width);
		const float *weight = (const float *)in_frame(j, j->f->weight);
		float acc = 0.0f;

		if (k >= s->hidden)
			continue;
		if (j->c->flags & COMMAND_ROUTED) {
			weight += pair_at(j, r);
			for (uint32_t n = 0; n < s->top_k; n++)
				acc = __fmaf_rn(weight[n],
						f[((size_t)r * s->top_k + n) * s->width + k], acc);
			if (j->c->flags & COMMAND_SHARED)
				acc = acc + shared[i];
		} else {
			acc = shared[i];
		}
		h0[i] = h1[i] + acc;
	}
}

DEVICE void do_fail(const struct job *j)
{
	const uint16_t *expert = (const uint16_t *)in_frame(j, j->f->expert) + pair_at(j, 0);
	uint32_t *state = (uint32_t *)in_frame(j, j->f->state), k = j->g->shape.top_k;

	for (uint32_t r = blockIdx.x * THREADS + threadIdx.x; r < j->c->rows;
	     r += gridDim.x * THREADS) {
		bool fails = false;

		for (uint32_t i = 0; i < k; i++)
			fails |= state[r * k + i] == PAIR_WAITS && expert[r * k + i] == j->c->id;
		if (!fails)
			continue;
		fail_row(j, r, j->c->bytes);
		for (uint32_t i = 0; i < k; i++)
			state[r * k + i] = PAIR_NONE;
	}
}

#endif
