/*
 * A score run: one prompt per connection record at a time, as many as there are places. Router
 * computes a pass, leaves its logit rows in the logits object and its routes in its own, and goes
 * on when `taken` says that they have been read.
 */
#include "runtime/score/score.h"

#include "model/sampler.h"
#include "model/tensors.h"
#include "runtime/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool wanted(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

int score_open(struct score *s, struct err *e)
{
	const struct plan *p;
	uint64_t longest = 0;
	int rc = attach_open(&s->at, ROLE_CLIENT, e);

	if (rc)
		return rc;
	p = s->at.plan;
	rc = index_open(&s->index, attach_at(&s->at, OBJ_INDEX, sizeof(struct object_header)),
			s->at.bytes[OBJ_INDEX] - sizeof(struct object_header), e);
	if (rc)
		return rc;
	s->logits = wanted(FD_LOGITS);
	s->routes = wanted(FD_ROUTES);
	s->mtp = wanted(FD_MTP);
	s->terminal = isatty(2); /* asked now: the sandbox has no such call */
	s->moe_layers = config_moe_index(&s->index->config, p->main_layers);
	if (s->mtp && p->layers == p->main_layers)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--mtp-logits: this model has no MTP module");
	s->route_row = malloc((s->moe_layers + 1ull) * p->top_k * sizeof(*s->route_row));
	rc = s->route_row ? prompts_read(&s->prompts, s->index, e)
			  : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	if (rc)
		return rc;
	for (uint32_t i = 0; i < s->prompts.count; i++) {
		uint64_t n = s->prompts.begin[i + 1] - s->prompts.begin[i];

		longest = n > longest ? n : longest;
	}
	if (longest > s->index->config.max_position_embeddings)
		return err_exit(e, STATUS_USAGE, -E2BIG,
				"prompts: the longest has %llu tokens, this model %u positions",
				(unsigned long long)longest,
				s->index->config.max_position_embeddings);
	if (longest > p->context)
		return err_exit(
			e, STATUS_USAGE, -E2BIG,
			"prompts: the longest has %llu tokens, the context %u. Say --context %llu",
			(unsigned long long)longest, p->context, (unsigned long long)longest);
	record_open(&s->rings, attach_at(&s->at, OBJ_CLIENT, s->at.layout.client_record),
		    sizeof(struct client_record));
	for (uint32_t c = 0; c < p->places; c++) {
		record_open(
			&s->lane[c].record,
			attach_at(&s->at, OBJ_CLIENT,
				  s->at.layout.client_conn + c * s->at.layout.client_conn_stride),
			sizeof(struct conn_record));
		s->lane[c].prompt = UINT32_MAX;
	}
	return 0;
}

/* Commits the lane's record and tells router. */
static void announce(struct score *s, uint32_t conn)
{
	const struct attach *a = &s->at;
	struct client_record *d = s->rings.draft;
	const struct conn_record *own = s->lane[conn].record.draft;
	struct msg m = {.kind = MSG_ANNOUNCE,
			.seq = own->request.number,
			.row0 = conn,
			.generation = a->generation};

	record_touch(&s->lane[conn].record, own, sizeof(*own));
	record_commit(&s->lane[conn].record);
	/*
	 * never full: at most two announcements of each of 256 lanes are unread, and router reads
	 * all before it works
	 */
	ring_put(attach_at(a, OBJ_CLIENT, a->layout.client_ring), RING_ENTRIES_ANNOUNCE,
		 d->announce_tail, d->announce_tail, &m);
	record_touch(&s->rings, d, sizeof(*d));
	d->announce_tail++;
	record_commit(&s->rings);
	attach_ring(a, ROLE_ROUTER);
}

static void start_prompt(struct score *s, uint32_t conn)
{
	struct lane *l = &s->lane[conn];
	struct conn_record *d = l->record.draft;
	uint32_t n = s->next++;
	uint64_t begin = s->prompts.begin[n], count = s->prompts.begin[n + 1] - begin;
	uint32_t *area = (uint32_t *)attach_at(&s->at, OBJ_CLIENT, s->at.layout.client_prompt) +
			 (size_t)conn * s->at.plan->context;

	memcpy(area, s->prompts.ids + begin, count * sizeof(*area));
	l->prompt = n;
	l->logprob = 0;
	l->taken = 0;
	d->request = (struct request){.number = d->request.number + 1,
				      .live = 1,
				      .flags = REQUEST_LOGITS | REQUEST_NO_REUSE |
					       (s->mtp ? REQUEST_MTP : 0),
				      .n_prompt = (uint32_t)count,
				      .temperature = 1,
				      .top_p = 1};
	announce(s, conn);
}

