/*
 * The route trace: which experts every row was sent to, in an object that only router writes and
 * scribe copies into a file (`--trace-routes FILE`). A ring of equal records: router never waits
 * for scribe, so a disk that is too slow costs records, which are counted, never tokens.
 *
 * The file, little-endian: struct trace_file, then records of `record_bytes` each:
 * 	struct trace_row, uint16_t expert[moe_layers][top_k] ascending ids, padding to 4 bytes,
 * 	float weight[moe_layers][top_k] of the same experts, padding to 8 bytes.
 * MoE layers are those of the main model, ascending. Rows of one pass stand together. They are
 * added when the pass has been committed: a router that is killed just then leaves them out, and
 * none stands here twice.
 */
#ifndef IPC_TRACE_H
#define IPC_TRACE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#define TRACE_MAGIC   0x4543415254534e50ull /* "PNSTRACE" little-endian */
#define TRACE_VERSION 2u

enum {
	TRACE_RECORDS = 8192 /* at least eight chunks of 512 rows between two looks of scribe */
};

struct trace_file {
	uint64_t magic;
	uint32_t version;
	uint32_t record_bytes;
	uint32_t moe_layers, top_k;
	uint32_t experts; /* routed experts of a layer */
	uint32_t first_moe_layer;
	uint32_t layers; /* of the model: dense, MoE and MTP */
	uint32_t chunk;  /* rows of a prefill pass at most */
	uint8_t model_hash[32];
};

struct trace_row {
	uint64_t request;  /* number of the request on its connection */
	uint32_t conn;     /* connection: with `request` it names a sequence */
	uint32_t position; /* in the sequence */
	uint32_t token;    /* the row's token */
	uint32_t flags;    /* enum trace_flags */
};

enum trace_flags {
	TRACE_PREFILL = 1, /* a row of a prompt's chunk; else of a decode pass */
	TRACE_FIRST = 2    /* the first row of its pass */
};

/* A TRACE object after its header; records follow. */
struct trace_ring {
	alignas(64) _Atomic uint64_t head; /* records ever written; release */
	uint64_t zero[7];
};

/* Bytes of a record. */
static inline uint32_t trace_record_bytes(uint32_t moe_layers, uint32_t top_k)
{
	uint32_t pairs = moe_layers * top_k, ids = (pairs * 2 + 3) & ~3u;

	return ((uint32_t)sizeof(struct trace_row) + ids + pairs * 4 + 7) & ~7u;
}

#endif
