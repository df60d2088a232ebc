/*
 * `penstock verify MODEL`: reads every byte of every shard at the drive's speed and looks for
 * numbers that are not finite, or (verify_pack.c) compares every hash of a packed store. Exit
 * status 3 if the model cannot be parsed, or something in it is damaged.
 */
#include "runtime/cli/verify.h"
#include "model/store/load.h"
#include "model/store/table.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/model.h"
#include "runtime/clock.h"
#include "runtime/options.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOW_BYTES = 8 << 20,
	READERS = 4,    /* so that the drive works while others look at what has come */
	DAMAGE_MAX = 64 /* findings that are printed; all are counted */
};

struct verify {
	const struct store_files *files;
	const struct tensor_table *table;
	size_t first[STORE_FILES_MAX + 1];     /* tensors of file i: [first[i], first[i + 1]) */
	uint8_t *damaged;                      /* [table->count]: already reported; under lock */
	uint64_t windows[STORE_FILES_MAX + 1]; /* windows of file i: [windows[i], windows[i + 1]) */
	_Atomic uint64_t next;    /* window that nobody has taken; relaxed: only a number */
	_Atomic uint64_t done;    /* bytes read; relaxed */
	_Atomic uint32_t running; /* readers that have not finished; release, acquire */
	pthread_mutex_t lock;     /* over the findings */
	uint64_t n_damaged;
	char (*damage)[sizeof(((struct err *)0)->text)]; /* DAMAGE_MAX */
	struct err failed;                               /* no memory: the check is not complete */
};

static void add_damage(struct verify *v, const char *text)
{
	if (v->n_damaged < DAMAGE_MAX)
		memcpy(v->damage[v->n_damaged], text, sizeof(v->damage[0]));
	v->n_damaged++;
}

static void report_number(struct verify *v, size_t tensor, uint64_t element)
{
	const struct safetensor *t = &v->table->tensor[tensor];
	struct err e = {0};
	char name[204];

	pthread_mutex_lock(&v->lock);
	if (!v->damaged[tensor]) {
		v->damaged[tensor] = 1;
		err_exit(&e, STATUS_MODEL, -EBADMSG,
			 "%s: tensor %s: element %" PRIu64 " is not a finite number",
			 v->files->file[t->file].name, err_name(name, t->name, t->name_len),
			 element);
		add_damage(v, e.text);
	}
	pthread_mutex_unlock(&v->lock);
}

static bool stored_as(const struct safetensor *t, uint32_t *stored, uint64_t *size)
{
	switch (t->dtype) {
	case DTYPE_F8_E4M3:
		*stored = INDEX_FP8;
		*size = 1;
		return true;
	case DTYPE_BF16:
		*stored = INDEX_BF16;
		*size = 2;
		return true;
	case DTYPE_F32:
		*stored = INDEX_F32;
		*size = 4;
		return true;
	default: /* only tensors that nothing uses; their bytes have been read */
		return false;
	}
}

/*
 * Looks at the part of a tensor that lies in the window [off, off + len) of its file, but for an
 * element that the window's edges cut.
 */
static void check_part(struct verify *v, size_t tensor, const char *data, uint64_t off,
		       uint64_t len)
{
	const struct safetensor *t = &v->table->tensor[tensor];
	uint64_t begin = t->off > off ? t->off : off;
	uint64_t end = t->off + t->bytes < off + len ? t->off + t->bytes : off + len;
	uint32_t stored;
	uint64_t size;
	uint64_t ragged;
	int64_t found;

	if (begin >= end || !stored_as(t, &stored, &size))
		return;
	ragged = (begin - t->off) % size;
	begin += ragged ? size - ragged : 0;
	if (begin >= end)
		return;
	end -= (end - begin) % size;
	found = load_find_nonfinite(data + (begin - off), end - begin, stored);
	if (found >= 0)
		report_number(v, tensor, (begin - t->off) / size + (uint64_t)found);
}

/* The one element that the window's end cuts in two, if a tensor is so placed. */
static void check_edge(struct verify *v, size_t tensor, uint64_t edge, char *bounce)
{
	const struct safetensor *t = &v->table->tensor[tensor];
	_Alignas(4) char element[4];
	struct err e = {0};
	uint32_t stored;
	uint64_t size;
	uint64_t at;

	if (edge <= t->off || edge >= t->off + t->bytes || !stored_as(t, &stored, &size) ||
	    (edge - t->off) % size == 0)
		return;
	at = edge - (edge - t->off) % size;
	if (!store_read(v->files, t->file, at, element, size, bounce, 2 * DRIVE_ALIGN, &e) &&
	    load_find_nonfinite(element, size, stored) >= 0)
		report_number(v, tensor, (at - t->off) / size);
}

