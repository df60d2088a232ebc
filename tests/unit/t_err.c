/* The first failure is the one that is reported, whole and printable (runtime/err.h). */
#include "runtime/err.h"
#include "tests/tap.h"

#include <errno.h>

int main(void)
{
	struct err e = {0};

	is_int(err_set(&e, -ENOENT, "index: cannot open"), -ENOENT, "the code is handed back");
	err_set(&e, -EIO, "something that followed from it");
	is_str(e.text, "index: cannot open", "a second failure does not hide the first");
	is_int(e.code, -ENOENT, "nor its code");
	is_int(err_set(NULL, -EIO, "nobody listens"), -EIO, "nobody need listen");
	return tap_done();
}
