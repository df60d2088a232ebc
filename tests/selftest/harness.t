#!/bin/bash
#
# The harness notices what it exists to notice: each program here is wrong in one way, and must not get through.
n=0
failed=0

# expect pass|fail PROGRAM WORDS NAME : runs it as `./build.sh test` would; its report must contain WORDS.
expect() {
	local got=pass report seconds=3
	# a busy machine needs its time for the others
	[[ $2 == *hangs ]] || seconds=60
	report=$(prove --exec "tests/limit $seconds" "$2" 2>&1) || got=fail
	n=$((n + 1))
	if [ $got = "$1" ] && [[ $report == *$3* ]]; then
		echo "ok $n - $4"
	else
		failed=1
		echo "not ok $n - $4"
		echo "# $2: $got, wanted $1 with \"$3\""
		while IFS= read -r line; do echo "# $line"; done <<<"$report"
	fi
}

expect pass build/test/passes "Result: PASS" "a test that passes gets through"
expect pass build/test-asan/passes "Result: PASS" "also when sanitized"
expect pass build/test-tsan/races_not "Result: PASS" "threads that lock get through"
expect fail build/test/fails "Failed test:  2" "a failed check is noticed"
expect fail build/test/nan "Failed test:  1" "so is a NaN"
expect fail build/test/silent "No plan found" "a test that checks nothing fails"
expect fail build/test/stops "No plan found" "so does one that stops in the middle"
expect fail build/test/crashes "exited 134" "a crash after the last check is noticed"
expect fail build/test/hangs "still running after 3 s" "a test that hangs is stopped and named" 
expect fail build/test-asan/leaks "LeakSanitizer" "a leak is noticed"
expect fail build/test-asan/overflows "signed integer overflow" "undefined behaviour is noticed"
expect fail build/test-tsan/races "data race" "a data race is noticed"
expect fail build/test/no_such_test "" "a test that is missing fails"
echo "1..$n"
exit $failed
