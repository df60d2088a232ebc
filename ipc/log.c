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
