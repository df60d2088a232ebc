/*
 * The one kernel: it carries out a command list, or what is left of one, without the host. Launched
 * cooperatively, so that every block is there while others wait at the barrier between commands.
 * Ends at the end of the list, or where a command has stopped it.
 */
#include "drivers/cuda/phases.cuh"

/*
 * All blocks have arrived, and see what the others wrote before. The last to arrive opens the next
 * round; nobody waits for a round that has passed.
 */
static __device__ void grid_barrier(struct gpu_control *c)
{
	__syncthreads();
	if (threadIdx.x == 0) {
		uint32_t round = *(volatile uint32_t *)&c->round;

		__threadfence();
		if (atomicAdd(&c->arrived, 1) == gridDim.x - 1) {
			c->arrived = 0;
			__threadfence();
			atomicAdd(&c->round, 1);
		} else {
			while (*(volatile uint32_t *)&c->round == round)
				__nanosleep(20);
		}
		__threadfence();
	}
	__syncthreads();
}

/*
 * `g` lies in device memory: as a parameter it would be constant, and what the compiler makes of it
 * would fill the registers of all commands together.
 */
extern "C" __global__ void __launch_bounds__(THREADS) run_list(const struct gpu_run *g)
{
	__shared__ __align__(16) char shared[SHARED_BYTES];
	struct job j;

	j.shared = shared;
	UNROLL_1
	for (uint32_t i = g->from; i < g->n; i++) {
		j.g = g;
		j.c = &g->list[i];
		j.f = &g->frame[j.c->batch];
		UNROLL_1
		for (uint32_t p = 0; p < phases_of(j.c->kind); p++) {
			if (p || (i > g->from && !(j.c->flags & COMMAND_JOINS)))
				grid_barrier(g->control);
			NO_HOIST();
			asm volatile("" : "+l"(j.g), "+l"(j.c), "+l"(j.f));
			carry_out(&j, i, p);
		}
		if (j.c->kind == COMMAND_EXPERTS) {
			grid_barrier(g->control);
			if (*(volatile uint32_t *)&g->control->stopped == i)
				return;
		}
	}
}
