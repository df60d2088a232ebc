/*
 * The pen of the templates: what template.c and tools.c write a prompt with. Not for use outside
 * model/text.
 */
#ifndef MODEL_TEXT_TEMPLATE_INTERNAL_H
#define MODEL_TEXT_TEMPLATE_INTERNAL_H

#include "model/text/template.h"

/* Appends a marker, or n bytes of text to the current run; counts on where p is full. */
void prompt_marker(struct prompt *p, enum marker m);
void prompt_bytes(struct prompt *p, const char *s, size_t n);
void prompt_string(struct prompt *p, const char *s);
void prompt_text(struct prompt *p, struct text t);

/* The block that V3.1's model card appends to the system text. */
void tools_write(struct prompt *p, const struct tools *tools);

#endif
