#!/bin/bash
#
# The SPIN models of ipc/spin: each is free of errors as it stands, and finds one with any crucial line left out.
set -u
cd "$(dirname "$0")/../.." || exit 1
for tool in spin gcc; do
	command -v $tool >/dev/null || { echo "1..0 # SKIP no $tool here"; exit 0; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# want: 0 errors or some | what it means | model | the line left out
cat >"$dir/cases" <<'END'
0|bell: no wake-up is lost|bell|
some|bell: without the second look one is lost|bell|NO_LOOK
some|bell: without the fence one is lost|bell|NO_FENCE
some|bell: without the kernel's comparison one is lost|bell|NO_COMPARE
0|record: kills leave no half commit and lose none|record|
some|record: without the look at the version a reader sees half a commit|record|NO_RECHECK
some|record: without repeating the changes a commit is lost|record|NO_REPEAT
some|record: a successor that does not copy the committed record loses a commit|record|NO_ADOPT
some|record: edited in place a reader sees half a commit|record|IN_PLACE
0|ring: kills lose no message and repeat none|ring|
some|ring: with input and output committed one after the other a message is repeated|ring|TWO_COMMITS
some|ring: with the tail before the entry a message is not there|ring|TAIL_FIRST
some|ring: without the look for room a message is overwritten|ring|NO_ROOM
some|ring: taken before the work is committed a message is lost|ring|POP_FIRST
0|byte rings: a client gets its bytes, each once, whenever the gateway dies|bytes|
some|byte rings: with the tail before the bytes it gets others|bytes|TAIL_FIRST
some|byte rings: without the look for room it loses some|bytes|NO_ROOM
some|byte rings: with two commits it gets some twice|bytes|TWO_COMMITS
some|byte rings: with bytes sent that are not committed it gets some twice|bytes|UNCOMMITTED
some|byte rings: with a connection given away before the gateway has freed it|bytes|NO_FREE
some|byte rings: without dropping what its predecessor left|bytes|NO_DROP
0|death: nobody sleeps for ever, whenever the one who would wake them dies|death|
some|death: without a bell for all one sleeps for ever|death|NO_WAKE_ALL
some|death: with that bell before the process is reaped as well|death|WAKE_EARLY
some|death: an init that looks before it raises its flag sleeps for ever|death|LOOK_FIRST
some|death: and one that has no pidfd|death|NO_PIDFD
0|slots: what is computed with is the expert asked for, whatever lands late|slots|
some|slots: with the word written behind the read it is another|slots|WORD_LATE
some|slots: without waiting for the dead one's io_uring as well|slots|NO_WAIT
some|slots: ready before it has landed|slots|READY_EARLY
some|slots: with an io_uring called empty at its owner's death|slots|EMPTY_EARLY
some|slots: with a read that failed taken for one that landed|slots|TAKE_FAILED
END

# An exhaustive search; what it said is left in a folder of its own.
check() { # NUMBER WANT NAME MODEL DEFINE
	local n=$1 want=$2 name=$3 model=$PWD/ipc/spin/$4.pml define=${5:+-D$5} got
	mkdir "$dir/$n" && cd "$dir/$n" || return
	# shellcheck disable=SC2086 # no define, no argument
	spin -a $define "$model" >spin.log 2>&1 && gcc -O1 -w -DSAFETY -o pan pan.c >gcc.log 2>&1 && ./pan -m100000 >pan.log 2>&1
	got=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log 2>/dev/null | tail -n 1)
	if [ "$want" = "${got/#[1-9]*/some}" ]; then
		echo "ok $n - $name" >result
	else
		{ echo "not ok $n - $name (errors: ${got:-no result})"; sed 's/^/# /' ./*.log; } >result
	fi
}

n=0
while IFS='|' read -r want name model define; do
	n=$((n + 1))
	(check $n "$want" "$name" "$model" "$define") &
	[ $((n % 2)) = 1 ] || wait
done <"$dir/cases"
wait
for ((i = 1; i <= n; i++)); do
	cat "$dir/$i/result" || echo "not ok $i"
done
echo "1..$n"
