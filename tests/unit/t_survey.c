/*
 * The survey and the loading of golden checkpoints: those in tests/golden/models always, all seven
 * where /work/shared is present. What the index says is compared with the headers read here again,
 * and every resident weight with the file's own bytes.
 */
/* tsan */
#include "model/store/load.h"
#include "model/store/survey.h"
#include "model/store/table.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	INDEX_CAP = 8 << 20
};

static struct store_files files;
static _Alignas(64) char index_bytes[INDEX_CAP];

static const struct index *open_model(const char *path)
{
	struct err e = {0};
	const struct index *ix = NULL;
	size_t used = 0;
	int rc = store_files_open(&files, path, &e);

	if (!rc)
		rc = survey(&files, index_bytes, sizeof(index_bytes), &used, &e);
	if (!rc)
		rc = index_open(&ix, index_bytes, used, &e);
	ok(rc == 0, "%s is surveyed, and its index opens: %s", path, e.text);
	return rc ? NULL : ix;
}

/* Reads the named tensor from its file, widened to F32 if the index has it so. */
static void *read_tensor(const struct tensor_table *t, const char *name, uint64_t *bytes,
			 bool widen)
{
	static _Alignas(DRIVE_ALIGN) char bounce[1 << 16];
	const struct safetensor *x = tensor_find(t, name, strlen(name));
	struct err e = {0};
	char *data;

	if (!x)
		return NULL;
	data = calloc(1, 2 * x->bytes + 1);
	*bytes = x->bytes;
	if (!data ||
	    store_read(&files, x->file, x->off, data, x->bytes, bounce, sizeof(bounce), &e))
		return data;
	if (!widen || x->dtype != DTYPE_BF16)
		return data;
	for (uint64_t i = x->bytes / 2; i-- > 0;) {
		data[4 * i + 3] = data[2 * i + 1];
		data[4 * i + 2] = data[2 * i];
		data[4 * i + 1] = data[4 * i] = 0;
	}
	*bytes *= 2;
	return data;
}

/* Whether the resident object holds at `off` what the checkpoint's tensor `name` holds. */
static bool same(const struct tensor_table *t, const char *resident, uint64_t off, const char *name,
		 bool vector)
{
	uint64_t bytes = 0;
	void *want = read_tensor(t, name, &bytes, vector);
	bool equal = want && !memcmp(resident + off, want, bytes);

	if (!equal)
		diag("%s differs", name);
	free(want);
	return equal;
}

static bool same_layer(const struct index *ix, uint32_t l, const struct tensor_table *t,
		       const char *resident)
{
	const struct index_layer *layer = index_layer(ix, l);
	const struct model_config *c = &ix->config;
	bool equal = true;
	char name[128];
	const struct {
		const struct index_tensor *t;
		const char *name;
	} some[] = {
		{&layer->input_layernorm, "input_layernorm.weight"},
		{&layer->q_b_proj,
		 c->q_lora_rank ? "self_attn.q_b_proj.weight" : "self_attn.q_proj.weight"},
		{&layer->kv_a_proj, "self_attn.kv_a_proj_with_mqa.weight"},
		{&layer->kv_a_layernorm, "self_attn.kv_a_layernorm.weight"},
		{&layer->kv_b_proj, "self_attn.kv_b_proj.weight"},
		{&layer->o_proj, "self_attn.o_proj.weight"},
		{&layer->o_bias, "self_attn.o_proj.bias"},
		{&layer->mlp[2],
		 layer->is_moe ? "mlp.shared_experts.down_proj.weight" : "mlp.down_proj.weight"},
		{&layer->gate, "mlp.gate.weight"},
		{&layer->correction_bias, "mlp.gate.e_score_correction_bias"},
		{&layer->eh_proj, "eh_proj.weight"},
	};

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		if (some[i].t->type == INDEX_ABSENT)
			continue;
		snprintf(name, sizeof(name), "model.layers.%u.%s", l, some[i].name);
		equal &= same(t, resident, some[i].t->off, name, some[i].t->n_out == 1);
		if (some[i].t->type != INDEX_FP8)
			continue;
		strcat(name, "_scale_inv");
		equal &= same(t, resident, some[i].t->scale_off, name, false);
	}
	for (uint32_t i = 0; layer->is_moe && i < c->n_routed_experts; i++) {
		const struct index_expert *x = index_expert(ix, l, i);
		const struct safetensor *up;

		snprintf(name, sizeof(name), "model.layers.%u.mlp.experts.%u.up_proj.weight", l, i);
		up = tensor_find(t, name, strlen(name));
		equal &= up && up->file == x->part[EXPERT_UP].file &&
			 up->off == x->part[EXPERT_UP].off &&
			 up->bytes == index_part_bytes(ix, EXPERT_UP);
		if (ix->expert_type != INDEX_FP8)
			continue;
		strcat(name, "_scale_inv");
		equal &= same(t, resident, x->part[EXPERT_UP].scale_off, name, false);
	}
	return equal;
}

