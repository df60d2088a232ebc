/* Fibers: the threads of one block at a time; see shim.h. */
#include "tests/cuda/shim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	THREADS_MAX = 1024,
	STACK = 64 << 10
};

uint32_t shim_thread, shim_block, shim_blocks;

static struct fiber {
	void *sp;
	char *stack;
	enum shim_wait wait;
} fiber[THREADS_MAX];
static uint32_t value[THREADS_MAX], threads;
static void *scheduler;
static void (*body)(void *);
static void *context;

/* Saves what a call must not change on the stack, and goes on with another stack. */
void shim_change(void **save, void *load);
__asm__(".text\n.globl shim_change\nshim_change:\n"
	"push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");

void shim_wait(enum shim_wait until)
{
	struct fiber *f = &fiber[shim_thread];
	uint32_t own = shim_thread;

	f->wait = until;
	shim_change(&f->sp, scheduler);
	shim_thread = own;
}

uint32_t shim_exchange(uint32_t v, uint32_t distance)
{
	uint32_t other;

	value[shim_thread] = v;
	shim_wait(SHIM_WARP);
	other = value[shim_thread ^ distance];
	shim_wait(SHIM_WARP);
	return other;
}

int shim_any(int v)
{
	int any = 0;

	value[shim_thread] = v != 0;
	shim_wait(SHIM_BLOCK);
	for (uint32_t t = 0; t < threads; t++)
		any |= value[t] != 0;
	shim_wait(SHIM_BLOCK);
	return any;
}

static void enter(void)
{
	body(context);
	for (;;)
		shim_wait(SHIM_ENDED);
}

static void prepare(struct fiber *f)
{
	void **top;

	if (!f->stack)
		f->stack = aligned_alloc(64, STACK);
	if (!f->stack)
		abort();
	top = (void **)(void *)(f->stack + STACK);
	*--top = NULL; /* enter finds the stack as after a call */
	*--top = (void *)(uintptr_t)enter;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	f->sp = top;
	f->wait = SHIM_RUNS;
}

/* Lets threads [first, end) go on if all that have not ended wait for `until`. */
static bool release(uint32_t first, uint32_t end, enum shim_wait until)
{
	bool any = false;

	for (uint32_t t = first; t < end; t++)
		if (fiber[t].wait != until && fiber[t].wait != SHIM_ENDED)
			return false;
	for (uint32_t t = first; t < end; t++) {
		if (fiber[t].wait == SHIM_ENDED)
			continue;
		fiber[t].wait = SHIM_RUNS;
		any = true;
	}
	return any;
}

static void run_block(void)
{
	bool any;

	for (uint32_t t = 0; t < threads; t++)
		prepare(&fiber[t]);
	do {
		uint32_t ended = 0;

		for (uint32_t t = 0; t < threads; t++) {
			if (fiber[t].wait == SHIM_RUNS) {
				shim_thread = t;
				shim_change(&scheduler, fiber[t].sp);
			}
			ended += fiber[t].wait == SHIM_ENDED;
		}
		if (ended == threads)
			return;
		any = release(0, threads, SHIM_BLOCK);
		for (uint32_t t = 0; t < threads; t += 32)
			any |= release(t, t + 32, SHIM_WARP);
	} while (any);
	fprintf(stderr, "threads of a block wait at different barriers\n");
	abort();
}

void shim_run(uint32_t blocks, uint32_t n, void (*function)(void *), void *with)
{
	threads = n;
	body = function;
	context = with;
	shim_blocks = blocks;
	for (shim_block = 0; shim_block < blocks; shim_block++)
		run_block();
}
