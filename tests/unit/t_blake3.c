/*
 * BLAKE3 of every instruction set against the official test vectors (input byte i is i mod 251) and
 * against each other; -b prints its rate beside SHA-256 in the same run.
 */
#include "drivers/cpu/blake3.h"
#include "runtime/clock.h"
#include "runtime/sha256.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	size_t len;
	const char *hex;
} vectors[] = {
	{0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
	{1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
	{63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"},
	{64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
	{65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"},
	{1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
	{1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
	{1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
	{2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
	{2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
	{3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"},
	{8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b"},
	{16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4"},
	{31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"},
	{102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"},
	{BLAKE3_LEN_MAX, "b467afa334cd7dedd76e3a9a4b0e8a5ed278713f2f4e220a682aa30c7fcd140b"},
};

static void bench(const uint8_t *data)
{
	static const unsigned rounds = 41;

	for (int isa = CPU_SCALAR - 1; isa < CPU_AVX512BF16; isa++) {
		uint64_t best = UINT64_MAX;
		uint8_t sum[32];

		if (isa >= CPU_SCALAR && !cpu_isa_usable((enum cpu_isa)isa))
			continue;
		for (unsigned i = 0; i < rounds; i++) {
			uint64_t start = clock_now_ns(), ns;

			if (isa < CPU_SCALAR)
				sha256(data, BLAKE3_LEN_MAX, sum);
			else
				blake3((enum cpu_isa)isa, data, BLAKE3_LEN_MAX, sum);
			ns = clock_now_ns() - start;
			best = ns < best ? ns : best;
		}
		printf("# %-14s %6.2f GB/s per core (best of %u pieces of 512 KiB)\n",
		       isa < CPU_SCALAR ? "sha256 scalar" : cpu_isa_name((enum cpu_isa)isa),
		       (double)BLAKE3_LEN_MAX / (double)best, rounds);
	}
}

int main(int argc, char **argv)
{
	uint8_t *data = malloc(BLAKE3_LEN_MAX), sum[32], scalar[32];
	char hex[65];

	if (!data)
		return 1;
	for (size_t i = 0; i < BLAKE3_LEN_MAX; i++)
		data[i] = (uint8_t)(i % 251);
	for (int isa = CPU_SCALAR; isa < CPU_ISA_COUNT; isa++) {
		bool equal = true;

		if (!cpu_isa_usable((enum cpu_isa)isa)) {
			skip("this processor has no %s", cpu_isa_name((enum cpu_isa)isa));
			continue;
		}
		for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
			blake3((enum cpu_isa)isa, data, vectors[i].len, sum);
			sha256_hex(sum, hex);
			if (strcmp(hex, vectors[i].hex)) {
				diag("%zu bytes: %s", vectors[i].len, hex);
				equal = false;
			}
		}
		ok(equal, "%s gives the official test vectors", cpu_isa_name((enum cpu_isa)isa));
		equal = true;
		for (size_t len = 1; len < 70000; len += len < 3000 ? 61 : 1531) {
			blake3(CPU_SCALAR, data + len % 7, len, scalar);
			blake3((enum cpu_isa)isa, data + len % 7, len, sum);
			equal &= !memcmp(sum, scalar, sizeof(sum));
		}
		ok(equal, "%s gives what the definition gives, at any length and alignment",
		   cpu_isa_name((enum cpu_isa)isa));
	}
	if (argc > 1 && !strcmp(argv[1], "-b"))
		bench(data);
	free(data);
	return tap_done();
}
