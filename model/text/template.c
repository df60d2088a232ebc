/*
 * The seven templates. Each renderer is the published Jinja text's state machine with its names
 * kept (is_first, is_tool, is_output_first, is_last_user), so that the two can be read side by
 * side; where the official text is malformed (V3 of December, R1's second tool round) the rules of
 * V3-0324 are followed.
 */
#include "model/text/template_internal.h"

#include <errno.h>
#include <string.h>

/* U+FF5C and U+2581 as the tokens have them. */
#define BAR  "\xef\xbd\x9c"
#define LINE "\xe2\x96\x81"

const char *marker_text(enum marker m)
{
	static const char *const text[MARKER_COUNT] = {
		[MARKER_TEXT] = "",
		[MARKER_BOS] = "<" BAR "begin" LINE "of" LINE "sentence" BAR ">",
		[MARKER_EOS] = "<" BAR "end" LINE "of" LINE "sentence" BAR ">",
		[MARKER_USER] = "<" BAR "User" BAR ">",
		[MARKER_ASSISTANT] = "<" BAR "Assistant" BAR ">",
		[MARKER_THINK] = "<think>",
		[MARKER_THINK_END] = "</think>",
		[MARKER_CALLS] = "<" BAR "tool" LINE "calls" LINE "begin" BAR ">",
		[MARKER_CALLS_END] = "<" BAR "tool" LINE "calls" LINE "end" BAR ">",
		[MARKER_CALL] = "<" BAR "tool" LINE "call" LINE "begin" BAR ">",
		[MARKER_CALL_END] = "<" BAR "tool" LINE "call" LINE "end" BAR ">",
		[MARKER_OUTPUTS] = "<" BAR "tool" LINE "outputs" LINE "begin" BAR ">",
		[MARKER_OUTPUTS_END] = "<" BAR "tool" LINE "outputs" LINE "end" BAR ">",
		[MARKER_OUTPUT] = "<" BAR "tool" LINE "output" LINE "begin" BAR ">",
		[MARKER_OUTPUT_END] = "<" BAR "tool" LINE "output" LINE "end" BAR ">",
		[MARKER_SEP] = "<" BAR "tool" LINE "sep" BAR ">",
	};

	return text[m];
}

/* ---- the pen ---- */

static void append(struct prompt *p, enum marker m, const char *s, size_t n)
{
	size_t last = p->n_segments - 1;

	if (m != MARKER_TEXT || !p->in_run) {
		last = p->n_segments++;
		if (last < p->segment_cap)
			p->segment[last] = (struct segment){m, p->text_len, 0};
	}
	p->in_run = m == MARKER_TEXT;
	if (last < p->segment_cap)
		p->segment[last].len += n;
	if (p->text_len <= p->text_cap && n <= p->text_cap - p->text_len)
		memcpy(p->text + p->text_len, s, n);
	p->text_len += n;
}

void prompt_bytes(struct prompt *p, const char *s, size_t n)
{
	if (n > 0)
		append(p, MARKER_TEXT, s, n);
}

void prompt_string(struct prompt *p, const char *s)
{
	prompt_bytes(p, s, strlen(s));
}

void prompt_text(struct prompt *p, struct text t)
{
	prompt_bytes(p, t.s, t.len);
}

void prompt_marker(struct prompt *p, enum marker m)
{
	append(p, m, marker_text(m), strlen(marker_text(m)));
}

/* ---- what follows </think> ---- */

static struct text after(struct text t, size_t at)
{
	return (struct text){t.s + at, t.len - at};
}

/* The text behind the first or the last </think>, or all of it. */
static struct text strip_reasoning(struct text t, bool last)
{
	static const char tag[] = "</think>";
	const size_t n = sizeof(tag) - 1;
	struct text found = t;

	for (size_t i = 0; t.s && t.len >= n && i <= t.len - n; i++)
		if (memcmp(t.s + i, tag, n) == 0) {
			found = after(t, i + n);
			if (!last)
				break;
			i += n - 1;
		}
	return found;
}

