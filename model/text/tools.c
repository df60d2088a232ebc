/*
 * The tools block of V3.1's model card (specification 8.5): literal text round each tool's name,
 * description and parameters, the latter exactly as Python's json.dumps prints them, since that is
 * what the model was shown.
 */
#include "model/text/json.h"
#include "model/text/template_internal.h"
#include "model/text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_string(struct prompt *p, yyjson_val *v)
{
	const char *s = yyjson_get_str(v);
	size_t len = yyjson_get_len(v), i = 0;

	prompt_bytes(p, "\"", 1);
	while (i < len) {
		char quoted[JSON_QUOTED_MAX(4)];
		size_t k = utf8_sequence((const uint8_t *)s + i, len - i);
		size_t n = json_quote(quoted, s + i, k ? k : 1, true);

		prompt_bytes(p, quoted + 1, n - 2);
		i += k ? k : 1;
	}
	prompt_bytes(p, "\"", 1);
}

/*
 * Python's repr of a float: the fewest digits that read back as the same, an exponent outside 1e-4
 * .. 1e16.
 */
static void write_double(struct prompt *p, double d)
{
	char sci[40], digits[20] = "", out[48];
	size_t n = 0, k = 0;
	int exponent;

	if (isnan(d) || isinf(d)) {
		prompt_string(p, isnan(d) ? "NaN" : d < 0 ? "-Infinity" : "Infinity");
		return;
	}
	for (int precision = 0; precision < 17; precision++) {
		snprintf(sci, sizeof(sci), "%.*e", precision, d);
		if (strtod(sci, NULL) >= d && strtod(sci, NULL) <= d)
			break;
	}
	exponent = (int)strtol(strchr(sci, 'e') + 1, NULL, 10);
	for (const char *c = sci; *c != 'e'; c++)
		if (*c >= '0' && *c <= '9')
			digits[n++] = *c;
	if (sci[0] == '-')
		out[k++] = '-';
	if (exponent < -4 || exponent >= 16) {
		out[k++] = digits[0];
		if (n > 1)
			out[k++] = '.';
		memcpy(out + k, digits + 1, n - 1);
		k += n - 1;
		k += (size_t)snprintf(out + k, sizeof(out) - k, "e%c%02d", exponent < 0 ? '-' : '+',
				      abs(exponent));
	} else if (exponent < 0) {
		out[k++] = '0';
		out[k++] = '.';
		for (int i = -1; i > exponent; i--)
			out[k++] = '0';
		memcpy(out + k, digits, n);
		k += n;
	} else {
		for (int i = 0; i <= exponent; i++)
			out[k++] = (size_t)i < n ? digits[i] : '0';
		out[k++] = '.';
		if (n <= (size_t)exponent + 1)
			out[k++] = '0';
		for (size_t i = (size_t)exponent + 1; i < n; i++)
			out[k++] = digits[i];
	}
	prompt_bytes(p, out, k);
}

/*
 * Integers of any size are printed as written; raw numbers come from json_read with
 * JSON_RAW_NUMBERS.
 */
static void write_number(struct prompt *p, yyjson_val *v)
{
	const char *raw = yyjson_get_raw(v);
	size_t len = yyjson_get_len(v);
	char text[32];

	if (raw && (memchr(raw, '.', len) || memchr(raw, 'e', len) || memchr(raw, 'E', len))) {
		write_double(
			p, strtod(raw,
				  NULL)); /* what follows a number in JSON ends it for strtod too */
	} else if (raw) {
		bool negative_zero = len == 2 && memcmp(raw, "-0", 2) == 0; /* 0 to Python */

		prompt_bytes(p, raw + negative_zero, len - negative_zero);
	} else if (yyjson_is_real(v)) {
		write_double(p, yyjson_get_real(v));
	} else {
		snprintf(text, sizeof(text), yyjson_is_sint(v) ? "%lld" : "%llu",
			 (unsigned long long)yyjson_get_uint(v));
		prompt_string(p, text);
	}
}

/* json.dumps with its defaults: ", " and ": ", keys in order, ASCII. Depth is json_read's limit. */
static void write_value(struct prompt *p, yyjson_val *v)
{
	const char *separator = "";

	if (yyjson_is_str(v)) {
		write_string(p, v);
	} else if (yyjson_is_num(v) || yyjson_is_raw(v)) {
		write_number(p, v);
	} else if (yyjson_is_bool(v)) {
		prompt_string(p, yyjson_is_true(v) ? "true" : "false");
	} else if (yyjson_is_arr(v)) {
		yyjson_arr_iter it = yyjson_arr_iter_with(v);
		yyjson_val *item;

		prompt_string(p, "[");
		for (; (item = yyjson_arr_iter_next(&it)) != NULL; separator = ", ") {
			prompt_string(p, separator);
			write_value(p, item);
		}
		prompt_string(p, "]");
	} else if (yyjson_is_obj(v)) {
		yyjson_obj_iter it = yyjson_obj_iter_with(v);
		yyjson_val *key;

		prompt_string(p, "{");
		for (; (key = yyjson_obj_iter_next(&it)) != NULL; separator = ", ") {
			prompt_string(p, separator);
			write_string(p, key);
			prompt_string(p, ": ");
			write_value(p, yyjson_obj_iter_get_val(key));
		}
		prompt_string(p, "}");
	} else {
		prompt_string(p, "null");
	}
}

void tools_write(struct prompt *p, const struct tools *tools)
{
	prompt_string(p, "## Tools\nYou have access to the following tools:\n");
	for (size_t i = 0; i < tools->n; i++) {
		const struct tool *t = &tools->item[i];

		prompt_string(p, "\n### ");
		prompt_text(p, t->name);
		prompt_string(p, "\nDescription: ");
		prompt_text(p, t->description);
		prompt_string(p, "\n\nParameters: ");
		if (t->parameters)
			write_value(p, t->parameters);
		else
			prompt_string(p, "{}");
		prompt_string(p, "\n");
	}
	prompt_string(p, "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n");
	prompt_marker(p, MARKER_CALLS);
	prompt_marker(p, MARKER_CALL);
	prompt_string(p, "tool_call_name");
	prompt_marker(p, MARKER_SEP);
	prompt_string(p, "tool_call_arguments");
	prompt_marker(p, MARKER_CALL_END);
	prompt_string(p, "{additional_tool_calls}");
	prompt_marker(p, MARKER_CALLS_END);
	prompt_string(
		p, "\n\nWhere:\n"
		   "- `tool_call_name` must be an exact match to one of the available tools\n"
		   "- `tool_call_arguments` must be valid JSON that strictly follows the tool's "
		   "Parameters Schema\n"
		   "- For multiple tool calls, chain them directly without separators or spaces");
}
