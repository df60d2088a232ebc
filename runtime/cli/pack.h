/*
 * `penstock pack` in parts: pack.c the command, pack_plan.c what goes where, pack_fill.c the bytes
 * of a task, pack_files.c the files and their journal, pack_write.c the threads. Used by
 * runtime/cli/pack*.c only.
 *
 * The work is cut into tasks, each a run of whole pieces at an address: the catalog, 8 MiB of
 * resident tensors, one expert. What a task writes depends on the sources and the plan only, so
 * tasks may run in any order and again. The journal is the table of hashes at its own place in the
 * store: a task's hashes are written when its bytes are on the drive (fdatasync between), so hashes
 * that are there speak of bytes that are there, whatever was killed when. A part's header says
 * `complete` when all this has been done.
 */
#ifndef RUNTIME_CLI_PACK_H
#define RUNTIME_CLI_PACK_H

#include "drivers/cpu/q4.h"
#include "model/store/pack.h"
#include "runtime/cli/model.h"

#include <stdatomic.h>
#include <stdbool.h>

enum {
	PACK_RESIDENT_TASK = 16 * PACK_PIECE,
	PACK_BOUNCE_BYTES = 4 << 20
};

/* A resident tensor on its way: where it is, where it goes. */
struct pack_move {
	const struct safetensor *from;
	uint32_t stored; /* enum index_type */
	uint64_t to;     /* address */
};

struct pack_plan {
	const struct cli_model *m;
	struct tensor_table table; /* of the checkpoint */
	struct pack_geometry g;
	enum cpu_isa isa;
	float e4m3[256];        /* the numbers of FP8's codes */
	char *catalog;          /* g.area[PACK_CATALOG].bytes */
	struct pack_move *move; /* by address */
	size_t moves;
	uint64_t tasks;
	uint8_t journal[PACK_HASH]; /* names sources and options */
};

/* A run of whole pieces. */
struct pack_task {
	enum pack_area area;
	uint64_t item, piece; /* the first */
	uint64_t address, bytes;
	uint64_t span; /* up to the next task's address: what is behind `bytes` is zero */
	uint64_t leaf, leaves;
};

/* What one thread needs. */
struct pack_scratch {
	char *data;    /* the largest span, aligned */
	char *bounce;  /* PACK_BOUNCE_BYTES, aligned */
	char *matrix;  /* one matrix as the checkpoint has it; 4 bits only, as what follows */
	float *scales; /* and its scales */
	float *rows;   /* 16 rows of it */
};

/* Where the entries of a 4-bit store's table come from. */
enum pack_table {
	PACK_TABLE_FITTED,   /* from this model's weights */
	PACK_TABLE_GAUSSIAN, /* from normally distributed ones: arithmetic 13 */
	PACK_TABLE_LINEAR    /* at equal distances */
};

struct pack_options {
	uint32_t parts;
	uint32_t bits; /* of routed experts: 8 as the checkpoint has them, FP8 or BF16; 4 */
	enum pack_table table;
};

MUST_CHECK int pack_plan_make(struct pack_plan *p, const struct cli_model *m,
			      const struct pack_options *o, struct err *e);
void pack_plan_free(struct pack_plan *p);

/* Task n < p->tasks. */
struct pack_task pack_task_of(const struct pack_plan *p, uint64_t n);

/* The largest span of any task. */
uint64_t pack_span_max(const struct pack_plan *p);

MUST_CHECK int pack_scratch_open(struct pack_scratch *s, const struct pack_plan *p, struct err *e);
void pack_scratch_close(struct pack_scratch *s);

/* A matrix of a routed expert as the checkpoint has it. */
struct pack_matrix {
	const void *data;
	const float *scale; /* FP8: as in struct weight */
	const float *e4m3;  /* FP8: the numbers of all 256 codes */
	uint64_t n_out, n_in;
	uint32_t type; /* INDEX_FP8 or INDEX_BF16 */
};

/* The matrix in 4 bits: out[q4_bytes]. `rows` is scratch for 16 of its rows. */
void pack_to_q4(const struct pack_matrix *m, const int8_t table[16], float *rows, void *out);

/* A table from a part of the model's experts: Lloyd's iterations over their normalised weights. */
MUST_CHECK int pack_fit_table(const struct pack_plan *p, int8_t table[16], struct err *e);

/* Matrix `part` of an expert into s->matrix and s->scales. */
MUST_CHECK int pack_read_matrix(const struct pack_plan *p, uint64_t expert, unsigned part,
				struct pack_scratch *s, struct pack_matrix *m, struct err *e);

/* The task's `span` bytes into s->data. Numbers that are not finite are refused: status 3. */
MUST_CHECK int pack_fill(const struct pack_plan *p, const struct pack_task *t,
			 struct pack_scratch *s, struct err *e);

/* The store being written. */
struct pack_out {
	const struct pack_plan *p;
	const char *const *path; /* [g.parts] */
	int fd[PACK_PARTS_MAX];
	bool made[PACK_PARTS_MAX];   /* this run has created the file */
	bool device[PACK_PARTS_MAX]; /* a block device */
	bool complete;               /* every part says so already */
	uint8_t *hashes;  /* g.area[PACK_HASHES].bytes: all zero where there is none yet */
	uint8_t *written; /* what of them the store shall hold now */
};

/*
 * Opens or makes the parts: room is reserved, a pack that was interrupted is taken up, anything
 * else that is there is refused unless `force`.
 */
MUST_CHECK int pack_out_open(struct pack_out *o, const struct pack_plan *p, const char *const *path,
			     bool force, struct err *e);
void pack_out_close(struct pack_out *o);

/* Writes the bytes at an address, a multiple of PACK_ALIGN each, to the parts that have them. */
MUST_CHECK int pack_out_write(const struct pack_out *o, uint64_t address, const char *data,
			      uint64_t len, struct err *e);

/* All that was written is on the drives. */
MUST_CHECK int pack_out_sync(const struct pack_out *o, struct err *e);

/* Writes leaves [leaf, leaf + n) of `written`. What they speak of has been synced. */
MUST_CHECK int pack_out_note(struct pack_out *o, uint64_t leaf, uint64_t n, struct err *e);

/* The end: tops, root and the headers that say `complete`. */
MUST_CHECK int pack_out_finish(struct pack_out *o, uint8_t root[PACK_HASH], struct err *e);

/* Does all tasks that are not noted yet. Progress on stderr. */
MUST_CHECK int pack_write(struct pack_out *o, double *seconds, uint64_t *bytes, struct err *e);

/* Set by SIGINT and SIGTERM. */
bool pack_interrupted(void);

#endif