/* ---- renderers ---- */

struct renderer {
	struct prompt *p;
	const struct messages *messages;
	const struct template_options *o;
	enum template_id id;
	bool is_first;        /* a call of this message (R1: of any) was printed */
	bool is_tool;         /* outputs are open */
	bool is_output_first; /* the next output opens the series */
	bool is_last_user;    /* the message before, system apart, was the user's */
	bool is_only_sys;     /* V3.2: there was a system message and nothing else yet */
	bool is_prefix;       /* V3.2: some assistant message was a prefix */
};

static void write_system(struct renderer *r)
{
	bool any = false;

	prompt_marker(r->p, MARKER_BOS);
	for (size_t i = 0; i < r->messages->n; i++) {
		if (r->messages->item[i].role != MESSAGE_SYSTEM)
			continue;
		if (any)
			prompt_string(r->p, "\n\n");
		prompt_text(r->p, r->messages->item[i].content);
		any = true;
	}
	if (r->o->tools && r->o->tools->n > 0) {
		prompt_string(r->p, "\n\n");
		tools_write(r->p, r->o->tools);
		any = true;
	}
	r->is_only_sys = any;
}

static void write_output(struct renderer *r, struct text content)
{
	prompt_marker(r->p, MARKER_OUTPUT);
	prompt_text(r->p, content);
	prompt_marker(r->p, MARKER_OUTPUT_END);
}

static bool is_r1(const struct renderer *r)
{
	return r->id == TEMPLATE_R1 || r->id == TEMPLATE_R1_FIRST;
}

/* V3, R1 and R1-0528: the calls of one message, with a type and a code fence. */
static void write_fenced_calls(struct renderer *r, const struct message *m, struct text content)
{
	for (size_t i = 0; i < m->n_calls; i++) {
		if (r->is_first) {
			prompt_string(r->p, "\n");
		} else {
			if (is_r1(r))
				prompt_marker(r->p, MARKER_ASSISTANT);
			prompt_text(r->p, content);
			prompt_marker(r->p, MARKER_CALLS);
		}
		r->is_first = true;
		prompt_marker(r->p, MARKER_CALL);
		prompt_string(r->p, "function");
		prompt_marker(r->p, MARKER_SEP);
		prompt_text(r->p, m->calls[i].name);
		prompt_string(r->p, "\n```json\n");
		prompt_text(r->p, m->calls[i].arguments);
		prompt_string(r->p, "\n```");
		prompt_marker(r->p, MARKER_CALL_END);
	}
	prompt_marker(r->p, MARKER_CALLS_END);
	prompt_marker(r->p, MARKER_EOS);
}

/* The tool outputs of V3, R1 and R1-0528; only R1 has no line between two. */
static void write_fenced_output(struct renderer *r, const struct message *m)
{
	if (r->is_output_first)
		prompt_marker(r->p, MARKER_OUTPUTS);
	else if (!is_r1(r))
		prompt_string(r->p, "\n");
	r->is_output_first = false;
	r->is_tool = true;
	write_output(r, m->content);
}

static void write_0324_assistant(struct renderer *r, const struct message *m)
{
	struct text content =
		r->id == TEMPLATE_R1_0528 ? strip_reasoning(m->content, true) : m->content;

	if (r->is_tool)
		prompt_marker(r->p, MARKER_OUTPUTS_END);
	r->is_tool = false;
	if (m->n_calls > 0) {
		r->is_first = false;
		r->is_output_first = true;
		write_fenced_calls(r, m, content);
	} else {
		prompt_text(r->p, content);
		prompt_marker(r->p, MARKER_EOS);
	}
}

