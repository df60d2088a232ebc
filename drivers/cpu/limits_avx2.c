/* Reading and multiplying with 256-bit registers; see limits.h. */
#include "drivers/cpu/limits_internal.h"

#define READ_REG     __m256i
#define READ_ZERO    _mm256_setzero_si256()
#define READ_XOR     _mm256_xor_si256
#define READ_FOLD(x) ((uint64_t)_mm256_extract_epi64(x, 0) ^ (uint64_t)_mm256_extract_epi64(x, 3))
#define READ_WIDTH   "256-bit"
#define READ_TABLE   limit_read_avx2
#include "drivers/cpu/limits_read.h"

#define FMA_YMM(i) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n"
PEAK_LOOP(limit_peak_avx2, PEAK_12(FMA_YMM), PEAK_USED_12)
