#!/bin/bash
# time limit: 900 s
#
# Two builds in two folders are the same bytes: the sources are copied to a folder of another name and length, and built there
# (third-party libraries are taken over as built). Every program is compared, and where `./build.sh image` can work here, the
# disk of the demo model: kernel, initramfs and all.
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

skip() { # NAME WHY
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

folder=$(mktemp -d -t penstock.another-folder.XXXXXX)
trap 'rm -rf "$folder"' EXIT
copy=$folder/and-a-longer-name/penstock
mkdir -p "$copy/build" "$copy/images"
cp -r build.sh .clang-format boot drivers ipc model runtime "$copy/"
cp images/*.[ch] "$copy/images/"
cp -a build/deps build/deps-host "$copy/build/"
[ ! -d build/downloads ] || ln -s "$PWD/build/downloads" "$copy/build/downloads"

export CCACHE_DISABLE=1 # what another folder has compiled would prove nothing
# shellcheck disable=SC2317 # check calls it
build_copy() {
	(cd "$copy" && ./build.sh build) >"$folder/log" 2>&1 || ! tail -n 20 "$folder/log" >&2
}
check "a copy of the sources builds elsewhere" build_copy
for program in build/bin/*; do
	check "${program##*/} has the same bytes there" cmp "$program" "$copy/$program"
done

disk="the bootable disk has the same bytes there"
if [ ! -e build/node/node.efi ] || ! compgen -G 'images/demo/*.safetensors' >/dev/null; then
	skip "$disk" "./build.sh image has made no node here, or the demo model has no weights"
elif ! cmp -s build/bin/init build/node/root/init; then
	skip "$disk" "build/node is older than the programs"
else
	build/bin/penstock image images/demo "$folder/here" --node build/node/node.efi >"$folder/log" 2>&1
	(cd "$copy" && ./build.sh image "$OLDPWD/images/demo" "$folder/there") >>"$folder/log" 2>&1
	check "$disk" cmp "$folder/here" "$folder/there"
	echo "# SHA-256 $(sha256sum <"$folder/here" | cut -d' ' -f1)"
fi
echo "1..$n"
exit $failed
