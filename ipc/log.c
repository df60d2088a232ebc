/* Writes log records; see log.h. */
#include "ipc/log.h"

#include <time.h>

void log_write(struct log_object *log, uint32_t generation, enum log_kind kind,
	       const uint64_t arg[5])
{
	uint64_t n = atomic_load_explicit(&log->head, memory_order_relaxed);
	struct log_record *r = &log->record[n % LOG_RECORDS];
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	/*
	 * a reader that sees number 0 or one that does not belong to its position skips the record
	 */
	atomic_store_explicit(&r->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	r->time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	r->kind = (uint32_t)kind;
	r->generation = generation;
	for (unsigned i = 0; i < 5; i++)
		r->arg[i] = arg ? arg[i] : 0;
	/* release: the record is whole before its number; pairs with scribe's acquire */
	atomic_store_explicit(&r->number, n + 1, memory_order_release);
	atomic_store_explicit(&log->head, n + 1, memory_order_release);
}

void span_write(struct log_object *log, const struct span *from)
{
	uint64_t n = atomic_load_explicit(&log->spans, memory_order_relaxed);
	struct span *s = &log->span[n % LOG_SPANS];

	/* as a log record: number 0 while it is written, its own number when it is whole */
	atomic_store_explicit(&s->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	s->begin_ns = from->begin_ns;
	s->end_ns = from->end_ns;
	s->counter = from->counter;
	s->batch = from->batch;
	s->layer = from->layer;
	s->expert = from->expert;
	atomic_store_explicit(&s->number, n + 1, memory_order_release);
	atomic_store_explicit(&log->spans, n + 1, memory_order_release);
}

void count_time(struct log_object *log, enum counter c, uint64_t begin_ns, uint64_t end_ns,
		uint32_t batch, uint32_t layer)
{
	const struct span s = {.begin_ns = begin_ns,
			       .end_ns = end_ns,
			       .counter = (uint16_t)c,
			       .batch = (uint16_t)batch,
			       .layer = layer < SPAN_NO_LAYER ? (uint16_t)layer : SPAN_NO_LAYER};

	count_add(log, c, end_ns - begin_ns);
	span_write(log, &s);
}

bool span_read(const struct log_object *log, uint64_t n, struct span *out)
{
	const struct span *s = &log->span[n % LOG_SPANS];

	/* acquire: pairs with the release of the number that says it is whole */
	if (atomic_load_explicit(&s->number, memory_order_acquire) != n + 1)
		return false;
	out->begin_ns = s->begin_ns;
	out->end_ns = s->end_ns;
	out->counter = s->counter;
	out->batch = s->batch;
	out->layer = s->layer;
	out->expert = s->expert;
	/* the copy is whole if nobody has begun to write it since */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&s->number, memory_order_relaxed) == n + 1;
}
