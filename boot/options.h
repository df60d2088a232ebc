/*
 * The command line of a node: one table for `penstock run`, which only checks it, and for `init`,
 * which is started with the same arguments. `penstock score` starts init with `--client score`
 * (boot/README.md).
 */
#ifndef BOOT_OPTIONS_H
#define BOOT_OPTIONS_H

#include "ipc/layout.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	PLACES_DEFAULT = 8,
	MTP_DEFAULT = MTP_AUTO
};

#define SLOTS_AUTO UINT64_MAX

struct boot_options {
	const char *model; /* directory of the checkpoint */
	const char *socket, *name, *template_name;
	const char *client;       /* program in the gateway's place, NULL: the gateway */
	uint64_t memory;          /* bytes, 0: what is free less a reserve */
	uint64_t context;         /* positions, 0: 8192 or the model's if less */
	uint64_t parallel;        /* sequences at once */
	uint64_t chunk;           /* prompt rows per pass, 0: what memory allows up to 512 */
	uint64_t slots, threads;  /* 0: by the plan, by the machine */
	unsigned isa;             /* enum cpu_isa */
	unsigned mtp;             /* enum mtp_mode */
	unsigned gpu;             /* enum gpu_mode */
	unsigned gpu_ordinal;     /* GPU_CUDA: which */
	const char *libcuda;      /* the driver's library, NULL: where the system has it */
	uint64_t gpu_slots;       /* SLOTS_AUTO: as many as there is room for */
	const char *trace_routes; /* file, NULL: none */
	const char *recorder;     /* the same */
	const char *root;         /* 64 hex digits that a packed store must have, NULL: any */
	unsigned sandbox;         /* 1: go on where the kernel lacks a part of it */
	bool verbose;
};

/*
 * Reads argv (argv[0] is skipped). Returns 0; 1 if help was printed and there is nothing to do; or
 * -errno with STATUS_USAGE, or STATUS_MEMORY for instructions that this CPU lacks. Strings are
 * borrowed from argv.
 */
MUST_CHECK int boot_options_parse(struct boot_options *o, int argc, char **argv, struct err *e);

#endif
