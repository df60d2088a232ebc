/*
 * KV pages: taking, keeping and finding them again (machinery 17). A page is free (no name, no
 * reference), in use (referenced), or kept (a name, no reference): kept pages are taken least
 * recently used first when free ones run out. One page is reserved for the known-answer request.
 */
#include "runtime/router/router.h"

#include <assert.h>
#include <string.h>

uint32_t pages_reserved(const struct router *r)
{
	return r->s.at.plan->pages - 1;
}

void pages_hold(struct router *r, uint32_t page)
{
	r->refs[page]++;
}

void pages_drop(struct router *r, uint32_t page)
{
	assert(r->refs[page] > 0);
	r->refs[page]--;
}

void pages_open(struct router *r)
{
	for (uint32_t c = 0; c < CONN_PLACES; c++) {
		const struct router_seq *q = router_seq(r, c);

		if (q->status != SEQ_RUNNING)
			continue;
		for (uint32_t i = 0; i < q->n_pages; i++)
			pages_hold(r, router_table(r, q->place)[i]);
		if (q->copy_rows)
			pages_hold(r, q->copy_from);
	}
}

uint32_t pages_available(const struct router *r)
{
	uint32_t n = 0;

	for (uint32_t p = 0; p < pages_reserved(r); p++)
		n += r->refs[p] == 0;
	return n;
}

uint32_t pages_take(struct router *r)
{
	uint32_t best = NO_PAGE;
	struct router_page *page;

	for (uint32_t p = 0; p < pages_reserved(r); p++) {
		if (r->refs[p])
			continue;
		if (router_page(r, p)->name == 0) {
			best = p;
			break;
		}
		if (best == NO_PAGE || router_page(r, p)->used < router_page(r, best)->used)
			best = p;
	}
	if (best == NO_PAGE)
		return NO_PAGE;
	page = router_page_edit(r, best);
	memset(page, 0, sizeof(*page));
	pages_hold(r, best);
	return best;
}

/* A number that no page has had before: whoever follows the old name finds nothing. */
static uint64_t new_name(struct router *r)
{
	return ++router_head(r)->names;
}

/* Positions that a page's ids share with the sequence's tokens from `position` on. */
static uint32_t common(const struct router *r, uint32_t conn, uint32_t position, uint32_t page)
{
	const uint32_t *ids = router_page_ids(r, page);
	uint32_t left = router_known(router_seq(r, conn)) - position,
		 n = router_page(r, page)->count, i;

	if (n > left)
		n = left;
	for (i = 0; i < n && ids[i] == router_token_at(r, conn, position + i); i++)
		;
	return i;
}

/* The page that follows `previous` and shares most positions; NO_PAGE if none shares any. */
static uint32_t find(const struct router *r, uint32_t conn, uint32_t position, uint64_t previous,
		     uint32_t *shared)
{
	uint32_t best = NO_PAGE;

	*shared = 0;
	for (uint32_t p = 0; p < pages_reserved(r); p++) {
		uint32_t n;

		if (router_page(r, p)->name == 0 || router_page(r, p)->previous != previous)
			continue;
		n = common(r, conn, position, p);
		/* among equals one that nobody uses: it need not be copied */
		if (n > *shared || (n && n == *shared && r->refs[best] && !r->refs[p])) {
			best = p;
			*shared = n;
		}
	}
	return best;
}

static void append(struct router *r, uint32_t conn, uint32_t page)
{
	struct router_seq *q = router_seq_edit(r, conn);

	router_table_edit(r, q->place, q->n_pages, 1)[q->n_pages] = page;
	q->n_pages++;
}

/* Whether a page could be taken that holds nothing worth keeping. */
static bool have_blank(const struct router *r)
{
	for (uint32_t p = 0; p < pages_reserved(r); p++) {
		if (!r->refs[p] && router_page(r, p)->name == 0)
			return true;
	}
	return false;
}

/*
 * The last, partly shared page: copied if somebody uses it or its other positions can be kept too,
 * else cut and taken over. Two conversations that begin alike thus keep both their pages while
 * there is room. False if there is no page for the copy.
 */
static bool take_part(struct router *r, uint32_t conn, uint32_t page, uint32_t shared)
{
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t mine;

	if (r->refs[page] == 0 && (shared == router_page(r, page)->count || !have_blank(r))) {
		struct router_page *p = router_page_edit(r, page);

		if (shared < p->count) {
			p->count = shared;
			p->name =
				new_name(r); /* what followed the whole page does not follow this */
		}
		if (p->mtp > shared)
			p->mtp = shared;
		p->used = router_head(r)->clock;
		pages_hold(r, page);
		append(r, conn, page);
		return true;
	}
	pages_hold(r,
		   page); /* so that pages_take does not give it away, and until the copy is made */
	mine = pages_take(r);
	if (mine == NO_PAGE) {
		pages_drop(r, page);
		return false;
	}
	append(r, conn, mine);
	q->copy_from = page;
	q->copy_to = mine;
	q->copy_rows = shared;
	return true;
}

