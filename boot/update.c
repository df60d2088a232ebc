/* Updates; see update.h. */
#include "boot/update.h"

#include "boot/efivar.h"
#include "boot/find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SLOT_NAME "penstock " /* of a program partition; a letter follows */

enum {
	ENTRY_FIRST = 0x5041 /* numbers of our boot entries: this one and the letter's place */
};

static uint16_t entry_of(const struct update_slot *s)
{
	return (uint16_t)(ENTRY_FIRST + (uint8_t)(s->part.name[sizeof(SLOT_NAME) - 1] - 'a'));
}

struct search {
	const struct gpt_guid *own;
	struct update_slot found[2]; /* this program's, and the other one of the same drive */
	unsigned have;
};

/* Whether two partitions are of one drive: their devices' names differ in the number alone. */
static bool same_drive(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);

	while (n && a[n - 1] >= '0' && a[n - 1] <= '9')
		n--;
	while (m && b[m - 1] >= '0' && b[m - 1] <= '9')
		m--;
	return n == m && !memcmp(a, b, n);
}

static bool is_slot(const struct gpt_part *p)
{
	return !memcmp(&p->type, &gpt_type_esp, sizeof(p->type)) &&
	       !strncmp(p->name, SLOT_NAME, sizeof(SLOT_NAME) - 1) &&
	       strlen(p->name) == sizeof(SLOT_NAME);
}

static void keep(struct update_slot *to, const char *device, uint32_t number, uint32_t sector,
		 const struct gpt_part *part)
{
	snprintf(to->device, sizeof(to->device), "/dev/%.50s", device);
	to->number = number;
	to->sector = sector;
	to->part = *part;
}

static bool find_own(void *context, const char *device, uint32_t number, uint32_t sector,
		     const struct gpt_part *part)
{
	struct search *s = context;

	if (!is_slot(part) || memcmp(&part->guid, s->own, sizeof(part->guid)) != 0)
		return false;
	keep(&s->found[0], device, number, sector, part);
	return true;
}

static bool find_other(void *context, const char *device, uint32_t number, uint32_t sector,
		       const struct gpt_part *part)
{
	struct search *s = context;

	if (!is_slot(part) || !memcmp(&part->guid, s->own, sizeof(part->guid)) ||
	    !same_drive(device, s->found[0].device + sizeof("/dev/") - 1))
		return false;
	keep(&s->found[1], device, number, sector, part);
	return true;
}

/* This program's partition, and with `other` the other one. The variables are mounted. */
static int find_slots(struct update_slot *own, struct update_slot *other, struct err *e)
{
	struct gpt_guid guid;
	struct search s = {.own = &guid};
	int rc = efivar_own_partition(&guid, e);

	if (rc)
		return rc;
	if (!find_partitions(find_own, &s))
		return err_set(e, -ENOENT, "this program is from no program partition of ours");
	*own = s.found[0];
	if (!other)
		return 0;
	if (!find_partitions(find_other, &s))
		return err_set(e, -ENOENT, "the drive has no second program partition");
	*other = s.found[1];
	return 0;
}

int update_begin(struct update *u, uint64_t bytes, struct err *e)
{
	struct update_slot own;
	int rc = efivar_open(e);

	if (rc)
		return rc;
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
	rc = find_slots(&own, &u->slot, e);
	efivar_close();
	if (rc)
		return rc;
	if (!bytes || bytes > u->slot.part.bytes)
		return err_set(e, -EFBIG, "an update of %llu bytes; %s has %llu",
			       (unsigned long long)bytes, u->slot.part.name,
			       (unsigned long long)u->slot.part.bytes);
	u->fd = open(u->slot.device, O_WRONLY | O_CLOEXEC);
	if (u->fd < 0)
		return err_set(e, -errno, "cannot write to %s: %s", u->slot.device,
			       strerror(errno));
	u->bytes = bytes;
	u->done = 0;
	return 0;
}

/* What was written is what the firmware starts next, once. */
static int start_next(const struct update_slot *s, struct err *e)
{
	int rc = efivar_open(e);

	if (rc)
		return rc;
	rc = efivar_set_entry(entry_of(s), &s->part, s->number, s->sector, e);
	if (!rc)
		rc = efivar_set_next(entry_of(s), e);
	efivar_close();
	return rc;
}

int update_piece(struct update *u, const void *data, size_t len, struct err *e)
{
	int rc = 0;

	if (u->fd < 0 || !len || len > u->bytes - u->done)
		return err_set(e, -EINVAL, "no update is under way");
	if (pwrite(u->fd, data, len, (off_t)u->done) != (ssize_t)len)
		rc = err_set(e, errno ? -errno : -EIO, "cannot write to %s", u->slot.device);
	u->done += len;
	if (!rc && u->done < u->bytes)
		return 0;
	if (!rc && fsync(u->fd))
		rc = err_set(e, -errno, "cannot write to %s: %s", u->slot.device, strerror(errno));
	close(u->fd);
	u->fd = -1;
	if (!rc)
		rc = start_next(&u->slot, e);
	return rc ? rc : 1;
}

/* Puts an entry first. 1: it was not. */
static int put_first(uint16_t entry, struct err *e)
{
	uint16_t order[EFIVAR_ORDER_MAX + 1];
	unsigned n = efivar_order(order + 1), kept = 1;
	int rc;

	if (n && order[1] == entry)
		return 0;
	for (unsigned i = 1; i <= n; i++)
		if (order[i] != entry)
			order[kept++] = order[i];
	order[0] = entry;
	rc = efivar_set_order(order, kept < EFIVAR_ORDER_MAX ? kept : EFIVAR_ORDER_MAX, e);
	return rc ? rc : 1;
}

int update_keep(struct err *e)
{
	struct update_slot own;
	int rc = efivar_open(e);

	if (rc)
		return rc;
	rc = find_slots(&own, NULL, e);
	if (!rc)
		rc = efivar_set_entry(entry_of(&own), &own.part, own.number, own.sector, e);
	if (!rc)
		rc = put_first(entry_of(&own), e);
	efivar_close();
	return rc;
}

bool update_on_trial(void)
{
	uint16_t order[EFIVAR_ORDER_MAX];
	struct update_slot own;
	struct err e = {0};
	bool trial = false;

	if (efivar_open(&e))
		return false;
	if (!find_slots(&own, NULL, &e))
		trial = efivar_order(order) && order[0] != entry_of(&own) &&
			order[0] >= ENTRY_FIRST && order[0] <= ENTRY_FIRST + 1;
	efivar_close();
	return trial;
}
