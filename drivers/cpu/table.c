/*
 * Fills the table of kernels: the scalar definition first, then what the instruction set makes
 * faster. The one place where variants are chosen.
 */
#include "drivers/cpu/variants.h"

void cpu_kernels_init(struct cpu_kernels *k, enum cpu_isa isa)
{
	*k = (struct cpu_kernels){
		.matmul = matmul_scalar,
		.dot_rows = dot_rows_scalar,
		.matmul_t = matmul_t_scalar,
		.dot_rows_t = dot_rows_t_scalar,
		.to_int8 = to_int8_scalar,
		.matmul_q4 = matmul_q4_scalar,
		.rmsnorm = rmsnorm_scalar,
		.to_bf16 = to_bf16_scalar,
		.silu_mul = silu_mul_scalar,
		.axpy = axpy_scalar,
		.add = add_scalar,
		.exp = exp_scalar,
		.sigmoid = sigmoid_scalar,
		.softmax_segment = softmax_segment_scalar,
		.combine = combine_scalar,
		.rope = rope_scalar,
		.sum = sum_scalar,
		.scale = scale_scalar,
		.argmax = argmax_scalar,
		.all_finite = all_finite_scalar,
		.isa = isa,
	};
	if (isa == CPU_AVX2) {
		vector_table_avx2(k);
		matmul_table_avx2(k);
		q4_table_avx2(k);
	} else if (isa == CPU_AVX512) {
		vector_table_avx512(k);
		matmul_table_avx512(k);
		q4_table_avx512(k);
	} else if (isa == CPU_AVX512BF16) {
		vector_table_avx512(k);
		matmul_table_avx512bf16(k);
		q4_table_avx512bf16(k);
	}
}
