/*
 * The parser of safetensors headers: what it reads out of a good one, and both sides of its limits.
 * The long list of refusals is in tests/e2e/bad_checkpoint.t.
 */
#include "model/store/load.h"
#include "model/store/safetensors.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct safetensors st;
static struct err e;

static int parse(const char *header, uint64_t data_bytes)
{
	size_t len = strlen(header);

	memset(&e, 0, sizeof(e));
	return safetensors_parse(&st, "f", 3, header, len, 8 + len + data_bytes, &e);
}

static void refused(const char *header, uint64_t data_bytes, const char *word, const char *what)
{
	int rc = parse(header, data_bytes);

	ok(rc < 0 && e.status == STATUS_MODEL && strstr(e.text, word), "%s is refused: %s", what,
	   e.text);
	if (!rc)
		safetensors_free(&st);
}

static void accepted(const char *header, uint64_t data_bytes, const char *what)
{
	int rc = parse(header, data_bytes);

	ok(rc == 0, "%s is accepted %s", what, e.text);
	if (!rc)
		safetensors_free(&st);
}

static void check_reading(void)
{
	static const char header[] =
		"{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[2,26]},"
		"\"a\":{\"shape\":[],\"dtype\":\"BF16\",\"data_offsets\":[0,2]}}   ";
	const uint64_t data = 8 + strlen(header);

	ok(parse(header, 26) == 0, "two tensors in any order: %s", e.text);
	is_int((long long)st.count, 2, "are two");
	is_mem(st.tensor[0].name, "a", 1, "sorted by offset");
	ok(st.tensor[0].rank == 0 && st.tensor[0].bytes == 2 && st.tensor[0].off == data,
	   "one of rank 0 with one element");
	ok(st.tensor[1].rank == 2 && st.tensor[1].shape[0] == 2 && st.tensor[1].shape[1] == 3 &&
		   st.tensor[1].off == data + 2 && st.tensor[1].file == 3 &&
		   st.tensor[1].dtype == DTYPE_F32,
	   "and one of 2 x 3");
	safetensors_free(&st);
}

static void check_header_len(void)
{
	uint8_t prefix[8] = {0x00, 0xe1, 0xf5, 0x05}; /* 100,000,000 */
	uint64_t len;

	ok(safetensors_header_len(prefix, "f", 100000008, &len, &e) == 0 && len == 100000000,
	   "a header of 100,000,000 bytes may fill its file exactly");
	memset(&e, 0, sizeof(e));
	ok(safetensors_header_len(prefix, "f", 100000007, &len, &e) < 0,
	   "one byte more than the file");
	prefix[0] = 1;
	memset(&e, 0, sizeof(e));
	ok(safetensors_header_len(prefix, "f", UINT64_MAX, &len, &e) < 0,
	   "one byte above the limit");
	memset(&e, 0, sizeof(e));
	ok(safetensors_header_len(prefix, "f", 7, &len, &e) < 0, "a file of seven bytes");
}

static void check_limits(void)
{
	char header[4096];
	char name[SAFETENSORS_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	for (int over = 0; over < 2; over++) {
		snprintf(header, sizeof(header),
			 "{\"%.*s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
			 SAFETENSORS_NAME_MAX + over, name);
		if (over)
			refused(header, 1, "longer", "a name of 1025 bytes");
		else
			accepted(header, 1, "a name of 1024 bytes");
	}
	accepted("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
		 "a rank of eight");
	refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
		1, "dimensions", "a rank of nine");
	accepted("{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740992,0],\"data_offsets\":[0,0]}}",
		 0, "an empty tensor with a dimension of 2^53");
	refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740993,0],\"data_offsets\":[0,0]}}",
		0, "2^53", "a dimension of 2^53 + 1");
	refused("{\"a\":{\"dtype\":\"F64\",\"shape\":[4503599627370496,4096],\"data_offsets\":[0,0]"
		"}}",
		0, "overflow", "2^52 times 2^12 doubles");
	accepted("{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1,
		 "two numbers of four bits");
	refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole bytes",
		"three numbers of four bits");
	accepted("{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3,
		 "four numbers of six bits");
	refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
		"\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
		2, "inside", "an overlap");
	accepted("{}", 0, "no tensor at all");
	refused("{}", 1, "appended", "a byte that no tensor has");
	refused("", 0, "'{'", "an empty header");
}

static void check_finite(void)
{
	static const struct {
		uint32_t type, size;
		uint8_t bad[2][4];
		uint8_t largest[4];
	} kinds[] = {
		{INDEX_FP8, 1, {{0x7f}, {0xff}}, {0x7e}},
		{INDEX_BF16, 2, {{0x80, 0x7f}, {0x81, 0xff}}, {0x7f, 0xff}},
		{INDEX_F32, 4, {{0, 0, 0x80, 0x7f}, {1, 0, 0x80, 0xff}}, {0xff, 0xff, 0x7f, 0xff}},
	};
	uint8_t data[1400];
	bool found = true;
	bool clean = true;

	for (size_t k = 0; k < 3; k++) {
		const uint32_t size = kinds[k].size;
		const size_t n = 1300 / size; /* more than two blocks, and a ragged end */

		for (size_t i = 0; i < n; i++)
			memcpy(data + 1 + i * size, kinds[k].largest, size);
		clean &= load_find_nonfinite(data + 1, n * size, kinds[k].type) == -1;
		for (size_t i = 0; i < n; i++) {
			memcpy(data + 1 + i * size, kinds[k].bad[i % 2], size);
			found &= load_find_nonfinite(data + 1, n * size, kinds[k].type) ==
				 (int64_t)i;
			memcpy(data + 1 + i * size, kinds[k].largest, size);
		}
	}
	ok(clean, "the largest finite numbers are finite, at any alignment");
	ok(found, "a NaN or infinity is found in every place, and its element named");
	is_int(load_find_nonfinite(data, 0, INDEX_F32), -1, "no bytes hold no such number");
}

int main(void)
{
	check_reading();
	check_header_len();
	check_limits();
	check_finite();
	return tap_done();
}
