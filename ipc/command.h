/*
 * Command lists: what a GPU is told to do. `router` appends the list of a whole pass, `experts`
 * lists that bring experts into GPU memory; the server `cuda` copies and checks them, and an
 * executor carries them out, command by command: drivers/cuda on a GPU, runtime/cuda/host.c on the
 * CPU, which is the reference. A command is one operation of model/ for the rows of a frame, in the
 * arithmetic of drivers/cpu; it names memory by region and offset, never by pointer. What one
 * command leaves to the next stays on the device. Lists of passes are made by model/list.c.
 */
#ifndef IPC_COMMAND_H
#define IPC_COMMAND_H

#include "runtime/err.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

/* An address: region << 56 | offset; 0 is "none". */
typedef uint64_t dev_addr;

enum dev_region {
	DEV_NONE,
	DEV_WORK,    /* frames of the batches: written by commands */
	DEV_KV,      /* mirror of the KV object's pages: written by CACHE, PAGE and COPY */
	DEV_WEIGHTS, /* copy of the resident object behind its object_header */
	DEV_SLOTS,   /* the GPU's cache of experts, slots of plan.slot_bytes: written by COPY */
	/* host memory, which only COPY names: it reads the first two and writes the third */
	DEV_HOST_LIST,   /* what stands behind a list's head, as the server has copied it */
	DEV_HOST_SLOTS,  /* the SLOTS object */
	DEV_HOST_OUT,    /* the server's own object */
	DEV_HOST_RESULT, /* experts' object, which only RESULT reads */
	DEV_REGIONS
};

static inline dev_addr dev_at(enum dev_region region, uint64_t offset)
{
	return (uint64_t)region << 56 | offset;
}

static inline uint32_t dev_region(dev_addr a)
{
	return (uint32_t)(a >> 56);
}

static inline uint64_t dev_offset(dev_addr a)
{
	return a & 0xffffffffffffffull;
}

/* What commands need to know of the model; names as in model/config.h. */
struct dev_shape {
	uint32_t hidden, width; /* width: padded to 128 */
	uint32_t heads, nope, rope, v, rank, q_rank;
	uint32_t key, latent; /* rank + rope and rank, padded to 128 */
	uint32_t o_in;        /* heads * v, padded to 128 */
	uint32_t kv_row;      /* elements of a cached row */
	uint32_t layers, pages;
	uint32_t experts, top_k, n_group, topk_group, topk_method, scoring_func;
	uint32_t normalise, rescale; /* the chosen weights: 0 or 1 */
	uint32_t inner, inner_pad;   /* moe_intermediate_size; padded to 128 */
	uint32_t expert_type;        /* enum weight_type */
	float softmax_scale, latent_eps, routed_scaling_factor;
	int8_t q4_table[16];
};

/* A row of a list; its pages are entries first_page .. of the list's page list. */
struct dev_row {
	uint32_t position, first_key; /* as struct attention_row */
	uint32_t first_page, pad;
};

/* A stored matrix, as struct weight of drivers/cpu/kernels.h. */
struct dev_weight {
	dev_addr data, scale;
	uint32_t n_out, n_in, type, pad;
};

/* The three matrices of a routed expert in GPU memory; data[0] 0: it is not there. */
struct dev_expert {
	dev_addr data[3], scale[3];
};

/* What becomes of a pair (row, choice) of a layer with routed experts. */
enum pair_state {
	PAIR_WAITS,
	PAIR_DONE,
	PAIR_NONE /* its row has failed */
};

/*
 * A frame: the arrays of one batch in DEV_WORK, as offsets. R rows at most. Made by list_frame
 * (model/list.h), the same in every process.
 */
