/*
 * Which instruction sets this processor and kernel give us, and the floating-point mode of a
 * computing thread. By CPUID alone, without the C library's help. Called by every program that
 * computes, once at its start.
 */
#include "drivers/cpu/variants.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <xmmintrin.h>

/* Rounding to nearest, all exceptions masked, flush-to-zero and denormals-are-zero. */
#define MXCSR_COMPUTE 0x9fc0u

static const char *const names[CPU_ISA_COUNT] = {
	[CPU_SCALAR] = "scalar",
	[CPU_AVX2] = "avx2",
	[CPU_AVX512] = "avx512",
	[CPU_AVX512BF16] = "avx512bf16",
};

/*
 * The memory clobber keeps the compiler from moving loads, stores and calls across; _mm_setcsr does
 * not.
 */
static void set_mxcsr(uint32_t value)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory");
}

void cpu_thread_init(void)
{
	set_mxcsr(MXCSR_COMPUTE);
}

/* The register state that the kernel saves: bit 1 SSE, 2 AVX, 5 to 7 AVX-512. */
static uint64_t saved_state(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static bool has_all(uint32_t word, uint32_t bits)
{
	return (word & bits) == bits;
}

static bool bf16_dot_usable(void)
{
	uint32_t before = _mm_getcsr();
	bool agrees;

	set_mxcsr(MXCSR_COMPUTE);
	agrees = bf16_dot_agrees();
	set_mxcsr(before);
	return agrees;
}

bool cpu_isa_usable(enum cpu_isa isa)
{
	uint32_t a, b, c, d, eax, ebx, ecx, edx;
	uint64_t state;

	/* x86-64-v3 is the least we run on: the scalar files are built with FMA too */
	if (!__get_cpuid(1, &a, &b, &c, &d) ||
	    !has_all(c, bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C))
		return false;
	state = saved_state();
	if ((state & 6) != 6 || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) ||
	    !has_all(ebx, bit_AVX2 | bit_BMI | bit_BMI2))
		return false;
	if (isa <= CPU_AVX2)
		return true;
	if ((state & 0xe6) != 0xe6 ||
	    !has_all(ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ))
		return false;
	if (isa == CPU_AVX512)
		return true;
	if (isa != CPU_AVX512BF16 || !has_all(ecx, bit_AVX512VBMI | bit_AVX512VNNI) || eax < 1)
		return false;
	__cpuid_count(7, 1, a, b, c, d);
	return (a & bit_AVX512BF16) && bf16_dot_usable();
}

enum cpu_isa cpu_isa_best(void)
{
	for (unsigned isa = CPU_ISA_COUNT; --isa > CPU_SCALAR;)
		if (cpu_isa_usable((enum cpu_isa)isa))
			return (enum cpu_isa)isa;
	return CPU_SCALAR;
}

const char *cpu_isa_name(enum cpu_isa isa)
{
	return (unsigned)isa < CPU_ISA_COUNT ? names[isa] : "unknown";
}

int cpu_isa_parse(const char *name, enum cpu_isa *isa)
{
	if (!strcmp(name, "auto")) {
		*isa = cpu_isa_best();
		return 0;
	}
	for (unsigned i = 0; i < CPU_ISA_COUNT; i++)
		if (!strcmp(name, names[i])) {
			*isa = (enum cpu_isa)i;
			return 0;
		}
	return -EINVAL;
}
