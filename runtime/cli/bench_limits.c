/* What the machine can do; see bench.h. */
#include "runtime/cli/bench.h"

#include "drivers/nvme/limit.h"
#include "drivers/nvme/stream.h"
#include "runtime/clock.h"
#include "runtime/huge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_BYTES ((size_t)256 << 20) /* many times the last cache */

enum {
	DOT_TURNS = 1 << 20, /* 4 ms */
	PROBE_PASSES = 2,
	DRIVE_MS = 300, /* of each order */
	DRIVE_RUN = 6   /* 3 MB: a matrix of an expert */
};

struct job {
	const struct bench_limits *l;
	const struct cpu_read_loop *loop; /* NULL: multiply */
	size_t turns;
	_Atomic uint64_t sink; /* keeps the reads alive */
	double flops[TEAM_MAX];
};

static void work(void *context, struct worker *w)
{
	struct job *j = context;
	size_t begin, end;

	if (!j->loop) {
		j->flops[w->index] = cpu_peak_run(j->l->isa, j->turns);
		return;
	}
	worker_share(w, MEMORY_BYTES, 4096, &begin, &end);
	atomic_fetch_add_explicit(&j->sink, j->loop->run(j->l->memory + begin, end - begin),
				  memory_order_relaxed);
}

/* Runs the job on all threads; seconds. The leader has its own CPU meanwhile, and no longer. */
static double seconds(struct job *j)
{
	const cpu_set_t *all = &j->l->cpus;
	cpu_set_t first;
	uint64_t begin;
	unsigned cpu = 0;

	while (!CPU_ISSET(cpu, all))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	sched_setaffinity(0, sizeof(first), &first);
	begin = clock_now_ns();
	team_run(j->l->team, work, j);
	begin = clock_now_ns() - begin;
	sched_setaffinity(0, sizeof(*all), all);
	return (double)begin * 1e-9;
}

static double read_rate(const struct bench_limits *l, const struct cpu_read_loop *loop)
{
	struct job j = {.l = l, .loop = loop};
	double best = 0;

	for (unsigned i = 0; i < PROBE_PASSES; i++) {
		double rate = (double)MEMORY_BYTES / seconds(&j) * 1e-9;

		best = rate > best ? rate : best;
	}
	return best;
}

double bench_probe_memory(struct bench_limits *l)
{
	double best = 0;

	for (unsigned i = 0; i < 3; i++) {
		double rate = read_rate(l, l->probe[i]);

		best = rate > best ? rate : best;
	}
	l->read_gbs = best > l->read_gbs ? best : l->read_gbs;
	return best;
}

double bench_probe_dot(struct bench_limits *l)
{
	struct job j = {.l = l, .turns = DOT_TURNS};
	double best = 0;

	for (unsigned pass = 0; pass < PROBE_PASSES; pass++) {
		double s = seconds(&j), sum = 0;

		for (unsigned i = 0; i < l->threads; i++)
			sum += j.flops[i];
		best = sum / s * 1e-9 > best ? sum / s * 1e-9 : best;
	}
	l->flops = best > l->flops ? best : l->flops;
	return best;
}

int bench_probe_drive(struct bench_limits *l, const struct store_files *files, double *gbs,
		      struct err *e)
{
	struct drive_file *file = calloc(files->count, sizeof(*file));
	struct drive_rate rate;
	int rc = 0;

	*gbs = 0;
	if (!file)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the files' list");
	for (uint32_t i = 0; i < files->count; i++)
		file[i] = (struct drive_file){.fd = files->file[i].fd,
					      .bytes = files->file[i].direct ? files->file[i].bytes
									     : 0};
	for (unsigned run = 1; !rc && run <= DRIVE_RUN; run += DRIVE_RUN - 1) {
		rc = drive_limit(&rate, file, files->count, STREAM_PIECE, STREAM_DEPTH, run,
				 DRIVE_MS * NS_PER_MS, e);
		*gbs = !rc && rate.gbs > *gbs ? rate.gbs : *gbs;
	}
	free(file);
	if (rc == -ENODATA) { /* a model smaller than a piece, or no O_DIRECT: no limit to name */
		*e = (struct err){0};
		return 0;
	}
	l->drive_gbs = *gbs > l->drive_gbs ? *gbs : l->drive_gbs;
	return rc;
}

/* ---- Start ---- */

static int map_memory(struct bench_limits *l, struct err *e)
{
	int fd = memfd_create("penstock:bench", MFD_CLOEXEC);
	char line[200];
	FILE *f;

	if (fd < 0 || ftruncate(fd, MEMORY_BYTES))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "bench: no memory for the read loops");
	l->memory = huge_map(fd, MEMORY_BYTES, PROT_READ | PROT_WRITE);
	close(fd);
	if (l->memory == MAP_FAILED)
		return err_exit(e, STATUS_MEMORY, -errno, "bench: no memory for the read loops");
	huge_fill(l->memory, MEMORY_BYTES); /* where the kernel gives none: small pages */
	memset(l->memory, 1, MEMORY_BYTES);
	f = fopen("/proc/self/smaps_rollup", "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long kib;

		if (sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1)
			l->huge = kib * 1024 >= MEMORY_BYTES / 2;
	}
	if (f)
		fclose(f);
	return 0;
}

static void name_cpu(struct bench_limits *l)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[200];

	snprintf(l->name, sizeof(l->name), "unknown processor");
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		snprintf(l->name, sizeof(l->name), "%.70s", colon + 2);
		l->name[strcspn(l->name, "\n")] = '\0';
		break;
	}
	if (f)
		fclose(f);
}

/* Tries every loop that the processor has; keeps the three best for later. */
static void rank_loops(struct bench_limits *l)
{
	double rate[3] = {0, 0, 0};

	for (unsigned wide = 0; wide < 2; wide++) {
		const struct cpu_read_loop *loop;
		size_t n = 0;

		if (!wide || cpu_isa_usable(CPU_AVX512))
			n = cpu_read_loops(wide ? CPU_AVX512 : CPU_AVX2, &loop);
		for (size_t i = 0; i < n; i++) {
			double r = read_rate(l, &loop[i]);
			unsigned at = 3;

			while (at > 0 && r > rate[at - 1])
				at--;
			for (unsigned k = 2; k > at && k < 3; k--) {
				rate[k] = rate[k - 1];
				l->probe[k] = l->probe[k - 1];
			}
			if (at < 3) {
				rate[at] = r;
				l->probe[at] = &loop[i];
			}
		}
	}
	l->best = l->probe[0];
	l->read_gbs = rate[0];
}

int bench_limits_open(struct bench_limits *l, unsigned threads, enum cpu_isa isa, struct err *e)
{
	int rc;

	memset(l, 0, sizeof(*l));
	l->isa = isa;
	l->threads = threads;
	name_cpu(l);
	if (sched_getaffinity(0, sizeof(l->cpus), &l->cpus))
		return err_set(e, -errno, "cannot read the CPU mask: %s", strerror(errno));
	rc = map_memory(l, e);
	if (rc)
		return rc;
	l->team = team_start(threads, NULL, 0, e);
	sched_setaffinity(0, sizeof(l->cpus), &l->cpus);
	if (!l->team)
		return -ENOMEM;
	rank_loops(l);
	bench_probe_dot(l);
	return 0;
}