void pages_reuse(struct router *r, uint32_t conn)
{
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t known = router_known(q), position = 0, shared;
	uint64_t previous = PAGE_FIRST;

	q->computed = 0;
	draft_start(r, conn);
	if (q->req.flags & REQUEST_NO_REUSE)
		return;
	while (position < known) {
		uint32_t page = find(r, conn, position, previous, &shared), mtp;

		if (page == NO_PAGE)
			break;
		mtp = router_page(r, page)->mtp;
		if (shared < KV_PAGE_ROWS) {
			if (take_part(r, conn, page, shared)) {
				draft_reuse(q, position, mtp < shared ? mtp : shared);
				position += shared;
			}
			break;
		}
		draft_reuse(q, position, mtp);
		pages_hold(r, page);
		append(r, conn, page);
		router_page_edit(r, page)->used = router_head(r)->clock;
		previous = router_page(r, page)->name;
		position += shared;
	}
	/*
	 * the last token's row is computed again where everything was found, and the row before
	 * MTP's next: the same bytes in the same place
	 */
	q->computed = draft_resume(q, position < known ? position : known - 1);
}

void pages_copied(struct router *r, uint32_t conn)
{
	struct router_seq *q = router_seq_edit(r, conn);

	if (!q->copy_rows)
		return;
	memcpy(router_page_ids(r, q->copy_to), router_page_ids(r, q->copy_from),
	       q->copy_rows * sizeof(uint32_t));
	pages_drop(r, q->copy_from);
	q->copy_rows = 0;
	q->copy_from = NO_PAGE;
}

void pages_release(struct router *r, uint32_t conn)
{
	struct router_seq *q = router_seq_edit(r, conn);

	for (uint32_t i = 0; i < q->n_pages && conn != CONN_HEALTH; i++)
		pages_drop(r, router_table(r, q->place)[i]);
	draft_start(r, conn);
	if (q->copy_rows)
		pages_drop(r, q->copy_from);
	q->copy_rows = 0;
	q->copy_from = NO_PAGE;
	q->n_pages = 0;
	q->computed = 0;
}

/*
 * The name of a page that has just become full: that of a page which holds the same ids behind the
 * same predecessor, so that what follows either is found.
 */
static uint64_t full_name(const struct router *r, uint32_t page)
{
	const struct router_page *own = router_page(r, page);
	const uint32_t *ids = router_page_ids(r, page);

	for (uint32_t p = 0; p < pages_reserved(r); p++) {
		const struct router_page *other = router_page(r, p);

		if (p != page && other->name && other->count == KV_PAGE_ROWS &&
		    other->previous == own->previous &&
		    memcmp(router_page_ids(r, p), ids, KV_PAGE_ROWS * sizeof(*ids)) == 0)
			return other->name;
	}
	return own->name;
}

void pages_name(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n)
{
	const struct router_seq *q = router_seq(r, conn);
	uint32_t from = row->position, to = from + n;
	const uint32_t *table = router_table(r, q->place);

	if (q->req.flags & REQUEST_NO_REUSE)
		return;
	for (uint32_t i = from / KV_PAGE_ROWS; i * KV_PAGE_ROWS < to; i++) {
		uint32_t first = i * KV_PAGE_ROWS,
			 last = first + KV_PAGE_ROWS < to ? first + KV_PAGE_ROWS : to;
		uint32_t *ids = router_page_ids(r, table[i]);
		struct router_page *p = router_page_edit(r, table[i]);
		bool full;

		/* ids of positions that the committed record already names stay as they are */
		for (uint32_t pos = from > first ? from : first; pos < last; pos++)
			ids[pos - first] = row[pos - from].token;
		full = p->count == KV_PAGE_ROWS;
		if (p->count < last - first)
			p->count = last - first;
		p->previous = i ? router_page(r, table[i - 1])->name : PAGE_FIRST;
		if (!p->name)
			p->name = new_name(r);
		if (!full && p->count == KV_PAGE_ROWS)
			p->name = full_name(r, table[i]);
		p->used = router_head(r)->clock;
	}
}

void pages_name_mtp(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n)
{
	const struct router_seq *q = router_seq(r, conn);
	uint32_t from = row->position, to = from + n;

	if (q->req.flags & REQUEST_NO_REUSE)
		return;
	for (uint32_t i = from / KV_PAGE_ROWS; i * KV_PAGE_ROWS < to; i++) {
		uint32_t first = i * KV_PAGE_ROWS,
			 last = first + KV_PAGE_ROWS < to ? first + KV_PAGE_ROWS : to;
		struct router_page *p = router_page_edit(r, router_table(r, q->place)[i]);

		/* position 0 has no row, so it counts as there */
		if (row->first_key > (first ? first : 1))
			p->mtp = 0; /* mla has put zeros below the first key */
		else if (p->mtp < last - first)
			p->mtp = last - first;
	}
}