static int write_at(int fd, const void *buf, size_t len, uint64_t off, struct err *e)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, n < 0 ? -errno : -EIO, "cannot write the output: %s",
				       n < 0 ? strerror(errno) : "no space");
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

/* The routes of one row, ascending as router leaves them, main MoE layers only. */
static int write_routes(struct score *s, uint32_t batch_row, uint64_t file_row, struct err *e)
{
	const struct plan *p = s->at.plan;
	const uint16_t *all =
		attach_at(&s->at, OBJ_ROUTER, s->at.layout.router_expert[BATCH_PREFILL]);
	size_t row = s->moe_layers * (size_t)p->top_k, n = 0;

	for (uint32_t l = 0; l < p->main_layers; l++) {
		if (!config_is_moe(&s->index->config, l))
			continue;
		memcpy(s->route_row + n,
		       all + ((size_t)l * p->rows[BATCH_PREFILL] + batch_row) * p->top_k,
		       p->top_k * sizeof(*all));
		n += p->top_k;
	}
	return write_at(FD_ROUTES, s->route_row, row * sizeof(*all), file_row * row * sizeof(*all),
			e);
}

/* Log-probability of the token after `position`, where the prompt has one. */
static void add_logprob(struct score *s, struct lane *l, const float *logits, uint32_t position)
{
	const struct index *ix = s->index;
	uint64_t at = s->prompts.begin[l->prompt] + position + 1;

	if (at < s->prompts.begin[l->prompt + 1])
		l->logprob += sampler_logprob(
			logits, ix->config.vocab_size,
			ix->candidates.count ? (const uint8_t *)ix + ix->candidates.off : NULL,
			s->prompts.ids[at], 0, NULL, NULL);
}

/* One finished pass of a lane: its rows go to the files. */
static int take_rows(struct score *s, struct lane *l, const struct router_seq *q, struct err *e)
{
	const struct plan *p = s->at.plan;
	const float *logits =
		(const float *)attach_at(&s->at, OBJ_LOGITS, s->at.layout.logits[q->out_mtp != 0]);
	/* MTP rows: one less per prompt */
	uint64_t first = s->prompts.begin[l->prompt] - (q->out_mtp ? l->prompt : 0);
	int rc = 0;

	if (q->out_row0 + (uint64_t)q->out_rows > p->rows[BATCH_PREFILL] ||
	    q->out_position + (uint64_t)q->out_rows >
		    s->prompts.begin[l->prompt + 1] - s->prompts.begin[l->prompt])
		return err_set(e, -EBADMSG, "router speaks of rows %u + %u", q->out_row0,
			       q->out_rows);
	for (uint32_t i = 0; i < q->out_rows && !rc; i++) {
		const float *row = logits + (size_t)(q->out_row0 + i) * p->vocab;
		uint64_t file_row = first + q->out_position + i;

		for (uint32_t v = 0; v < p->vocab; v++) {
			if (!isfinite(row[v]))
				return err_exit(e, STATUS_MODEL, -EDOM,
						"prompt %u, position %u: logit %u is not finite",
						l->prompt, q->out_position + i, v);
		}
		if (q->out_mtp) {
			rc = write_at(FD_MTP, row, p->vocab * sizeof(float),
				      file_row * p->vocab * sizeof(float), e);
			continue;
		}
		add_logprob(s, l, row, q->out_position + i);
		if (s->logits)
			rc = write_at(FD_LOGITS, row, p->vocab * sizeof(float),
				      file_row * p->vocab * sizeof(float), e);
		if (s->routes && !rc)
			rc = write_routes(s, q->out_row0 + i, file_row, e);
	}
	return rc;
}

static int report(const struct score *s, const struct lane *l, struct err *e)
{
	uint64_t n = s->prompts.begin[l->prompt + 1] - s->prompts.begin[l->prompt];
	double mean = n > 1 ? l->logprob / (double)(n - 1) : 0;

	if (dprintf(FD_REPORT,
		    "{\"prompt\": %u, \"tokens\": %llu, \"logprob\": %.9g, \"mean_logprob\": "
		    "%.9g}\n",
		    l->prompt, (unsigned long long)n, l->logprob, mean) < 0)
		return err_set(e, -errno, "cannot write the report: %s", strerror(errno));
	return 0;
}

