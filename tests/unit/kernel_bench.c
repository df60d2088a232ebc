/*
 * Times the table of kernels; see kernel_bench.h. Matrices are larger than the last cache where a
 * kernel is meant to run at the speed of memory. Every figure is the median of REPEATS runs of all
 * threads together, in CPU time of the slowest thread, so that others on the machine do not count;
 * between a kernel's runs the read loop runs over the same bytes, since the machine's bandwidth
 * changes from second to second.
 */
#include "tests/unit/kernel_bench.h"

#include "drivers/cpu/math.h"

#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define REPEATS     7
#define THREADS_MAX 8
#define BYTES       ((size_t)264 << 20)
#define N_MAX       7168

/* One piece of work, cut into as many slices as there are threads. */
struct job {
	const struct cpu_kernels *k;
	struct weight w;
	size_t rows, repeat;
	enum {
		READ,
		PEAK,
		MATMUL,
		MATMUL_Q4,
		MATMUL_T,
		DOT_ROWS,
		DOT_ROWS_T,
		VECTOR
	} what;
	int entry; /* VECTOR: which; READ: bytes ahead */
	unsigned threads;
};

struct worker {
	const struct job *job;
	pthread_barrier_t *start, *end;
	unsigned index;
	float *y;
	uint64_t sink;
	double seconds;
};

static uint8_t *memory; /* BYTES of weights, then a page */
static uint16_t *x;     /* [512, N_MAX] */
static float *scales;
static struct int8_block *blocks; /* [512, N_MAX / 128] */

/*
 * What memory gives: one stream, with and without a prefetch of the page after this one; the better
 * one counts.
 */
__attribute__((target("avx2"))) static uint64_t read_loop(const uint8_t *p, size_t n, size_t ahead)
{
	__m256i a = _mm256_setzero_si256(), b = a;

	for (size_t i = 0; i + 128 <= n; i += 128) {
		if (ahead) {
			_mm_prefetch((const char *)p + i + ahead, _MM_HINT_T1);
			_mm_prefetch((const char *)p + i + ahead + 64, _MM_HINT_T1);
		}
		a = _mm256_xor_si256(a, _mm256_loadu_si256((const void *)(p + i)));
		b = _mm256_xor_si256(b, _mm256_loadu_si256((const void *)(p + i + 32)));
		a = _mm256_xor_si256(a, _mm256_loadu_si256((const void *)(p + i + 64)));
		b = _mm256_xor_si256(b, _mm256_loadu_si256((const void *)(p + i + 96)));
	}
	return (uint64_t)_mm256_extract_epi64(_mm256_xor_si256(a, b), 0);
}

/*
 * What the multipliers give: independent sums in registers, in assembly because a compiler would
 * spill them. Each loop is 12 instructions of `lanes` multiply-adds.
 */
#define PEAK_LOOP(name, isa, op)                                                                   \
	__attribute__((target(isa))) static void name(size_t n)                                    \
	{                                                                                          \
		__asm__ volatile("1:\n" op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8)      \
					 op(9) op(10) op(11) "dec %0\n jnz 1b\n"                   \
				 : "+r"(n)                                                         \
				 :                                                                 \
				 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
				   "xmm8", "xmm9", "xmm10", "xmm11", "cc");                        \
	}
#define OP_YMM(i) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n"
#define OP_ZMM(i) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #i "\n"
#define OP_DOT(i) "vdpbf16ps %%zmm12, %%zmm13, %%zmm" #i "\n"
PEAK_LOOP(peak_avx2, "avx2,fma", OP_YMM)
PEAK_LOOP(peak_avx512, "avx512f", OP_ZMM)
PEAK_LOOP(peak_bf16, "avx512f,avx512bf16", OP_DOT)

static const struct {
	void (*loop)(size_t n);
	double flops;
} peaks[CPU_ISA_COUNT] = {[CPU_AVX2] = {peak_avx2, 12 * 16},
			  [CPU_AVX512] = {peak_avx512, 12 * 32},
			  [CPU_AVX512BF16] = {peak_bf16, 12 * 64}};

/* The entries that work on vectors, and the bytes that each moves per element */
static const struct {
	const char *name;
	double bytes;
} vectors[] = {{"rmsnorm", 12}, {"to_bf16", 6}, {"silu_mul", 10},  {"axpy", 12},  {"add", 12},
	       {"exp", 8},      {"sigmoid", 8}, {"combine", 12},   {"rope", 12},  {"sum", 4},
	       {"scale", 8},    {"argmax", 4},  {"all_finite", 4}, {"softmax", 6}};

