/*
 * E4M3 to BF16 by tables of 16 bytes, for PSHUFB; included by matmul_avx2.c and matmul_avx512.c.
 * For most codes the upper byte of the BF16 number depends on the code's upper half alone
 * (e4m3_high) and the lower byte is the lower half, shifted up. Subnormals (m 2^-9, m < 8) and NaN
 * (127) need other bytes: they differ by the XOR that e4m3_fix_high and e4m3_fix_low give at ((code
 * + 1) & 127) + 0x77, which is 0x77 for NaN, 0x78 + m for subnormals and at least 0x80 for the
 * others, where PSHUFB gives 0.
 */
#ifndef DRIVERS_CPU_E4M3_NIBBLES_H
#define DRIVERS_CPU_E4M3_NIBBLES_H

#include <stdint.h>

static const _Alignas(16) uint8_t e4m3_high[16] = {0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43,
						   0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3};
static const _Alignas(16) uint8_t e4m3_fix_high[16] = {0,    0,    0,    0,    0, 0, 0, 0x3c,
						       0x3c, 0x07, 0x07, 0x07, 0, 0, 0, 0};
static const _Alignas(16) uint8_t e4m3_fix_low[16] = {0, 0,    0,    0,    0,    0,    0,    0,
						      0, 0x10, 0xa0, 0xf0, 0x40, 0x70, 0x20, 0x10};

#endif
