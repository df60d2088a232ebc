/*
 * Whether drafting pays (--mtp auto). The rule: a pass with drafts and the MTP pass behind it take
 * some time and give some tokens; the same tokens without drafts would have taken the time of
 * passes of as many sequences, which is measured too. The gain is the ratio of the two, a mean over
 * the last passes. Acceptance, hand-overs, memory traffic and the reads of a second row's experts
 * are in it, since they are in the times. Drafting begins where a trial gains 3 % and ends where
 * the gain is lost. Trials become rarer while they lose, and begin anew when the number of
 * sequences that decode together has doubled or halved. Passes beside another batch are not
 * counted. All of this is private to the process: a successor learns anew, and tokens do not depend
 * on it.
 */
#include "runtime/router/router.h"

#include "runtime/clock.h"

#include <stdlib.h>

enum {
	WARM = 8,   /* passes of a new process that say nothing */
	LEARN = 16, /* passes without drafts of n sequences before drafts of n are judged */
	TRIAL = 24,
	TRIAL_FIRST = 256, /* passes between two trials of the other way, doubled while it loses */
	TRIAL_LAST = 8192,
	MEMORY = 96 /* passes that a mean goes back */
};

/* A mean over the last passes. */
static void mean_add(float *mean, uint32_t passes, float x)
{
	*mean += (x - *mean) / (float)(passes < MEMORY ? passes : MEMORY);
}

static float gain(const struct pay *p)
{
	return p->taken > 0 ? p->spared / p->taken : 0;
}

bool pay_open(struct router *r)
{
	const struct plan *p = r->s.at.plan;

	r->pay.plain = calloc(p->places + 1ull, sizeof(*r->pay.plain));
	r->pay.follow = r->pay.draft = p->mtp == MTP_ON;
	r->pay.interval = LEARN;
	return r->pay.plain != NULL;
}

/* The trial is over: is the other way better? Its passes with drafts, if it was one of them. */
static void trial_end(struct pay *p)
{
	if (!p->on && gain(p) > 1.03f) {
		p->on = true;
		p->interval = TRIAL_FIRST;
	} else if (!p->on && p->interval < TRIAL_FIRST) {
		p->interval = TRIAL_FIRST;
	} else if (!p->on && p->interval < TRIAL_LAST) {
		p->interval *= 2;
	}
	p->since = 0;
	p->together = p->sequences;
}

void pay_choose(struct router *r, uint32_t n)
{
	struct pay *p = &r->pay;

	if (r->s.at.plan->mtp != MTP_AUTO)
		return;
	mean_add(&p->sequences, MEMORY, (float)n);
	if (p->on && !p->trial && p->passes >= LEARN && gain(p) < 1) {
		p->on = false;
		p->interval = TRIAL_FIRST;
		p->since = 0;
	}
	if (p->sequences > 2 * p->together || 2 * p->sequences < p->together) {
		p->together = p->sequences;
		if (p->interval > TRIAL_FIRST)
			p->interval = TRIAL_FIRST;
	}
	if (!p->trial && ++p->since > p->interval && p->plain[n].passes >= LEARN) {
		p->trial = TRIAL;
		if (!p->on)
			p->passes = 0;
	}
	p->draft = p->on != (p->trial > 0) && p->plain[n].passes >= LEARN;
	/* a look at passes without drafts leaves no hole in MTP's rows */
	p->follow = p->on || p->draft;
	count_set(r->s.at.log, COUNT_MTP_GAIN, (uint64_t)(1000 * gain(p)));
}

void pay_started(struct router *r, uint32_t batch)
{
	r->pay.start_ns[batch] = clock_now_ns();
	r->pay.alone[batch] = router_head(r)->batch[!batch].pass == 0;
}

/* Adds up the last decode pass and the MTP pass behind it. */
static void pass_close(struct pay *p)
{
	struct pay_plain *plain = &p->plain[p->n];
	float ns = (float)p->ns, usual = plain->ns;

	if (!p->n)
		return;
	if (p->warm < WARM) {
		p->warm++;
	} else if (!p->drafts) {
		/* one that was interrupted counts for twice the usual at most */
		plain->passes++;
		mean_add(&plain->ns, plain->passes,
			 plain->passes > LEARN && ns > 2 * usual ? 2 * usual : ns);
	} else if (plain->passes >= LEARN) {
		p->passes++;
		mean_add(&p->taken, p->passes, ns > 4 * usual ? 4 * usual : ns);
		mean_add(&p->spared, p->passes, usual * (float)p->tokens / (float)p->n);
	}
	if (p->trial && (p->drafts > 0) != p->on && --p->trial == 0)
		trial_end(p);
	p->n = 0;
}

void pay_ended(struct router *r, uint32_t batch, enum pass_kind kind, uint32_t n, uint32_t tokens,
	       uint32_t drafts)
{
	struct pay *p = &r->pay;
	uint64_t ns = clock_now_ns() - p->start_ns[batch];
	/* start_ns 0: it was begun by a predecessor */
	bool alone =
		p->alone[batch] && p->start_ns[batch] && router_head(r)->batch[!batch].pass == 0;

	if (r->s.at.plan->mtp != MTP_AUTO || batch != BATCH_DECODE || kind == PASS_HEALTH)
		return;
	if (kind == PASS_MTP) {
		if (p->drafts)
			p->ns += ns;
		if (!alone)
			p->n = 0;
		pass_close(p);
		return;
	}
	pass_close(p);
	p->n = alone ? n : 0;
	p->ns = ns;
	p->tokens = tokens;
	p->drafts = drafts;
}
