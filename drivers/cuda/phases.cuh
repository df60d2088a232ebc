/*
 * Which function carries out which command. A command is one phase or several; between two phases,
 * and between two commands of which the second does not join, all blocks wait for each other.
 */
#ifndef DRIVERS_CUDA_PHASES_CUH
#define DRIVERS_CUDA_PHASES_CUH

#include "drivers/cuda/attention.cuh"
#include "drivers/cuda/experts.cuh"

enum {
	EXPERTS_PHASES = 5
};

DEVICE uint32_t phases_of(uint32_t kind)
{
	return kind == COMMAND_EXPERTS ? EXPERTS_PHASES : kind == COMMAND_ATTEND ? 2 : 1;
}

DEVICE void do_experts(const struct job *j, uint32_t phase, uint32_t index)
{
	const bool q4 = j->g->shape.expert_type == 2;

	switch (phase) {
	case 0:
		if (q4)
			experts_int8(j, false);
		else
			experts_order(j);
		break;
	case 1:
		if (q4)
			experts_enter_q4(j);
		else
			experts_enter(j);
		break;
	case 2:
		if (q4)
			experts_int8(j, true);
		break;
	case 3:
		if (q4)
			experts_leave_q4(j);
		else
			experts_leave(j);
		break;
	default:
		experts_settle(j, index);
		break;
	}
}

/* One phase of command `index` by this block. */
DEVICE void carry_out(const struct job *j, uint32_t index, uint32_t phase)
{
	switch (j->c->kind) {
	case COMMAND_COPY:
		do_copy(j);
		break;
	case COMMAND_PAGE:
		do_page(j);
		break;
	case COMMAND_NORM:
		do_norm(j);
		break;
	case COMMAND_MATMUL:
		do_matmul(j);
		break;
	case COMMAND_ENTER:
		do_enter(j);
		break;
	case COMMAND_CACHE:
		do_cache(j);
		break;
	case COMMAND_ABSORB:
		do_absorb(j);
		break;
	case COMMAND_ATTEND:
		if (phase == 0)
			do_attend(j);
		else
			do_attend_join(j);
		break;
	case COMMAND_VALUES:
		do_values(j);
		break;
	case COMMAND_RESIDUAL:
		do_residual(j);
		break;
	case COMMAND_FINITE:
		do_finite(j);
		break;
	case COMMAND_CHOOSE:
		do_choose(j);
		break;
	case COMMAND_EXPERTS:
		do_experts(j, phase, index);
		break;
	case COMMAND_COMBINE:
		do_combine(j);
		break;
	case COMMAND_FAIL:
		do_fail(j);
		break;
	default: /* EXPERT: the host's, between two runs */
		break;
	}
}

#endif