/* V3-0324 and V3 (8.3); R1-0528 (8.4) */
static void render_0324(struct renderer *r)
{
	for (size_t i = 0; i < r->messages->n; i++) {
		const struct message *m = &r->messages->item[i];

		if (m->role == MESSAGE_SYSTEM)
			continue;
		r->is_last_user = m->role == MESSAGE_USER;
		if (m->role == MESSAGE_USER) {
			r->is_tool = false;
			prompt_marker(r->p, MARKER_USER);
			prompt_text(r->p, m->content);
			prompt_marker(r->p, MARKER_ASSISTANT);
		} else if (m->role == MESSAGE_ASSISTANT) {
			write_0324_assistant(r, m);
		} else {
			write_fenced_output(r, m);
		}
	}
	if (r->is_tool)
		prompt_marker(r->p, MARKER_OUTPUTS_END);
	else if (r->o->add_generation_prompt && !r->is_last_user)
		prompt_marker(r->p, MARKER_ASSISTANT);
}

static void write_r1_assistant(struct renderer *r, const struct message *m)
{
	if (m->n_calls > 0) {
		/*
		 * The official text never resets its flags: from the second round on it is
		 * malformed, and 0324's rules hold.
		 */
		if (r->is_first) {
			if (r->is_tool)
				prompt_marker(r->p, MARKER_OUTPUTS_END);
			r->is_first = false;
			r->is_output_first = true;
		}
		r->is_tool = false;
		write_fenced_calls(r, m, m->content);
		return;
	}
	prompt_marker(r->p, r->is_tool ? MARKER_OUTPUTS_END : MARKER_ASSISTANT);
	prompt_text(r->p, r->is_tool ? m->content : strip_reasoning(m->content, true));
	prompt_marker(r->p, MARKER_EOS);
	r->is_tool = false;
}

/* R1, both files (8.4) */
static void render_r1(struct renderer *r)
{
	for (size_t i = 0; i < r->messages->n; i++) {
		const struct message *m = &r->messages->item[i];

		if (m->role == MESSAGE_USER) {
			r->is_tool = false;
			prompt_marker(r->p, MARKER_USER);
			prompt_text(r->p, m->content);
		} else if (m->role == MESSAGE_ASSISTANT) {
			write_r1_assistant(r, m);
		} else if (m->role == MESSAGE_TOOL) {
			write_fenced_output(r, m);
		}
	}
	if (r->is_tool) {
		prompt_marker(r->p, MARKER_OUTPUTS_END);
	} else if (r->o->add_generation_prompt) {
		prompt_marker(r->p, MARKER_ASSISTANT);
		if (r->id == TEMPLATE_R1) {
			prompt_marker(r->p, MARKER_THINK);
			prompt_string(r->p, "\n");
			r->p->opens_reasoning = true;
		}
	}
}

static void write_v31_calls(struct renderer *r, const struct message *m)
{
	if (r->is_last_user || (r->id == TEMPLATE_V32 && r->is_only_sys)) {
		prompt_marker(r->p, MARKER_ASSISTANT);
		prompt_marker(r->p, MARKER_THINK_END);
	}
	r->is_tool = false;
	prompt_text(r->p, m->content);
	prompt_marker(r->p, MARKER_CALLS);
	for (size_t i = 0; i < m->n_calls; i++) {
		prompt_marker(r->p, MARKER_CALL);
		prompt_text(r->p, m->calls[i].name);
		prompt_marker(r->p, MARKER_SEP);
		prompt_text(r->p, m->calls[i].arguments);
		prompt_marker(r->p, MARKER_CALL_END);
	}
	prompt_marker(r->p, MARKER_CALLS_END);
	prompt_marker(r->p, MARKER_EOS);
}

static void write_v31_assistant(struct renderer *r, const struct message *m)
{
	if (r->is_last_user) {
		prompt_marker(r->p, MARKER_ASSISTANT);
		prompt_marker(r->p, m->prefix && r->o->thinking ? MARKER_THINK : MARKER_THINK_END);
	}
	r->is_prefix |= m->prefix;
	prompt_text(r->p, r->is_tool ? m->content : strip_reasoning(m->content, false));
	r->is_tool = false;
	prompt_marker(r->p, MARKER_EOS);
}

/*
 * Whether V3.1 (V3.2) prompts for a reply here; a series of outputs is never followed by a prompt.
 */
