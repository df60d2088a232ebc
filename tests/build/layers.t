#!/bin/bash
#
# Dependencies point one way: servers -> model -> drivers -> ipc -> runtime (design 3), and model/ knows neither io_uring
# nor CUDA.
n=0
failed=0

# upward : reads "FILE:#include "PATH"" lines, prints those that include something from a layer above.
upward() {
	awk -F'[:"]' '
	function layer(path) {
		if (path ~ /^runtime\/[^\/]+$/) return 0
		if (path ~ /^ipc\//) return 1
		if (path ~ /^drivers\//) return 2
		if (path ~ /^model\//) return 3
		return path ~ /^(runtime|boot|images)\// ? 4 : -1
	}
	layer($3) > layer($1) { print $1 " includes " $3 }'
}

report() { # NAME FINDINGS
	n=$((n + 1))
	if [ -z "$2" ]; then echo "ok $n - $1"; else
		failed=1
		echo "not ok $n - $1"
		while IFS= read -r line; do echo "#   $line"; done <<<"$2"
	fi
}

n=$((n + 1))
if [ -n "$(upward <<<'runtime/x.c:#include "ipc/ring.h"')" ] &&
	[ -z "$(upward <<<'runtime/gateway/x.c:#include "model/x.h"')" ]; then
	echo "ok $n - an include that points upward would be noticed"
else
	failed=1
	echo "not ok $n - an include that points upward would be noticed"
fi
report "no folder includes a header of a layer above it" \
	"$(grep -rHE --include='*.[ch]' '^#include "' runtime ipc drivers model boot images 2>/dev/null | upward)"
report "model/ includes neither io_uring nor CUDA" \
	"$(grep -rHE --include='*.[ch]' '^#include .*(liburing|io_uring|cuda)' model 2>/dev/null)"
echo "1..$n"
exit $failed