static void vector_once(const struct cpu_kernels *k, int entry, float *y, uint64_t *sink)
{
	const float *a = (const float *)(const void *)x, *b = a + N_MAX;
	uint16_t *h = (uint16_t *)(void *)(y + N_MAX);

	switch (entry) {
	case 0:
		k->rmsnorm(y, a, b, N_MAX, 1e-6f);
		break;
	case 1:
		k->to_bf16(h, a, N_MAX, N_MAX);
		break;
	case 2:
		k->silu_mul(h, a, b, N_MAX, N_MAX);
		break;
	case 3:
		k->axpy(y, 0.5f, a, N_MAX);
		break;
	case 4:
		k->add(y, a, b, N_MAX);
		break;
	case 5:
		k->exp(y, a, N_MAX);
		break;
	case 6:
		k->sigmoid(y, a, N_MAX);
		break;
	case 7:
		k->combine(y, 0.5f, a, 0.5f, N_MAX);
		break;
	case 8:
		k->rope(y, b, N_MAX);
		break;
	case 9:
		*sink += k->sum(a, N_MAX) > 0.0f;
		break;
	case 10:
		k->scale(y, a, 0.5f, N_MAX);
		break;
	case 11:
		*sink += k->argmax(a, N_MAX);
		break;
	case 12:
		*sink += k->all_finite(a, N_MAX);
		break;
	default:
		for (size_t i = 0; i < N_MAX; i += 256)
			k->softmax_segment(h, a + i, 0, 256, y, y + 1);
		break;
	}
}

static void run_slice(struct worker *w)
{
	const struct job *j = w->job;
	size_t n_out = j->w.n_out, o0 = n_out * w->index / j->threads;
	size_t o1 = n_out * (w->index + 1) / j->threads, n_in = j->w.n_in;
	const uint8_t *slice = memory + BYTES / j->threads / 64 * 64 * w->index;

	for (size_t i = 0; i < j->repeat; i++)
		switch (j->what) {
		case READ:
			w->sink += read_loop(slice, BYTES / j->threads, (size_t)j->entry);
			break;
		case PEAK:
			peaks[j->k->isa].loop(1000);
			break;
		case MATMUL:
			j->k->matmul(w->y, o1 - o0, &j->w, o0, o1, x, n_in, j->rows);
			break;
		case MATMUL_Q4:
			j->k->matmul_q4(w->y, o1 - o0, &j->w, o0, o1, blocks, n_in / 128, j->rows);
			break;
		case MATMUL_T: /* heads of 128 stored rows each */
			for (size_t h = o0; h + 128 <= o1; h += 128)
				j->k->matmul_t(w->y, n_in, &j->w, h, h + 128, x, 128, j->rows);
			break;
		case DOT_ROWS:
			j->k->dot_rows(w->y, n_out, (const void *)slice, n_in, n_out, n_in, x,
				       pad128(n_in), j->rows);
			break;
		case DOT_ROWS_T:
			j->k->dot_rows_t(w->y, n_in, (const void *)slice, n_in + 64, n_out, n_in, x,
					 n_out, j->rows);
			break;
		default:
			vector_once(j->k, j->entry, w->y, &w->sink);
			break;
		}
}

static double thread_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	cpu_thread_init();
	for (;;) {
		pthread_barrier_wait(w->start);
		if (!w->job)
			return NULL;
		w->seconds = thread_seconds();
		run_slice(w);
		w->seconds = thread_seconds() - w->seconds;
		pthread_barrier_wait(w->end);
	}
}

static struct worker workers[THREADS_MAX];
static pthread_barrier_t start, end;

static double seconds(const struct job *j)
{
	double slowest = 0.0;

	for (unsigned i = 0; i < j->threads; i++)
		workers[i].job = j;
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&end);
	for (unsigned i = 0; i < j->threads; i++)
		if (workers[i].seconds > slowest)
			slowest = workers[i].seconds;
	return slowest;
}

static int by_size(const void *a, const void *b)
{
	const double *p = a, *q = b;

	return (*p > *q) - (*p < *q);
}

/* Runs until one measurement takes 4 ms, so that starting the threads does not count. */
static void calibrate(struct job *j)
{
	j->repeat = 1;
	seconds(j);
	while (seconds(j) < 4e-3 && j->repeat < 1 << 20)
		j->repeat *= 2;
}

