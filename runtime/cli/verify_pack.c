/*
 * `penstock verify` of a packed store: every piece of every copy is read and hashed, several at a
 * time so that the drives are busy, and every bad one is named. See verify.h.
 */
#include "runtime/cli/verify.h"

#include "model/store/pack.h"
#include "runtime/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	READERS_MIN = 20, /* on each drive: 16 reads of a piece in flight, and the others hash */
	READERS_MAX = 64,
	DAMAGE_MAX = 64 /* findings that are printed; all are counted */
};

struct pack_verify {
	const struct cli_model *m;
	const struct pack *pack;
	uint64_t pieces;       /* of one copy */
	_Atomic uint64_t next; /* piece of a copy that nobody has taken; relaxed: only a number */
	_Atomic uint64_t done; /* bytes; relaxed */
	_Atomic uint32_t running; /* readers that have not finished; release, acquire */
	pthread_mutex_t lock;     /* over the findings */
	uint64_t n_damaged;
	struct err damage[DAMAGE_MAX];
	bool no_memory;
};

/* Piece n of a copy: the areas one after the other. */
static void piece_at(const struct pack_verify *v, uint64_t n, enum pack_area *area, uint64_t *item,
		     uint64_t *piece)
{
	const struct index_pack_area *a = v->pack->map.area;

	for (*area = PACK_HASHES; n >= a[*area].count * pack_pieces(&a[*area]); ++*area)
		n -= a[*area].count * pack_pieces(&a[*area]);
	*item = n / pack_pieces(&a[*area]);
	*piece = n % pack_pieces(&a[*area]);
}

/* What a message about an expert says beside its number. */
static void add_damage(struct pack_verify *v, enum pack_area area, uint64_t item,
		       const struct err *why)
{
	const struct index *ix = v->m->ix;
	struct err *e;

	pthread_mutex_lock(&v->lock);
	if (v->n_damaged < DAMAGE_MAX) {
		e = &v->damage[v->n_damaged];
		if (area == PACK_EXPERTS) {
			uint32_t l = 0;

			while (!index_layer(ix, l)->is_moe ||
			       item >= index_layer(ix, l)->first_expert +
					       (uint64_t)ix->config.n_routed_experts)
				l++;
			err_exit(e, STATUS_MODEL, why->code,
				 "layer %" PRIu32 " expert %" PRIu64 ": %s", l,
				 item - index_layer(ix, l)->first_expert, why->text);
		} else {
			err_exit(e, STATUS_MODEL, why->code, "%s", why->text);
		}
	}
	v->n_damaged++;
	pthread_mutex_unlock(&v->lock);
}

static void *reader(void *context)
{
	struct pack_verify *v = context;
	void *buf = aligned_alloc(PACK_ALIGN, PACK_PIECE);

	while (buf) {
		uint64_t n = atomic_fetch_add_explicit(&v->next, 1, memory_order_relaxed);
		enum pack_area area;
		uint64_t item, piece;
		struct err why = {0};

		if (n >= v->pieces * v->pack->map.copies)
			break;
		piece_at(v, n % v->pieces, &area, &item, &piece);
		if (pack_read_copy(&v->pack->source, area, item, piece, (uint32_t)(n / v->pieces),
				   buf, &why))
			add_damage(v, area, item, &why);
		atomic_fetch_add_explicit(&v->done,
					  pack_piece_bytes(&v->pack->map.area[area], piece),
					  memory_order_relaxed);
	}
	if (!buf)
		v->no_memory = true;
	free(buf);
	atomic_fetch_sub_explicit(&v->running, 1, memory_order_release);
	return NULL;
}

static uint64_t total_bytes(const struct pack *p)
{
	uint64_t sum = 0;

	for (unsigned a = 0; a < PACK_AREAS; a++)
		sum += p->map.area[a].count * p->map.area[a].bytes;
	return sum * p->map.copies;
}

static int read_all(struct pack_verify *v, double *seconds, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	const uint32_t files = v->pack->map.parts * v->pack->map.copies;
	const unsigned wanted =
		files * READERS_MIN < READERS_MAX ? files * READERS_MIN : READERS_MAX;
	pthread_t thread[READERS_MAX];
	struct cli_progress p;
	unsigned started = 0;

	atomic_store_explicit(&v->running, wanted, memory_order_relaxed);
	progress_begin(&p, "verify", total_bytes(v->pack));
	for (; started < wanted; started++)
		if (pthread_create(&thread[started], NULL, reader, v))
			break;
	atomic_fetch_sub_explicit(&v->running, wanted - started, memory_order_relaxed);
	if (!started)
		return err_set(e, -EAGAIN, "cannot start a thread");
	while (atomic_load_explicit(&v->running, memory_order_acquire)) {
		progress_show(&p, atomic_load_explicit(&v->done, memory_order_relaxed));
		nanosleep(&pause, NULL);
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	*seconds = progress_end(&p, atomic_load_explicit(&v->done, memory_order_relaxed));
	return v->no_memory ? err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for reading") : 0;
}

static void print_result(struct pack_verify *v, double seconds, bool json)
{
	const uint64_t bytes = atomic_load_explicit(&v->done, memory_order_relaxed);
	const double rate = seconds > 0 ? (double)bytes / seconds : 0;
	const uint64_t pieces = v->pieces * v->pack->map.copies;

	for (uint64_t i = 0; i < v->n_damaged && i < DAMAGE_MAX; i++)
		fprintf(stderr, "penstock: %s\n", v->damage[i].text);
	if (json)
		printf("{\"pieces\": %" PRIu64 ", \"bytes\": %" PRIu64
		       ", \"seconds\": %.3f, \"bytes_per_second\": %.0f, \"damaged\": %" PRIu64
		       "}\n",
		       pieces, bytes, seconds, rate, v->n_damaged);
	else if (!v->n_damaged)
		printf("%" PRIu64 " pieces, %.2f GB: every hash is right (%.2f GB/s)\n", pieces,
		       (double)bytes * 1e-9, rate * 1e-9);
}

int verify_pack(const struct cli_model *m, bool json, struct err *e)
{
	struct pack_verify *v = calloc(1, sizeof(*v));
	double seconds = 0;
	struct pack pack;
	int rc;

	if (!v)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for verifying");
	rc = pack_open(&pack, m->files, e);
	v->m = m;
	v->pack = &pack;
	pthread_mutex_init(&v->lock, NULL);
	for (unsigned a = 0; !rc && a < PACK_AREAS; a++)
		v->pieces += pack.map.area[a].count * pack_pieces(&pack.map.area[a]);
	if (!rc)
		rc = read_all(v, &seconds, e);
	if (!rc) {
		print_result(v, seconds, json);
		if (v->n_damaged)
			rc = err_exit(e, STATUS_MODEL, -EBADMSG,
				      "%" PRIu64 " of %" PRIu64 " pieces are damaged", v->n_damaged,
				      v->pieces * pack.map.copies);
	}
	pack_close(&pack);
	free(v);
	return rc;
}
