/* The first failure is the one that is reported, whole and printable (runtime/err.h). */
#include "runtime/err.h"
#include "tests/tap.h"

#include <errno.h>
#include <string.h>

int main(void)
{
	struct err e = {0};
	char name[300], out[204];

	is_int(err_set(&e, -ENOENT, "index: cannot open"), -ENOENT, "the code is handed back");
	err_set(&e, -EIO, "something that followed from it");
	is_str(e.text, "index: cannot open", "a second failure does not hide the first");
	is_int(e.code, -ENOENT, "nor its code");
	is_int(err_set(NULL, -EIO, "nobody listens"), -EIO, "nobody need listen");
	e = (struct err){0};
	err_set(&e, -EIO, "tensor %s", "a\x1b[31m\nb\x7f\xc2\x9b\xe2\x80\xaez\xe2\x81\xa6");
	is_str(e.text, "tensor a\\x1b[31m\\x0ab\\x7f\\xc2\\x9b\\xe2\\x80\\xaez\\xe2\\x81\\xa6",
	       "control characters are escaped: C0, DEL, C1, line ends and what turns the "
	       "direction");
	e = (struct err){0};
	err_set(&e, -EIO, "%s", "\xff\xc0\xaf\xed\xa0\x80\xf8\x90\x80\x80\xe2\x82");
	is_str(e.text, "\\xff\\xc0\\xaf\\xed\\xa0\\x80\\xf8\\x90\\x80\\x80\\xe2\\x82",
	       "and so are bytes that are not UTF-8");
	e = (struct err){0};
	err_set(&e, -EIO, "%s", "w\xc3\xb6rter \xe6\x97\xa5 \xf0\x9f\x98\x80");
	is_str(e.text, "w\xc3\xb6rter \xe6\x97\xa5 \xf0\x9f\x98\x80", "text stays as it is");
	memset(name, 0xa5, sizeof(name));
	memcpy(name, "\xe6\x97", 2);
	is_int(strlen(err_name(out, name, 300)), 200, "nor is more than three bytes lost to it");
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = "\xe6\x97\xa5"[i % 3];
	is_int(strlen(err_name(out, name, 300)), 201, "a long name is cut between two characters");
	is_int(strlen(err_name(out, name, 201)), 201, "one byte too long is too long");
	is_int(strlen(err_name(out, name, 198)), 198, "a short one is not cut");
	return tap_done();
}
