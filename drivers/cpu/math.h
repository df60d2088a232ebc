/*
 * Our own elementary functions, so that musl and glibc builds give the same tokens: rule 5's exp in
 * FP32, and log, exp, sine and cosine in binary64 (arithmetic rules 7 and 12). Called by model/
 * (YaRN tables, sampler) and by the scalar kernels. Nothing here uses libm.
 */
#ifndef DRIVERS_CPU_MATH_H
#define DRIVERS_CPU_MATH_H

#include <stdint.h>

/* Rule 5, exactly. */
float exp_f32(float x);
float sigmoid_f32(float x);
float silu_f32(float x);

/* Rule 2. */
uint16_t f32_to_bf16(float x);
/* E4M3FN, exact; 0x7f and 0xff give NaN. */
float e4m3_to_f32(uint8_t x);
/*
 * Round to nearest even, saturating at 448; NaN gives 0x7f. Used to write checkpoints (synth),
 * never on the way to a logit.
 */
uint8_t f32_to_e4m3(float x);

/* Error below 1 ulp of binary64 for finite arguments (log: x > 0; sincos: |x| < 2^31). */
double log_f64(double x);
double exp_f64(double x);
void sincos_f64(double x, double *sine, double *cosine);
/* Correctly rounded by the instruction. */
double sqrt_f64(double x);
double floor_f64(double x);
double ceil_f64(double x);

#endif