static void check_window(struct verify *v, uint32_t file, uint64_t off, char *data, char *bounce)
{
	const uint64_t left = v->files->file[file].bytes - off;
	const uint64_t len = left < WINDOW_BYTES ? left : WINDOW_BYTES;
	size_t lo = v->first[file];
	size_t hi = v->first[file + 1];
	struct err e = {0};

	if (store_read(v->files, file, off, data, len, bounce, 2 * DRIVE_ALIGN, &e)) {
		pthread_mutex_lock(&v->lock);
		add_damage(v, e.text);
		pthread_mutex_unlock(&v->lock);
		return;
	}
	while (lo < hi) { /* the first tensor that ends behind the window's beginning */
		size_t mid = lo + (hi - lo) / 2;

		if (v->table->tensor[mid].off + v->table->tensor[mid].bytes <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < v->first[file + 1] && v->table->tensor[lo].off < off + len; lo++) {
		check_edge(v, lo, off + len, bounce);
		check_part(v, lo, data, off, len);
	}
	atomic_fetch_add_explicit(&v->done, len, memory_order_relaxed);
}

static void *reader(void *context)
{
	struct verify *v = context;
	char *memory = aligned_alloc(DRIVE_ALIGN, WINDOW_BYTES + 2 * DRIVE_ALIGN);
	const uint64_t total = v->windows[v->files->count];
	uint32_t file = 0;

	if (!memory) {
		pthread_mutex_lock(&v->lock);
		err_exit(&v->failed, STATUS_MEMORY, -ENOMEM, "no memory for reading");
		pthread_mutex_unlock(&v->lock);
	}
	while (memory) {
		uint64_t n = atomic_fetch_add_explicit(&v->next, 1, memory_order_relaxed);

		if (n >= total)
			break;
		while (n >= v->windows[file + 1])
			file++;
		check_window(v, file, (n - v->windows[file]) * WINDOW_BYTES, memory,
			     memory + WINDOW_BYTES);
	}
	free(memory);
	atomic_fetch_sub_explicit(&v->running, 1, memory_order_release);
	return NULL;
}

static uint64_t plan_windows(struct verify *v)
{
	uint64_t total = 0;
	size_t t = 0;

	for (uint32_t i = 0; i < v->files->count; i++) {
		uint64_t bytes = v->table->shard[i] ? v->files->file[i].bytes : 0;

		v->first[i] = t;
		while (t < v->table->count && v->table->tensor[t].file == i)
			t++;
		v->first[i + 1] = t;
		v->windows[i + 1] = v->windows[i] + (bytes + WINDOW_BYTES - 1) / WINDOW_BYTES;
		total += bytes;
	}
	return total;
}

static int read_all(struct verify *v, double *seconds, struct err *e)
{
	struct cli_progress p;
	pthread_t thread[READERS];
	unsigned started = 0;
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};

	atomic_store_explicit(&v->running, READERS, memory_order_relaxed);
	progress_begin(&p, "verify", plan_windows(v));
	for (; started < READERS; started++)
		if (pthread_create(&thread[started], NULL, reader, v))
			break;
	if (!started)
		return err_set(e, -EAGAIN, "cannot start a thread");
	atomic_fetch_sub_explicit(&v->running, READERS - started, memory_order_relaxed);
	while (atomic_load_explicit(&v->running, memory_order_acquire)) {
		progress_show(&p, atomic_load_explicit(&v->done, memory_order_relaxed));
		nanosleep(&pause, NULL);
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	*seconds = progress_end(&p, atomic_load_explicit(&v->done, memory_order_relaxed));
	return v->failed.code ? err_exit(e, (enum err_status)v->failed.status, v->failed.code, "%s",
					 v->failed.text)
			      : 0;
}

static void print_result(const struct verify *v, double seconds, bool json)
{
	const uint64_t bytes = atomic_load_explicit(&v->done, memory_order_relaxed);
	const uint64_t shown = v->n_damaged < DAMAGE_MAX ? v->n_damaged : DAMAGE_MAX;
	const double rate = seconds > 0 ? (double)bytes / seconds : 0;

	for (uint64_t i = 0; i < shown; i++)
		fprintf(stderr, "penstock: %s\n", v->damage[i]);
	if (json)
		printf("{\"tensors\": %zu, \"bytes\": %" PRIu64 ", \"seconds\": %.3f, "
		       "\"bytes_per_second\": %.0f, \"damaged\": %" PRIu64 "}\n",
		       v->table->count, bytes, seconds, rate, v->n_damaged);
	else if (!v->n_damaged)
		printf("%zu tensors, %.2f GB: every number is finite (%.2f GB/s)\n",
		       v->table->count, (double)bytes * 1e-9, rate * 1e-9);
}

static int verify(struct cli_model *m, bool json, struct err *e)
{
	static char bounce[1 << 20] __attribute__((aligned(DRIVE_ALIGN)));
	static struct verify v;
	struct tensor_table table;
	double seconds = 0;
	int rc = tensor_table_read(&table, m->files, bounce, sizeof(bounce), e);

	v.files = m->files;
	v.table = &table;
	pthread_mutex_init(&v.lock, NULL);
	v.damaged = calloc(table.count + 1, 1);
	v.damage = calloc(DAMAGE_MAX, sizeof(v.damage[0]));
	if (!rc && (!v.damaged || !v.damage))
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %zu tensors", table.count);
	if (!rc)
		rc = read_all(&v, &seconds, e);
	if (!rc) {
		print_result(&v, seconds, json);
		if (v.n_damaged)
			rc = err_exit(e, STATUS_MODEL, -EBADMSG,
				      "%" PRIu64
				      " tensors or places are damaged. Copy their files again",
				      v.n_damaged);
	}
	free(v.damaged);
	free(v.damage);
	tensor_table_free(&table);
	return rc;
}

int cmd_verify(int argc, char **argv, struct err *e)
{
	bool json = false;
	struct opt table[] = {{"json", OPT_FLAG, &json, .help = "print JSON"}};
	struct options o = {.usage = "penstock verify MODEL",
			    .about = "Reads every byte of a model and looks for damage.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 1,
			    .max_operands = 1};
	struct cli_model m;
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0)
		return rc;
	if (o.help)
		return options_help(&o, stdout);
	rc = cli_model_open(&m, argv[1], e);
	if (rc)
		return rc;
	rc = m.files->packed ? verify_pack(&m, json, e) : verify(&m, json, e);
	cli_model_close(&m);
	return rc;
}
