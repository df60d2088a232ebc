/*
 * Futex words; see bell.h for the argument. Words are shared between processes, so never
 * FUTEX_PRIVATE.
 */
#include "ipc/bell.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void bell_ring(struct bell *b)
{
	/*
	 * seq_cst: orders the caller's commit before the exchange; pairs with the fence in
	 * bell_prepare
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange_explicit(&b->word, BELL_AWAKE, memory_order_seq_cst) == BELL_ASLEEP)
		syscall(SYS_futex, &b->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void bell_wake(struct bell *b)
{
	atomic_exchange_explicit(&b->word, BELL_AWAKE, memory_order_seq_cst);
	syscall(SYS_futex, &b->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void bell_prepare(struct bell *b)
{
	atomic_exchange_explicit(&b->word, BELL_ASLEEP, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

void bell_wait(struct bell *b, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
			      .tv_nsec = (long)(timeout_ns % 1000000000u)};

	syscall(SYS_futex, &b->word, FUTEX_WAIT, BELL_ASLEEP, timeout_ns == UINT64_MAX ? NULL : &ts,
		NULL, 0);
	bell_cancel(b);
}

void bell_cancel(struct bell *b)
{
	/* relaxed: only whether a wake is needed; the records decide what is done */
	atomic_store_explicit(&b->word, BELL_AWAKE, memory_order_relaxed);
}