static double median(double t[REPEATS])
{
	qsort(t, REPEATS, sizeof(*t), by_size);
	return t[REPEATS / 2];
}

/* bytes, flops: of all threads in one repeat. The limits are measured between the repeats. */
static void report(struct job *j, const char *name, double bytes, double flops)
{
	struct job read = *j, peak = *j;
	double t[REPEATS], limit[REPEATS], fastest[REPEATS];
	bool from_memory = bytes >= (double)BYTES / 32,
	     counted = flops > 0 && peaks[j->k->isa].loop;

	calibrate(j);
	read.what = READ;
	read.repeat = 1;
	peak.what = PEAK;
	if (counted)
		calibrate(&peak);
	for (int i = 0; i < REPEATS; i++) {
		read.entry = i % 2 * 4096;
		limit[i] = from_memory ? seconds(&read) : 1.0;
		fastest[i] = counted ? seconds(&peak) / (double)peak.repeat : 1.0;
		t[i] = seconds(j) / (double)j->repeat;
	}
	median(limit);
	bytes /= median(t);
	flops /= t[REPEATS / 2];
	printf("%-10s %-34s %7.2f GB/s", cpu_isa_name(j->k->isa), name, bytes * 1e-9);
	if (from_memory) /* the second best: one lucky run is no limit */
		printf(" = %.2f of %.1f", bytes / ((double)BYTES / limit[1]),
		       (double)BYTES / limit[1] * 1e-9);
	if (flops > 0)
		printf(" %8.1f GFLOP/s", flops * 1e-9);
	if (counted) {
		double most = peaks[j->k->isa].flops * 1000 * j->threads / median(fastest);

		printf(" = %.2f of %.0f", flops / most, most * 1e-9);
	}
	printf("  spread %.0f %%\n", 100.0 * (t[REPEATS - 2] / t[1] - 1.0));
	fflush(stdout);
}

static void bench_matmul(struct job *j, uint32_t type, size_t n_in, size_t n_out, size_t rows)
{
	char name[64];

	j->what = MATMUL;
	j->rows = rows;
	j->w = (struct weight){.data = memory,
			       .scale = type == WEIGHT_FP8 ? scales : NULL,
			       .n_out = (uint32_t)n_out,
			       .n_in = (uint32_t)n_in,
			       .type = type};
	snprintf(name, sizeof(name), "matmul %s %zux%zu rows %zu",
		 type == WEIGHT_FP8 ? "fp8" : "bf16", n_out, n_in, rows);
	report(j, name, (double)weight_bytes(type, n_out, n_in),
	       2.0 * (double)n_out * (double)n_in * (double)rows);
}

/* 4 bits: beside the peak of BF16, of which there is one kind per instruction set */
static void bench_q4(struct job *j, size_t n_in, size_t n_out, size_t rows)
{
	char name[64];

	j->what = MATMUL_Q4;
	j->rows = rows;
	j->w = (struct weight){.data = memory,
			       .table = q4_gaussian,
			       .n_out = (uint32_t)n_out,
			       .n_in = (uint32_t)n_in,
			       .type = WEIGHT_Q4};
	snprintf(name, sizeof(name), "matmul q4 %zux%zu rows %zu", n_out, n_in, rows);
	report(j, name, (double)weight_bytes(WEIGHT_Q4, n_out, n_in),
	       2.0 * (double)n_out * (double)n_in * (double)rows);
}

