/*
 * What MTP knows of a sequence: which rows of its layer are there, which hidden states wait to be
 * paired with the token behind them, and the draft of the next token but one. A draft changes the
 * number of rows in a pass, never a token: the token is drawn from the main model's logits, and a
 * draft that differs from it is forgotten. MTP passes come between a main pass and the next one of
 * the same batch, which overwrites the hidden states.
 */
#include "runtime/router/router.h"

enum {
	/* rows computed again so that MTP goes on without a hole: cheaper than what a hole costs */
	RESUME_ROWS = 16
};

void draft_start(struct router *r, uint32_t conn)
{
	struct router_seq *q = router_seq_edit(r, conn);
	bool score = q->req.flags & REQUEST_LOGITS;

	q->mtp = score ? (q->req.flags & REQUEST_MTP) != 0 : r->pay.follow;
	q->mtp_first = q->mtp_next = 1;
	q->hidden_rows = 0;
	q->draft_position = 0;
}

void draft_reuse(struct router_seq *q, uint32_t position, uint32_t mtp)
{
	if (!mtp)
		return;
	if (position && q->mtp_next != position)
		q->mtp_first = position;
	q->mtp_next = position + mtp;
}

uint32_t draft_resume(const struct router_seq *q, uint32_t computed)
{
	uint32_t want = q->mtp_next - 1;

	return q->mtp && want < computed && computed - want <= RESUME_ROWS ? want : computed;
}

uint32_t draft_from(const struct router_seq *q)
{
	uint32_t next = q->mtp_next - 1;

	return next > q->hidden_position ? next : q->hidden_position;
}

/* Whether a draft could save a pass: the token behind the next one is wanted too. */
static bool useful(const struct router_seq *q)
{
	return q->req.flags & REQUEST_LOGITS || q->count + 1 < q->req.max_tokens;
}

uint32_t draft_pairs(const struct router_seq *q)
{
	uint32_t from = draft_from(q), end = q->hidden_position + q->hidden_rows,
		 known = router_known(q) - 1;

	if (!q->mtp || !q->hidden_rows || !useful(q))
		return 0;
	end = end < known ? end : known;
	return end > from ? end - from : 0;
}

uint32_t draft_first_key(const struct router_seq *q)
{
	uint32_t row = draft_from(q) + 1;

	return row == q->mtp_next ? q->mtp_first : row;
}

void draft_keep(struct router_seq *q, uint32_t batch, uint32_t row0, uint32_t position, uint32_t n)
{
	q->hidden_batch = batch;
	q->hidden_row0 = row0;
	q->hidden_position = position;
	q->hidden_rows = n;
}

void draft_take(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n, bool error,
		const float *logits)
{
	struct router_seq *q = router_seq_edit(r, conn);
	uint32_t token;

	if (error) {
		q->mtp_first = q->mtp_next = 1;
		q->hidden_rows = 0;
		return;
	}
	q->mtp_first = row->first_key;
	q->mtp_next = row->position + n;
	pages_name_mtp(r, conn, row, n);
	/* nothing follows an end token, so none is worth a row */
	if (!logits || finish_draw(r, conn, logits, &token) || finish_is_end(r, token))
		return;
	q->draft = token;
	q->draft_position = router_known(q);
}

void draft_follow(struct router_seq *q, bool follow)
{
	q->mtp = follow;
	if (follow)
		return;
	q->hidden_rows = 0;
	q->draft_position = 0;
}

bool draft_wanted(const struct router *r, uint32_t conn)
{
	const struct router_seq *q = router_seq(r, conn);

	return r->pay.draft && q->draft_position && q->draft_position == router_known(q) &&
	       useful(q);
}