static void check_loaded(const char *path, const struct index *ix)
{
	static _Alignas(DRIVE_ALIGN) char bounce[1 << 16];
	struct tensor_table t;
	struct err e = {0};
	char *resident = calloc(1, ix->resident_bytes);
	int rc = load_resident(ix, &files, resident, &e);
	const struct resident_header *header = (const void *)resident;
	bool equal = true;

	ok(rc == 0, "%s: the resident weights load: %s", path, e.text);
	ok(header->magic == RESIDENT_MAGIC && header->loaded == ix->load_bytes &&
		   header->bytes == ix->resident_bytes,
	   "%s: the header says that everything is there", path);
	rc = tensor_table_read(&t, &files, bounce, sizeof(bounce), &e);
	ok(rc == 0, "%s: the headers are read again", path);
	equal &= same(&t, resident, ix->embed.off, "model.embed_tokens.weight", false);
	equal &= same(&t, resident, ix->norm.off, "model.norm.weight", true);
	if (!ix->config.tie_word_embeddings)
		equal &= same(&t, resident, ix->head.off, "lm_head.weight", false);
	else
		is_int((long long)ix->head.off, (long long)ix->embed.off,
		       "%s: a tied head is the embedding", path);
	for (uint32_t l = 0; l < config_layers(&ix->config); l++)
		equal &= same_layer(ix, l, &t, resident);
	ok(equal, "%s: every resident weight has the file's bytes", path);
	tensor_table_free(&t);
	free(resident);
}

static void check_order(const char *path, const struct index *ix)
{
	uint64_t before = 0;
	bool ascending = true;

	for (uint32_t l = 0; l < config_layers(&ix->config); l++) {
		ascending &= index_layer(ix, l)->ready_after > before;
		before = index_layer(ix, l)->ready_after;
	}
	ok(ascending && before <= ix->load_bytes, "%s: layers become ready in their order", path);
}

/*
 * Each word of the index flipped in turn: refused, or harmless, but never a crash (the sanitizer
 * build looks on).
 */
static void check_flips(const char *path, const struct index *ix)
{
	char *copy = aligned_alloc(64, ix->bytes);
	const struct index *out = NULL;
	unsigned refused = 0;

	memcpy(copy, ix, ix->bytes);
	for (uint64_t at = 0; at + 8 <= ix->bytes; at += 8) {
		struct err e = {0};

		copy[at + 7] ^= 0x40;
		copy[at] ^= 0x01;
		refused += index_open(&out, copy, ix->bytes, &e) != 0;
		copy[at + 7] ^= 0x40;
		copy[at] ^= 0x01;
	}
	ok(refused > 100, "%s: an index with flipped bits is refused (%u times)", path, refused);
	free(copy);
}

static void check_model(const char *path)
{
	const struct index *ix = open_model(path);

	if (ix) {
		check_order(path, ix);
		check_loaded(path, ix);
	}
	store_files_close(&files);
}