static void bench_table(struct job *j)
{
	double keys = 256.0 * j->threads;
	char name[64];

	/* memory bound: the scalar variant is slow enough at a sixteenth */
	size_t share = j->k->isa == CPU_SCALAR ? 16 : 1, few = share > 1 ? 1 : 4;

	for (size_t rows = 1; rows <= few; rows *= 2) {
		bench_matmul(j, WEIGHT_FP8, 7168, BYTES / 7168 / share / 128 * 128, rows);
		bench_matmul(j, WEIGHT_FP8, 2048, BYTES / 2048 / share / 128 * 128, rows);
		bench_matmul(j, WEIGHT_BF16, 7168, BYTES / 14336 / share / 128 * 128, rows);
	}
	for (size_t rows = 1; rows <= few; rows *= 2) {
		bench_q4(j, 7168, BYTES / 7168 * 16 / 9 / share / 128 * 128, rows);
		bench_q4(j, 2048, BYTES / 2048 * 16 / 9 / share / 128 * 128, rows);
	}
	/* an expert of a prompt: read once from memory, for few rows or many */
	for (size_t rows = 16; share == 1 && rows <= 48; rows += 32) {
		bench_matmul(j, WEIGHT_FP8, 7168, BYTES / 7168 / 128 * 128, rows);
		bench_matmul(j, WEIGHT_FP8, 2048, BYTES / 2048 / 128 * 128, rows);
	}
	for (size_t rows = 8; rows <= 512 / share; rows *= 4) {
		bench_q4(j, 7168, 512, rows);
		bench_matmul(j, WEIGHT_FP8, 7168, 512, rows);
		bench_matmul(j, WEIGHT_BF16, 7168, 512, rows);
	}
	for (size_t rows = 1; rows <= 128; rows += 127) {
		j->rows = rows;
		j->what = MATMUL_T;
		for (uint32_t type = WEIGHT_BF16; type <= WEIGHT_FP8; type++) {
			j->w = (struct weight){.data = memory,
					       .scale = type == WEIGHT_FP8 ? scales : NULL,
					       .n_out = 16384,
					       .n_in = 512,
					       .type = type};
			snprintf(name, sizeof(name), "matmul_t %s 128x128x512 rows %zu",
				 type == WEIGHT_FP8 ? "fp8" : "bf16", rows);
			report(j, name, (double)weight_bytes(type, 16384, 512),
			       2.0 * 16384 * 512 * (double)rows);
		}
		j->what = DOT_ROWS;
		j->w = (struct weight){.n_out = 256, .n_in = 576};
		snprintf(name, sizeof(name), "dot_rows 256 keys of 576 rows %zu", rows);
		report(j, name, keys * 576 * 2, keys * 2 * 576 * (double)rows);
		j->what = DOT_ROWS_T;
		j->w = (struct weight){.n_out = 256, .n_in = 512};
		snprintf(name, sizeof(name), "dot_rows_t 256 keys of 512 rows %zu", rows);
		report(j, name, keys * 512 * 2, keys * 2 * 512 * (double)rows);
	}
	j->what = VECTOR;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		j->entry = (int)i;
		snprintf(name, sizeof(name), "%s %d", vectors[i].name, N_MAX);
		report(j, name, vectors[i].bytes * N_MAX * j->threads, 0);
	}
}

int kernel_bench(const struct cpu_kernels *table, unsigned n, unsigned threads)
{
	size_t y_size = (size_t)512 * 16384 * sizeof(float);
	pthread_t id[THREADS_MAX];
	struct job j = {.threads = threads};

	if (!threads || threads > THREADS_MAX)
		return -EINVAL;
	memory = mmap(NULL, BYTES + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return -errno;
	madvise(memory, BYTES, MADV_HUGEPAGE);
	x = aligned_alloc(64, (size_t)512 * N_MAX * 2);
	scales = calloc(1 << 20, sizeof(*scales));
	blocks = aligned_alloc(64, (size_t)512 * N_MAX / 128 * sizeof(*blocks));
	if (!x || !scales || !blocks)
		return -ENOMEM;
	for (size_t i = 0; i < BYTES; i++) /* as BF16: all exponents below 2^1; as E4M3: no NaN */
		memory[i] = (uint8_t)((i * 2654435761u >> 13 & 0xbf) ^ (i >> 12 & 1));
	for (size_t i = 0; i < (size_t)512 * N_MAX; i++)
		x[i] = (uint16_t)(0x3c00 | (i * 2654435761u >> 13 & 0x83ff));
	cpu_thread_init();
	for (size_t i = 0; i < 512; i++)
		table[0].to_int8(blocks + i * (N_MAX / 128), x + i * N_MAX, N_MAX);
	for (size_t i = 0; i < 1 << 20; i++)
		scales[i] = 0x1p-8f;
	pthread_barrier_init(&start, NULL, threads + 1);
	pthread_barrier_init(&end, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++) {
		workers[i] = (struct worker){.start = &start, .end = &end, .index = i};
		workers[i].y = aligned_alloc(64, y_size);
		if (!workers[i].y || pthread_create(&id[i], NULL, work, &workers[i]))
			return -ENOMEM;
		memset(workers[i].y, 0, y_size);
	}
	for (unsigned i = 0; i < n; i++) {
		j.k = &table[i];
		bench_table(&j);
	}
	for (unsigned i = 0; i < threads; i++)
		workers[i].job = NULL;
	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(id[i], NULL);
		free(workers[i].y);
	}
	free(x);
	free(scales);
	free(blocks);
	munmap(memory, BYTES + 8192);
	return 0;
}
