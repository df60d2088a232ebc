/*
 * The program `loader`: the one that reads hostile files. `loader survey` parses a checkpoint and
 * writes the index object, `loader loader` fills the resident object from the drive; each is
 * started once by init with the model's files at FD_FILE and up, and is gone when it has finished
 * (machinery 19). Its text goes to stderr and its exit status is the one that init ends with.
 */
#include "ipc/attach.h"
#include "ipc/sandbox.h"
#include "model/index.h"
#include "model/store/load.h"
#include "model/store/survey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The list that init published, with the descriptors it left open. */
static int inherit_files(struct store_files *f, const struct node *node, struct err *e)
{
	uint32_t n = node->file_count;

	if (n > STORE_FILES_MAX)
		return err_set(e, -EBADMSG, "the node lists %u files, at most %d are possible", n,
			       STORE_FILES_MAX);
	for (uint32_t i = 0; i < n; i++) {
		struct store_file *to = &f->file[i];
		const struct node_file *from = &node->file[i];

		memcpy(to->name, from->name, sizeof(to->name));
		to->name[sizeof(to->name) - 1] = 0;
		to->bytes = from->bytes;
		to->direct = from->direct;
		to->fd = FD_FILE + (int32_t)i;
	}
	f->count = n;
	f->packed = node->file_packed;
	return 0;
}

static int run_survey(struct attach *a, const struct store_files *files, struct err *e)
{
	size_t used;

	return survey(files, attach_at(a, OBJ_INDEX, sizeof(struct object_header)),
		      a->bytes[OBJ_INDEX] - sizeof(struct object_header), &used, e);
}

static int run_load(struct attach *a, const struct store_files *files, struct err *e)
{
	const uint64_t room = a->bytes[OBJ_RESIDENT] - sizeof(struct object_header);
	const struct index *ix;
	int rc = index_open(&ix, attach_at(a, OBJ_INDEX, sizeof(struct object_header)),
			    a->bytes[OBJ_INDEX] - sizeof(struct object_header), e);

	if (rc)
		return rc;
	if (ix->resident_bytes > room || ix->files.count != files->count)
		return err_set(e, -EBADMSG, "the index is not the one of these objects");
	return load_resident(ix, files, attach_at(a, OBJ_RESIDENT, sizeof(struct object_header)),
			     e);
}

int main(int argc, char **argv)
{
	static struct store_files files; /* too large for a stack */
	struct attach a;
	struct err e = {0};
	bool surveying = argc == 2 && !strcasecmp(argv[1], graph_roles[ROLE_SURVEY].name);
	int rc;

	if (!surveying && !(argc == 2 && !strcasecmp(argv[1], graph_roles[ROLE_LOADER].name))) {
		fprintf(stderr, "loader is started by init, not by hand: see penstock run\n");
		return STATUS_USAGE;
	}
	rc = attach_open(&a, surveying ? ROLE_SURVEY : ROLE_LOADER, &e);
	if (!rc)
		rc = inherit_files(&files, a.node, &e);
	if (!rc)
		rc = sandbox_files(a.node->sandbox_lacks, &e);
	if (!rc)
		rc = sandbox_calls(surveying ? ROLE_SURVEY : ROLE_LOADER, a.node->sandbox_lacks,
				   &e);
	if (!rc)
		rc = surveying ? run_survey(&a, &files, &e) : run_load(&a, &files, &e);
	if (!rc)
		return 0;
	fprintf(stderr, "penstock: %s\n", e.text);
	return e.status;
}