struct frame {
	uint32_t rows, pages, logit_rows, splits; /* capacities */
	/* from the list's sender */
	uint64_t row;   /* struct dev_row [R] */
	uint64_t page;  /* uint32_t [pages] */
	uint64_t angle; /* float [R][rope]: cosines and sines */
	uint64_t error; /* uint64_t [R]: error words of ipc/layout.h */
	/* residual stream, and what is made of it */
	uint64_t h[2];    /* float [R][width] */
	uint64_t x;       /* BF16 [R][width] */
	uint64_t q_down;  /* float [R][q_rank] */
	uint64_t kv_down; /* float [R][rank + rope] */
	uint64_t cq;      /* BF16 [R][q_rank padded] */
	uint64_t wide;    /* float [R][heads * (nope + rope)] */
	uint64_t q;       /* BF16 [R][heads][key] */
	uint64_t o;       /* BF16 [R][heads][latent] */
	uint64_t ov;      /* BF16 [R][o_in] */
	uint64_t out;     /* float [R][width] */
	uint64_t cached;  /* BF16 [layers][R][kv_row]: the rows' own entries, to be copied back */
	/* ATTEND of few rows: what each segment gives, [splits][heads] */
	uint64_t part, part_max, part_sum; /* float [..][rank], float, float */
	/* gate and experts */
	uint64_t logits; /* float [R][experts] */
	uint64_t expert; /* uint16_t [layers][R][top_k], ascending */
	uint64_t weight; /* float, the same */
	uint64_t state;  /* uint32_t [R * top_k]: enum pair_state */
	uint64_t order;  /* uint32_t [4 * R * top_k]: an executor's own */
	uint64_t v;      /* BF16, what ENTER and EXPERTS make: rows of the inner widths */
	uint64_t q8;     /* struct int8_block [R * top_k][longest row / 128]: 4-bit experts */
	uint64_t f;      /* float [R * top_k][width] */
	uint64_t shared; /* float [R][width] */
	/* the head */
	uint64_t picked;      /* float [logit_rows][width] */
	uint64_t picked_x;    /* BF16, the same */
	uint64_t head_logits; /* float [logit_rows][vocab] */
	uint64_t bytes;
};

/*
 * X(KIND, value, what it does). Without `to` and `from` it works in the arrays of the frame that
 * its name implies.
 */
#define COMMAND_LIST(X)                                                                            \
	X(COPY, 1, "bytes from one region to another")                                             \
	X(PAGE, 2, "the first positions of a KV page to another, all layers")                      \
	X(NORM, 3, "to[rows][ldy] BF16 = norm(from[rows][ldx] + bias) * vector, n long")           \
	X(MATMUL, 4, "to[rows][ldy] FP32 = weight from[rows][ldx]")                                \
	X(ENTER, 5, "to[rows][ldy] BF16 = silu(weight from) * (weight2 from)")                     \
	X(CACHE, 6, "kv_down into pages and `cached`: bias, norm by vector, rotation")             \
	X(ABSORB, 7, "wide to q, per head: [W_UK^T q_nope ; rotated q_pe] in BF16")                \
	X(ATTEND, 8, "q to o: softmax over the cached rows, their weighted sum")                   \
	X(VALUES, 9, "o to ov, per head: BF16(W_UV o)")                                            \
	X(RESIDUAL, 10, "h[1] = h[0] + (out + bias)")                                              \
	X(FINITE, 11, "rows of `from` that are not finite get the error word `bytes`")             \
	X(CHOOSE, 12, "logits to experts and weights of the layer; pairs wait")                    \
	X(EXPERTS, 13, "every waiting pair whose expert is there; stops if some are left")         \
	X(COMBINE, 14, "h[0] = h[1] + (weighted sum of the pairs + shared), or + shared")          \
	X(EXPERT, 15, "an entry of the table of experts")                                          \
	X(FAIL, 16, "rows whose pairs wait for this expert get the error word `bytes`")            \
	X(RESULT, 17, "pair n, which waits, has the output at `from`: the CPU has computed it")

#define COMMAND_ENUM(kind, value, what) COMMAND_##kind = value,
enum command_kind {
	COMMAND_LIST(COMMAND_ENUM) COMMAND_KINDS
};
#undef COMMAND_ENUM

enum command_flags {
	COMMAND_JOINS =
		1, /* does not depend on the command before it, nor on any that that joins */
	COMMAND_ROUTED = 2, /* COMBINE: the layer has routed experts */
	COMMAND_SHARED = 4  /* COMBINE: and shared ones */
};

struct command {
	uint16_t kind;  /* enum command_kind */
	uint16_t flags; /* enum command_flags */
	uint16_t batch; /* whose frame */
	uint16_t id;    /* EXPERT, FAIL */
	uint32_t rows, layer;
	dev_addr to, from;
	uint64_t bytes; /* COPY; the error word of FINITE and FAIL */
	uint32_t ldy, ldx;
	dev_addr vector, bias; /* FP32; CHOOSE: bias corrects the scores; 0: none */
	uint32_t n;
	float eps;
	union {
		struct {
			struct dev_weight weight, weight2;
		};
		struct dev_expert expert;
		struct {
			uint32_t page_from, page_to, positions;
		};
	};
};
static_assert(sizeof(struct command) == 136, "as the kernels read it");

/* A list in the object of its sender: this, then its parts at the offsets of list_layout. */
struct list_head {
	uint64_t seq; /* of the message that announced it */
	uint32_t commands;
	uint32_t rows, pages; /* of a pass: entries of the row table and of the page list */
	uint32_t pad;
};

#endif
