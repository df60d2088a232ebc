/*
 * Between reply_text.c, which folds tokens into text, and reply.c, which makes events of the text.
 * Not for others.
 */
#ifndef GATEWAY_REPLY_TEXT_H
#define GATEWAY_REPLY_TEXT_H

#include "runtime/gateway/reply.h"

/* What one token decided, in the scratch memory of the environment. */
struct reply_text {
	struct out reasoning, content;
};

/* Folds one token; sets f->finish if it is the last. */
void reply_fold_token(const struct reply *r, struct reply_fold *f, uint32_t token,
		      struct reply_text *t);

#endif