/*
 * A copy of the golden model whose tensor `name` has `bad` in the middle does not load, and the
 * message names it.
 */
static void check_damaged(const char *name, const void *bad, size_t bad_bytes)
{
	char dir[] = "/tmp/t_survey.XXXXXX";
	char command[256];
	char path[320];
	const struct index *ix;
	const struct index_load *load;
	struct err e = {0};
	void *resident;
	bool damaged = false;
	int rc;

	if (!mkdtemp(dir))
		return;
	snprintf(command, sizeof(command), "cp tests/golden/models/v3/*.* %s", dir);
	ok(system(command) == 0, "a copy of the model is made");
	ix = open_model(dir);
	load = (const struct index_load *)(const void *)((const char *)ix + ix->loads.off);
	for (uint64_t i = 0; i < ix->loads.count; i++, load++) {
		int fd;

		if (strcmp((const char *)ix + ix->names.off + load->name, name) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, index_file(ix, load->file)->name);
		fd = open(path, O_WRONLY);
		damaged =
			pwrite(fd, bad, bad_bytes, (off_t)(load->file_off + load->bytes / 8 * 4)) ==
			(ssize_t)bad_bytes;
		close(fd);
	}
	ok(damaged, "%s is damaged", name);
	resident = calloc(1, ix->resident_bytes);
	rc = load_resident(ix, &files, resident, &e);
	ok(rc < 0 && e.status == STATUS_MODEL && strstr(e.text, name) &&
		   strstr(e.text, ".safetensors"),
	   "a number in %s that is not finite is found at load: %s", name, e.text);
	ok(((struct resident_header *)resident)->loaded < ix->load_bytes,
	   "and the count never says that all is there");
	free(resident);
	store_files_close(&files);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ok(system(command) == 0, "the copy is removed");
}

static void check_v3(void)
{
	const struct index *ix = open_model("tests/golden/models/v3");

	if (ix) {
		const struct model_config *c = &ix->config;

		is_int(c->family, FAMILY_V3, "v3 is of the V3 family");
		is_int(c->num_nextn_predict_layers, 1, "v3 has an MTP layer");
		is_int(ix->expert_type, INDEX_FP8, "v3's experts are FP8");
		is_int((long long)index_part_bytes(ix, EXPERT_GATE), 144 * 32,
		       "an expert's matrix is 32 x 144");
		is_int((long long)ix->experts.count, 3 * 32, "three MoE layers of 32 experts");
		is_int(c->eos_token_id[0], 1, "the end token is 1");
		is_near(c->softmax_scale, pow(48, -0.5) * pow(0.1 * log(40) + 1, 2), 1e-7,
			"the softmax scale has m^2 in it");
		check_flips("v3", ix);
	}
	store_files_close(&files);
}

int main(void)
{
	static const char *const all[] = {"kimi-k2", "v2",        "v2-lite",    "v3-bf16",
					  "v3",      "moonlight", "v31-resaved"};
	char path[128];

	check_v3();
	check_model("tests/golden/models/v3");
	check_model("tests/golden/models/moonlight");
	check_model("tests/golden/models/v31-resaved");
	check_damaged("model.layers.1.mlp.gate.weight", "\xc0\x7f", 2);
	check_damaged("model.layers.1.mlp.gate.e_score_correction_bias", "\0\0\x80\xff", 4);
	check_damaged("model.layers.2.self_attn.o_proj.weight", "\xff", 1);
	check_damaged("model.layers.2.mlp.experts.31.up_proj.weight_scale_inv", "\0\0\xc0\x7f", 4);
	check_damaged("model.norm.weight", "\x80\xff", 2);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct stat st;

		snprintf(path, sizeof(path), "/work/shared/golden/models/%s", all[i]);
		if (stat(path, &st) < 0)
			skip("%s is not on this machine", path);
		else
			check_model(path);
	}
	return tap_done();
}