static int failure(const struct score *s, const struct lane *l, const struct router_seq *q,
		   struct err *e)
{
	uint32_t cause = (uint32_t)(q->error >> 56), layer = (uint32_t)(q->error >> 32) & 0xffff,
		 expert = (uint32_t)(q->error >> 16) & 0xffff;
	char text[TENSOR_DAMAGE_TEXT];

	switch (cause) {
	case CAUSE_READ:
	case CAUSE_BAD_EXPERT:
		return err_exit(e, STATUS_MODEL, -EBADMSG, "%s",
				tensor_damage_text(text, s->index, layer, expert,
						   q->error >> 48 & 0xff, q->error & 0xffff));
	case CAUSE_NOT_FINITE:
		return err_exit(e, STATUS_MODEL, -EDOM,
				"prompt %u: a number that is not finite appeared in layer %u: its "
				"weights are too large",
				l->prompt, layer);
	default:
		return err_set(e, -EINVAL, "prompt %u failed with cause %u", l->prompt, cause);
	}
}

/* Tokens done, rate and time left, at most once a second, so that short runs say nothing. */
static void progress(struct score *s, uint32_t rows)
{
	uint64_t now = clock_now_ns(), total = s->prompts.begin[s->prompts.count];
	double rate;

	s->rows_done += rows;
	if (now - s->said_ns < NS_PER_S)
		return;
	s->said_ns = now;
	rate = (double)s->rows_done * 1e9 / (double)(now - s->begun_ns);
	fprintf(stderr, "%sprefill %llu of %llu tokens, %.1f t/s, %.0f s left%s",
		s->terminal ? "\r\033[K" : "penstock: ", (unsigned long long)s->rows_done,
		(unsigned long long)total, rate, (double)(total - s->rows_done) / rate,
		s->terminal && s->rows_done < total ? "" : "\n");
}

/* Looks at one lane; *busy: something was done. */
static int serve(struct score *s, uint32_t conn, bool *busy, struct err *e)
{
	const struct layout *lay = &s->at.layout;
	struct lane *l = &s->lane[conn];
	struct conn_record *d = l->record.draft;
	struct router_seq q;
	int rc = 0;

	if (l->prompt == UINT32_MAX) {
		if (s->next < s->prompts.count) {
			*busy = true;
			start_prompt(s, conn);
		}
		return 0;
	}
	if (!record_read(attach_at(&s->at, OBJ_ROUTER, lay->router_record), lay->router_record_size,
			 lay->seq_off + conn * sizeof(q), &q, sizeof(q)))
		return err_set(e, -EPROTO, "score: router's record does not stand still");
	if (q.request != d->request.number)
		return 0;
	if (q.passes > l->taken) {
		*busy = true;
		rc = take_rows(s, l, &q, e);
		progress(s, q.out_mtp ? 0 : q.out_rows);
		l->taken = q.passes;
		d->request.taken = q.passes;
		if (!rc)
			announce(s, conn);
	} else if (q.status == SEQ_DONE) {
		*busy = true;
		rc = report(s, l, e);
		l->prompt = UINT32_MAX;
		s->done++;
	} else if (q.status == SEQ_FAILED || q.status == SEQ_BUSY) {
		rc = failure(s, l, &q, e);
	}
	return rc;
}

int score_run(struct score *s, struct err *e)
{
	struct bell *bell = &s->at.bells->bell[ROLE_CLIENT][0];

	s->begun_ns = s->said_ns = clock_now_ns();
	while (s->done < s->prompts.count) {
		uint64_t before;
		bool busy = false;

		bell_prepare(bell);
		before = record_version(attach_at(&s->at, OBJ_ROUTER, s->at.layout.router_record));
		for (uint32_t c = 0; c < s->at.plan->places; c++) {
			int rc = serve(s, c, &busy, e);

			if (rc)
				return rc;
		}
		/*
		 * nothing can be missed: a commit after `before` was read rings the bell that is
		 * already set to asleep
		 */
		if (!busy && before == record_version(attach_at(&s->at, OBJ_ROUTER,
								s->at.layout.router_record)))
			bell_wait(bell, UINT64_MAX);
		else
			bell_cancel(bell);
	}
	return 0;
}
