/*
 * The contents of synthetic tensors; see synth.h. Random bits become numbers by masks on whole
 * words, so that a thread makes several GB/s: codes whose exponents are spread over eight binades,
 * with sign and mantissa random, whose root mean square is 0.62 times the top binade's 1.0.
 */
#include "runtime/cli/synth.h"

#include "drivers/cpu/math.h"

#include <string.h>

static uint64_t random_word(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + n * 0x9e3779b97f4a7c15;

	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93;
	return x ^ x >> 32;
}

/* The exponent field that brings numbers to about 1 / sqrt(n_in), four times in a word. */
static uint64_t bf16_base(uint32_t n_in)
{
	uint64_t exponent = 127;

	for (uint64_t n = 2; n <= n_in; n *= 4)
		exponent--;
	return (exponent << 7) * 0x0001000100010001;
}

static uint64_t two_floats(uint64_t bits, float low, float width)
{
	float x[2] = {low + width * (float)(bits >> 40) * 0x1p-24f,
		      low + width * (float)(bits & 0xffffff) * 0x1p-24f};
	uint64_t word;

	memcpy(&word, x, sizeof(word));
	return word;
}

/* Scales vary by a quarter, so that a block that takes its neighbour's is noticed. */
static float scale_low(uint32_t n_in)
{
	return (float)(0.75 / (0.62 * sqrt_f64(n_in)));
}

/* Word n of the tensor: eight bytes. */
static uint64_t word_at(const struct synth_tensor *t, uint64_t n, uint64_t base, float low)
{
	const uint64_t bits = random_word(t->seed, n);

	switch (t->kind) {
	case SYNTH_FP8: /* the top exponent bit cleared: at most 1.875, and never NaN */
		return bits & 0xbfbfbfbfbfbfbfbf;
	case SYNTH_BF16: /* no borrow crosses a lane: the base is at least as large */
		return (bits & 0x807f807f807f807f) | (base - (bits & 0x0380038003800380));
	case SYNTH_NORM: /* 0.97 to 1.06 */
		return 0x3f783f783f783f78 + (bits & 0x000f000f000f000f);
	case SYNTH_SCALE:
		return two_floats(bits, low, low * (2.0f / 3));
	default:
		return two_floats(bits, -0.02f, 0.04f);
	}
}

/* Whole words; the two kinds that make up nearly all of a checkpoint have loops of their own. */
static void fill_words(const struct synth_tensor *t, uint64_t n, uint64_t count, char *out)
{
	const uint64_t base = bf16_base(t->n_in);
	const float low = scale_low(t->n_in);
	uint64_t word;

	if (t->kind == SYNTH_FP8) {
		for (uint64_t i = 0; i < count; i++) {
			word = random_word(t->seed, n + i) & 0xbfbfbfbfbfbfbfbf;
			memcpy(out + 8 * i, &word, 8);
		}
		return;
	}
	for (uint64_t i = 0; i < count; i++) {
		word = word_at(t, n + i, base, low);
		memcpy(out + 8 * i, &word, 8);
	}
}

/* At most 8 bytes inside one word. */
static void fill_part(const struct synth_tensor *t, uint64_t pos, char *out, uint64_t len)
{
	char word[8];

	fill_words(t, pos / 8, 1, word);
	memcpy(out, word + pos % 8, len);
}

void synth_fill(const struct synth_tensor *t, uint64_t pos, char *out, uint64_t len)
{
	uint64_t head = pos % 8 ? 8 - pos % 8 : 0;

	head = head < len ? head : len;
	if (head)
		fill_part(t, pos, out, head);
	pos += head;
	out += head;
	len -= head;
	fill_words(t, pos / 8, len / 8, out);
	if (len % 8)
		fill_part(t, pos + len / 8 * 8, out + len / 8 * 8, len % 8);
}
