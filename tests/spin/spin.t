#!/bin/bash
#
# The SPIN models of ipc/spin: each is free of errors as it stands, and finds one with any crucial line left out.
set -u
cd "$(dirname "$0")/../.." || exit 1
n=0
for tool in spin gcc; do
	command -v $tool >/dev/null || { echo "1..0 # SKIP no $tool here"; exit 0; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Prints the number of errors that an exhaustive search finds.
errors() { # MODEL [DEFINE...]
	local model=$PWD/$1
	shift
	(cd "$dir" && spin -a "${@/#/-D}" "$model" >spin.log 2>&1 && gcc -O2 -DSAFETY -o pan pan.c 2>gcc.log &&
		./pan -m100000 >pan.log 2>&1 && sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log | tail -n 1)
}

check() { # WANT NAME MODEL [DEFINE...]
	local want=$1 name=$2 got
	shift 2
	got=$(errors "$@")
	n=$((n + 1))
	if [ -n "$got" ] && { [ "$want" = "$got" ] || { [ "$want" = some ] && [ "$got" -gt 0 ]; }; }; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name (errors: ${got:-no result})"
		sed 's/^/# /' "$dir"/*.log
	fi
}

check 0 "bell: no wake-up is lost" ipc/spin/bell.pml
check some "bell: without the second look one is lost" ipc/spin/bell.pml NO_LOOK
check some "bell: without the fence one is lost" ipc/spin/bell.pml NO_FENCE
check some "bell: without the kernel's comparison one is lost" ipc/spin/bell.pml NO_COMPARE
check 0 "record: kills leave no half commit and lose none" ipc/spin/record.pml
check some "record: without the look at the version a reader sees half a commit" ipc/spin/record.pml NO_RECHECK
check some "record: without repeating the changes a commit is lost" ipc/spin/record.pml NO_REPEAT
check some "record: a successor that does not copy the committed record loses a commit" ipc/spin/record.pml NO_ADOPT
check some "record: edited in place a reader sees half a commit" ipc/spin/record.pml IN_PLACE
echo "1..$n"
