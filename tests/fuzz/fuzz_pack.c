/*
 * A packed store against arbitrary bytes (model/store/pack.h). Whoever makes a hostile store makes
 * its hashes right, so the target does that too: the input begins with the store's catalog, whose
 * first 16 bytes also say the sizes of the other areas and which bytes of the header are then
 * overwritten. What pack_open accepts is walked as the survey would.
 */
#include "drivers/cpu/blake3.h"
#include "model/store/pack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	CATALOG_MAX = 3 * PACK_ALIGN,
	CONTROL = 16
};

static void put(int fd, const void *data, size_t len, uint64_t off)
{
	if (pwrite(fd, data, len, (off_t)off) != (ssize_t)len)
		abort();
}

static void seal(struct pack_header *h)
{
	uint8_t page[PACK_HEADER_BYTES] = {0};

	memset(h->sum, 0, sizeof(h->sum));
	memcpy(page, h, sizeof(*h));
	blake3(CPU_AVX2, page, sizeof(page), h->sum);
}

/* A store of one part whose hashes are right; only the catalog's pieces hold anything. */
static void make(int fd, struct pack_header *h, const uint8_t *catalog, size_t len,
		 const uint8_t control[CONTROL])
{
	const struct pack_shape shape = {.parts = 1,
					 .expert_type = INDEX_FP8,
					 .catalog = len ? len : 1,
					 .resident = 1 + (uint64_t)control[0] * 64,
					 .expert_bytes = PACK_ALIGN,
					 .experts = control[1] % 8};
	uint8_t piece[CATALOG_MAX] = {0}, *hashes, tops[PACK_HASH];
	struct err e = {0};

	*h = (struct pack_header){.magic = PACK_MAGIC, .version = PACK_VERSION, .complete = 1};
	if (pack_layout(&h->geometry, &shape, &e) || h->geometry.tops != 1)
		abort();
	if (ftruncate(fd, (off_t)pack_part_bytes(&h->geometry, 0)))
		abort();
	memcpy(piece, catalog, len);
	put(fd, piece, h->geometry.area[PACK_CATALOG].bytes,
	    h->geometry.data_off + h->geometry.area[PACK_CATALOG].off);
	hashes = calloc(1, h->geometry.area[PACK_HASHES].bytes);
	if (!hashes)
		abort();
	blake3(CPU_AVX2, piece, h->geometry.area[PACK_CATALOG].bytes, hashes);
	put(fd, hashes, h->geometry.area[PACK_HASHES].bytes, h->geometry.data_off);
	blake3(CPU_AVX2, hashes, h->geometry.area[PACK_HASHES].bytes, tops);
	put(fd, tops, sizeof(tops), PACK_TOPS_OFF);
	pack_root(CPU_AVX2, &h->geometry, tops, h->root);
	free(hashes);
}

static void walk(const struct pack *p)
{
	static const char *const names[] = {"config.json", "tokenizer.json", ""};
	const struct index_pack_area *a = &p->map.area[PACK_RESIDENT];
	static volatile uint64_t sink; /* keeps the reads */
	struct tensor_table t;
	struct err e = {0};
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = 0;
		const char *text = pack_text(p, names[i], &len);

		for (size_t b = 0; text && b < len; b++)
			sum += (uint8_t)text[b];
	}
	if (pack_table(p, &t, &e) && (!e.code || !e.text[0] || !e.status))
		abort();
	for (size_t i = 0; i < t.count; i++) {
		if (t.tensor[i].off < a->off || t.tensor[i].off - a->off > a->bytes ||
		    t.tensor[i].bytes > a->bytes - (t.tensor[i].off - a->off))
			abort(); /* a tensor outside its area */
		for (uint32_t b = 0; b < t.tensor[i].name_len; b++)
			sum += (uint8_t)t.tensor[i].name[b];
	}
	tensor_table_free(&t);
	sink = sum;
	(void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct store_files f; /* too large for a stack */
	uint8_t control[CONTROL] = {0};
	struct pack_header h;
	struct err e = {0};
	struct pack p;
	size_t len;
	int fd = memfd_create("store", MFD_CLOEXEC);

	if (fd < 0)
		abort();
	memcpy(control, data, size < CONTROL ? size : CONTROL);
	data += size < CONTROL ? size : CONTROL;
	size -= size < CONTROL ? size : CONTROL;
	len = size < CATALOG_MAX ? size : CATALOG_MAX;
	make(fd, &h, data, len, control);
	for (size_t i = 2; i + 3 < CONTROL && (control[i] | control[i + 1] | control[i + 2]);
	     i += 3)
		((uint8_t *)&h)[(control[i] + 256u * control[i + 1]) % sizeof(h)] = control[i + 2];
	seal(&h);
	put(fd, &h, sizeof(h), 0);
	f = (struct store_files){.count = 1, .packed = 1};
	f.file[0] = (struct store_file){
		.name = "store", .bytes = (uint64_t)lseek(fd, 0, SEEK_END), .fd = fd};
	if (pack_open(&p, &f, &e)) {
		if (!e.code || !e.text[0] || !e.status)
			abort(); /* a refusal without a text */
	} else {
		walk(&p);
	}
	pack_close(&p);
	close(fd);
	return 0;
}
