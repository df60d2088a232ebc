/* Settings; see settings.h. */
#include "model/store/settings.h"

#include "drivers/cpu/blake3.h"
#include "drivers/cpu/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char settings_names[] =
	"chunk, context, memory, mtp, name, parallel, slots, template, threads";

static bool known(const char *key, size_t len)
{
	const char *p = settings_names;

	while (len) {
		size_t n = strcspn(p, ",");

		if (n == len && !memcmp(p, key, n))
			return true;
		if (!p[n])
			return false;
		p += n + 2;
	}
	return false;
}

/* The line of a key, or NULL; *len with its newline. */
static char *find_line(struct pack_settings *s, const char *key, size_t *len)
{
	size_t n = strlen(key);

	for (char *line = s->text; *line; line += *len) {
		*len = strcspn(line, "\n") + 1;
		if (!line[*len - 1])
			(*len)--;
		if (!strncmp(line, key, n) && line[n] == '=')
			return line;
		if (!*len)
			break;
	}
	return NULL;
}

int settings_set(struct pack_settings *s, const char *key, const char *value, struct err *e)
{
	size_t len, used, more = strlen(key) + strlen(value) + 2;
	char *line;

	if (!known(key, strlen(key)))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"\"%.60s\" is no setting of a node. There "
				"are %s",
				key, settings_names);
	for (const char *p = value; *p; p++)
		if (*p < ' ' || *p > '~')
			return err_exit(e, STATUS_USAGE, -EINVAL,
					"%s: a value has printable characters only", key);
	s->text[sizeof(s->text) - 1] = '\0';
	line = find_line(s, key, &len);
	if (line) {
		size_t rest = strlen(line + len);

		memmove(line, line + len, rest + 1);
		memset(line + rest, 0, len);
	}
	if (!*value)
		return 0;
	used = strlen(s->text);
	if (used + more >= sizeof(s->text))
		return err_exit(e, STATUS_USAGE, -ENOSPC, "%s: no room for more settings", key);
	snprintf(s->text + used, sizeof(s->text) - used, "%s=%s\n", key, value);
	return 0;
}

static void sum_of(const struct pack_settings *s, uint8_t sum[PACK_HASH])
{
	blake3(cpu_isa_best(), s->text, sizeof(s->text), sum);
}

void settings_seal(struct pack_settings *s)
{
	sum_of(s, s->sum);
}

bool settings_ok(const struct pack_settings *s)
{
	static const struct pack_settings none;
	uint8_t sum[PACK_HASH];

	if (!memcmp(s, &none, sizeof(none)))
		return true;
	sum_of(s, sum);
	return !memcmp(sum, s->sum, sizeof(sum)) && !s->text[sizeof(s->text) - 1];
}

unsigned settings_arguments(const struct pack_settings *s, char **argv, char *text, size_t room)
{
	unsigned n = 0;
	size_t at = 0;

	for (const char *line = s->text; *line && n < SETTINGS_MAX;) {
		size_t len = strcspn(line, "\n"), key = strcspn(line, "=\n");

		if (line[key] == '=' && known(line, key) && room - at > len + 3) {
			argv[n++] = text + at;
			at += (size_t)snprintf(text + at, room - at, "--%.*s", (int)len, line) + 1;
		}
		line += len + (line[len] == '\n');
	}
	return n;
}
