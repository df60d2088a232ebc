/* Reading and multiplying with 512-bit registers; see limits.h. */
#include "drivers/cpu/limits_internal.h"

#define READ_REG     __m512i
#define READ_ZERO    _mm512_setzero_si512()
#define READ_XOR     _mm512_xor_si512
#define READ_FOLD(x) ((uint64_t)_mm512_reduce_or_epi64(x))
#define READ_WIDTH   "512-bit"
#define READ_TABLE   limit_read_avx512
#include "drivers/cpu/limits_read.h"

#define FMA_ZMM(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n"
PEAK_LOOP(limit_peak_avx512, PEAK_24(FMA_ZMM), PEAK_USED_24)

/* Assembly alone: this file may hold it, only a processor that has it calls it. */
#define DOT_ZMM(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n"
PEAK_LOOP(limit_peak_avx512bf16, PEAK_24(DOT_ZMM), PEAK_USED_24)
