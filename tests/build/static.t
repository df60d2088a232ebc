#!/bin/bash
#
# Every program that is shipped is one static file at no fixed address, whose relocated tables are read-only and of
# which nothing is both writable and executable.
n=0
failed=0

check() { # NAME COMMAND... : one TAP line
	local name=$1
	shift
	n=$((n + 1))
	if "$@"; then echo "ok $n - $name"; else
		failed=1
		echo "not ok $n - $name"
	fi
}

has() { grep -qE "$2" <<<"$1"; }
lacks() { ! has "$@"; }

# faults FILE : prints what is wrong with it, nothing if all is well.
faults() {
	local head segments dynamic
	head=$(readelf -hW "$1" 2>&1)
	segments=$(readelf -lW "$1" 2>&1)
	dynamic=$(readelf -dW "$1" 2>&1)
	has "$head" 'Type: +DYN' || echo "fixed address"
	has "$dynamic" 'FLAGS_1.*PIE' || echo "not a position-independent executable"
	lacks "$segments" 'INTERP' || echo "asks for a loader"
	lacks "$dynamic" '\(NEEDED\)' || echo "asks for a shared library"
	has "$segments" 'GNU_RELRO' || echo "relocated tables stay writable"
	has "$dynamic" 'BIND_NOW|FLAGS.*NOW' || echo "binds lazily"
	lacks "$dynamic" 'TEXTREL' || echo "relocates code"
	has "$segments" 'GNU_STACK +(0x[0-9a-f]+ +){5}RW +0x' || echo "executable stack"
	lacks "$segments" ' (RWE|[R ]WE) ' || echo "writable and executable segment"
}

# The checks see something: the machine's own shell is neither static nor ours.
check "a dynamic program would be noticed" has "$(faults /bin/bash)" "asks for a loader"
check "a file that is no program would be noticed" has "$(faults "$0")" "fixed address"

# The one that is not static, because libcuda needs the C library that it was built for: it has no other.
if [ -e build/bin/cuda ]; then
	found=$(faults build/bin/cuda)
	check "cuda asks for the loader and the C library, and is else as the others are" \
		test "$found" = "asks for a loader"$'\n'"asks for a shared library"
	check "no library but the C library" \
		test "$(readelf -dW build/bin/cuda | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')" = libc.so.6
fi

for program in build/bin/*; do
	[ "$program" != build/bin/cuda ] || continue
	if [ ! -e "$program" ]; then
		n=$((n + 1))
		echo "ok $n # SKIP no program is built yet"
		break
	fi
	found=$(faults "$program")
	check "${program##*/} is static, position-independent, read-only where it can be" test -z "$found"
	[ -z "$found" ] || echo "# ${found//$'\n'/, }"
	check "${program##*/} does not use iconv, whose known faults are not patched" \
		lacks "$(nm "build/debug/${program##*/}")" ' iconv(_open)?$'
done
echo "1..$n"
exit $failed
