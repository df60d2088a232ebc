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

extern "C" __global__ void __launch_bounds__(THREADS) run_list(
	const __grid_constant__ struct gpu_run g)
{
	__shared__ __align__(16) char shared[SHARED_BYTES];
	struct job j;

	j.g = &g;
	j.shared = shared;
	for (uint32_t i = g.from; i < g.n; i++) {
		j.c = &g.list[i];
		j.f = &g.frame[j.c->batch];
		for (uint32_t p = 0; p < phases_of(j.c->kind); p++) {
			if (p || (i > g.from && !(j.c->flags & COMMAND_JOINS)))
				grid_barrier(g.control);
			carry_out(&j, i, p);
		}
		if (j.c->kind == COMMAND_EXPERTS) {
			grid_barrier(g.control);
			if (*(volatile uint32_t *)&g.control->stopped == i)
				return;
		}
	}
}