static bool v31_prompts(const struct renderer *r)
{
	if (!r->o->add_generation_prompt || r->is_tool)
		return false;
	return r->is_last_user || (r->id == TEMPLATE_V32 && (r->is_only_sys || !r->is_prefix));
}

/* V3.1 and V3.2-Exp (8.5) */
static void render_v31(struct renderer *r)
{
	for (size_t i = 0; i < r->messages->n; i++) {
		const struct message *m = &r->messages->item[i];

		if (m->role == MESSAGE_SYSTEM)
			continue;
		if (m->role == MESSAGE_USER) {
			r->is_tool = false;
			prompt_marker(r->p, MARKER_USER);
			prompt_text(r->p, m->content);
		} else if (m->role == MESSAGE_TOOL) {
			r->is_tool = true;
			write_output(r, m->content);
		} else if (m->n_calls > 0) {
			write_v31_calls(r, m);
		} else {
			write_v31_assistant(r, m);
		}
		r->is_last_user = m->role == MESSAGE_USER;
		r->is_only_sys = false;
	}
	if (v31_prompts(r)) {
		prompt_marker(r->p, MARKER_ASSISTANT);
		prompt_marker(r->p, r->o->thinking ? MARKER_THINK : MARKER_THINK_END);
		r->p->opens_reasoning = r->o->thinking;
	}
}

static int check_options(enum template_id id, const struct template_options *o, struct err *e)
{
	bool tools = o->tools && o->tools->n > 0;

	if (id <= TEMPLATE_NONE || id >= TEMPLATE_COUNT)
		return err_set(e, -EINVAL,
			       "there is no known chat template: name one with --template");
	if (o->thinking && !template_knows_thinking(id))
		return err_set(e, -EINVAL, "thinking: template %s has no such switch",
			       template_name(id));
	if (tools && !template_knows_thinking(id))
		return err_set(e, -EINVAL, "tools: template %s has no form for them",
			       template_name(id));
	if (tools && o->thinking)
		return err_set(e, -EINVAL, "tools: template %s takes them only without thinking",
			       template_name(id));
	return 0;
}

int template_render(enum template_id id, const struct messages *messages,
		    const struct template_options *options, struct prompt *p, struct err *e)
{
	struct renderer r = {
		.p = p, .messages = messages, .o = options, .id = id, .is_output_first = true};
	int rc = check_options(id, options, e);

	if (rc)
		return rc;
	p->text_len = p->n_segments = 0;
	p->opens_reasoning = p->in_run = false;
	write_system(&r);
	if (id == TEMPLATE_V31 || id == TEMPLATE_V32)
		render_v31(&r);
	else if (is_r1(&r))
		render_r1(&r);
	else
		render_0324(&r);
	return p->text_len > p->text_cap || p->n_segments > p->segment_cap ? -ENOSPC : 0;
}

/* ---- ids ---- */

ssize_t prompt_encode(const struct prompt *p, struct tokenizer *t, uint32_t *ids, size_t cap,
		      struct err *e)
{
	uint32_t id[MARKER_COUNT];
	size_t n = 0, run = 0; /* a run of text is [run, the next marker) */

	for (int m = 0; m < MARKER_COUNT; m++)
		id[m] = tokenizer_find_added(t, marker_text((enum marker)m),
					     strlen(marker_text((enum marker)m)));
	for (size_t i = 0; i <= p->n_segments; i++) {
		bool end = i == p->n_segments;
		const struct segment *s = &p->segment[i];
		size_t from = end ? p->text_len : s->off;
		ssize_t k;

		if (!end && id[s->marker] == TOKENIZER_NONE)
			continue;
		k = tokenizer_encode(t, p->text + run, from - run, ENCODE_PLAIN,
				     n < cap ? ids + n : NULL, n < cap ? cap - n : 0, e);
		if (k < 0)
			return k;
		n += (size_t)k;
		if (!end) {
			if (n < cap)
				ids[n] = id[s->marker];
			n++;
			run = s->off + s->len;
		}
	}
	return (ssize_t)n;
}
