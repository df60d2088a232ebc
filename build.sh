#!/bin/bash
#
# The only build entry: `./build.sh help` lists its commands. Everything it makes lies under build/.
#
# It installs what is missing (Debian 12, as root; else it says what to install), fetches the third-party sources at
# pinned versions through apt and pip, builds them with musl, writes build/build.ninja from the files it finds, and
# runs ninja. There is no list of files to keep: a folder is a library, a file with `main` is a program or a test,
# and a program is linked with the folders whose headers it includes (and those that they include).
# shellcheck disable=SC2016,SC2046 # quoted dollars are ninja's and apt's; no path of ours has a space
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD

# ---------------------------------------------------------------------------------------------------------------
# Tables: what is built

roots=(runtime ipc drivers model boot images tests) # where C files are looked for

# Programs are named after their folder, except these.
declare -A program_name=([boot]=init [runtime/cli]=penstock [runtime/cuda_cpu]=cuda-cpu)

# Third-party sources: where they come from, package, version, file, SHA-256. Debian's patches to musl are not
# applied, as the file that holds them comes and goes on mirrors: they repair iconv, which no program uses
# (tests/build/static.t), and qsort for arrays of more than 10^12 elements (CVE-2026-40200 with 64-bit words).
# PCRE2 is the one whose Unicode tables (16) are those of the tokenizers library: with older ones newer characters,
# emoji of 2022 among them, get other ids (tests/golden/text/late_lines.jsonl).
sources=(
	"trixie musl 1.2.5 musl_1.2.5.orig.tar.gz a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4"
	"trixie liburing 2.9 liburing_2.9.orig.tar.gz 57e9b36e4ac1e46b8e0351dfb1694dc59638fc25e384b4ba36d87b800b16db1a"
	"trixie pcre2 10.46 pcre2_10.46.orig.tar.gz 8d28d7f2c3b970c3a4bf3776bcbb5adfc923183ce74bc8df1ebaad8c1985bd07"
	"trixie yyjson 0.10.0+ds yyjson_0.10.0+ds.orig.tar.xz ae6fde69a193e10afab426ef13f113d6903446405f9db9ee98bfb572bd6c961a"
	"pypi llhttp 9.3.0.0 llhttp-9.3.0.0.tar.gz 0d989363e7fb6f270b9d49956e7a3945c26778f8c70a166815264309ac6a8295"
)

# The CUDA compiler and a disassembler, for `./build.sh cuda` alone: 106 MB, where the machine has no nvcc of this version.
# NVIDIA's licence lets anybody use them; none of it is in what is built.
cuda_version=13.0
cuda_wheels=(
	"nvidia-cuda-nvcc 13.0.88 56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03"
	"nvidia-cuda-crt 13.0.88 2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4"
	"nvidia-nvvm 13.0.88 c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0"
	"nvidia-cuda-runtime 13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"
	"nvidia-cuda-nvdisasm 13.2.51 5a7acf77c55d6d2911ed6155d4d5bc156ffadf9df7a68a89b0c1155f4b13688c"
)
cuda_archs="80 89 90 100 120"
# No contraction but the written ones, subnormals are zero, division and root are the correctly rounded ones.
cuda_flags="-std=c++17 -O3 --fmad=false -ftz=true -prec-div=true -prec-sqrt=true -Werror all-warnings \
-Xptxas -warn-spills -Xptxas -Werror -I."

warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
-Wformat=2 -Wcast-align -Wwrite-strings -Wdouble-promotion -Wimplicit-fallthrough"
language="-std=c17 -D_GNU_SOURCE -fno-common -ffp-contract=off -march=x86-64-v2 -I."
avx2="-mavx2 -mfma -mf16c"
avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
avx512bf16="$avx512 -mavx512bf16 -mavx512vbmi -mavx512vnni"

# ---------------------------------------------------------------------------------------------------------------
# Talking to the user, and finding or installing the tools

say() { printf 'build.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND=PACKAGE... : installs the packages whose command (or file, with a leading /) is missing.
need() {
	local pair missing=()
	for pair; do
		case $pair in
		/*) [ -e "${pair%%=*}" ] ;;
		*) command -v "${pair%%=*}" >/dev/null ;;
		esac || missing+=("${pair#*=}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}"
	command -v apt-get >/dev/null || die "missing: ${missing[*]}, and there is no apt-get to install them"
	say "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	local install=(apt-get install -q -y --no-install-recommends "${missing[@]}")
	"${install[@]}" >"$root/build/apt.log" 2>&1 ||
		{ apt-get update -q >"$root/build/apt.log" 2>&1 && "${install[@]}" >>"$root/build/apt.log" 2>&1; } ||
		{ tail -n 20 "$root/build/apt.log" >&2; die "apt-get could not install ${missing[*]} (build/apt.log)"; }
}

need_compiler() { need gcc=gcc /usr/include/stdio.h=libc6-dev ninja=ninja-build; }
need_clang() { need clang=clang "/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.asan-x86_64.a=libclang-rt-14-dev"; }

# ---------------------------------------------------------------------------------------------------------------
# Third-party sources

# A private apt with a source list of its own, on the mirror that the system's own list names.
apt_private() {
	local dir=$root/build/downloads/apt uri
	if [ ! -e "$dir/ready" ]; then
		uri=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
			awk '$2 == "bookworm" { print $1; exit }')
		[ -n "$uri" ] || die "no Debian 12 (bookworm) mirror in the system's apt list: add one to /etc/apt"
		rm -rf "$dir"
		mkdir -p "$dir"/{state/lists,cache/archives}/partial
		cat >"$dir/conf" <<-EOF
			Dir::State "$dir/state"; Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "$dir/cache";
			Dir::Etc::SourceList "$dir/list"; Dir::Etc::SourceParts "-";
			APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";
		EOF
		echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri trixie main" >"$dir/list"
		APT_CONFIG=$dir/conf apt-get update -q >&2
		touch "$dir/ready"
	fi
	APT_CONFIG=$dir/conf "$@"
}

# fetch ORIGIN NAME VERSION FILE SHA256 : into build/downloads, checked.
fetch() {
	local origin=$1 name=$2 version=$3 file=$4 sum=$5 full
	cd build/downloads
	if [ ! -e "$file" ]; then
		say "fetching $file"
		if [ "$origin" = pypi ]; then
			need pip3=python3-pip
			echo "$name==$version --hash=sha256:$sum" >"$name.txt"
			pip3 download -q --require-hashes --no-deps --no-binary "$name" -r "$name.txt"
		else
			need dpkg-source=dpkg-dev
			# The distribution's own revision may move on; the sum below holds the contents.
			full=$(apt_private apt-cache showsrc "$name" |
				awk -v v="$version-" '$1 == "Version:" && index($2, v) == 1 { print $2; exit }')
			[ -n "$full" ] || die "$origin has no $name $version any more"
			apt_private apt-get source -q --download-only --tar-only "$name=$full" >apt-source.log 2>&1 ||
				{ cat apt-source.log >&2; die "cannot fetch $name $full"; }
		fi
	fi
	sha256sum --quiet -c <<<"$sum  $file" ||
		die "build/downloads/$file is not the file this build was written for. Delete it and try again"
	cd "$root"
}

fetch_all() {
	local line
	mkdir -p build/downloads
	for line in "${sources[@]}"; do
		# shellcheck disable=SC2086 # five words
		fetch $line
	done
}

# unpack NAME : its source, fresh, in build/src/NAME.
unpack() {
	local line
	rm -rf "build/src/$1"
	mkdir -p "build/src/$1"
	for line in "${sources[@]}"; do
		# shellcheck disable=SC2086
		set -- "$1" $line
		[ "$1" != "$3" ] || tar -xf "build/downloads/$5" -C "build/src/$1" --strip-components=1
	done
}

# ---------------------------------------------------------------------------------------------------------------
# Third-party libraries, twice: with musl for what is shipped, with the host's C library for the sanitizers

jobs=$(nproc)
gcc_include=$(gcc -print-file-name=include 2>/dev/null || true)

# The flags that make a compiler see musl and the kernel, and nothing of the host.
musl_cflags() {
	echo "-nostdinc -isystem build/deps/musl/include -isystem $gcc_include -isystem build/deps/include \
-isystem build/deps/kernel -O2 -fPIE -fstack-protector-strong -fvisibility=hidden -ffunction-sections \
-fdata-sections -ffile-prefix-map=$root=."
}

# library DEPS NAME "FLAGS" FILE... : compiles FILEs into DEPS/lib/libNAME.a.
library() {
	local deps=$1 name=$2 flags=$3 objects
	shift 3
	objects=$deps/obj/$name
	rm -rf "$objects"
	mkdir -p "$objects" "$deps/lib"
	printf '%s\n' "$@" | xargs -P "$jobs" -I{} sh -c \
		"gcc $flags -w -c {} -o $objects/\$(basename {} .c).o"
	rm -f "$deps/lib/lib$name.a"
	ar rcsD "$deps/lib/lib$name.a" "$objects"/*.o
}

# libraries DEPS "CFLAGS" : the four libraries, and their headers in DEPS/include.
libraries() {
	local deps=$1 cflags=$2 s=build/src
	mkdir -p "$deps/include/liburing"
	cp $s/liburing/src/include/liburing.h "$deps/include/"
	cp $s/liburing/src/include/liburing/*.h "$deps/include/liburing/"
	# What its configure would write.
	printf '%s\n' '#include <linux/openat2.h>' '#include <linux/time_types.h>' \
		'#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1' \
		'#include <linux/ioctl.h>' '#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)' >"$deps/include/liburing/compat.h"
	printf '#define IO_URING_VERSION_MAJOR 2\n#define IO_URING_VERSION_MINOR 9\n' \
		>"$deps/include/liburing/io_uring_version.h"
	library "$deps" uring "$cflags -D_GNU_SOURCE -DLIBURING_INTERNAL -I$deps/include -I$s/liburing/src/include" \
		$s/liburing/src/{setup,queue,register,syscall,version}.c

	cp $s/pcre2/src/pcre2.h.generic "$deps/include/pcre2.h"
	cp $s/pcre2/src/pcre2.h.generic $s/pcre2/src/pcre2.h
	cp $s/pcre2/src/config.h.generic $s/pcre2/src/config.h
	cp $s/pcre2/src/pcre2_chartables.c.dist $s/pcre2/src/pcre2_chartables.c
	library "$deps" pcre2-8 "$cflags -DHAVE_CONFIG_H -DPCRE2_CODE_UNIT_WIDTH=8 -DSUPPORT_PCRE2_8 \
-DSUPPORT_UNICODE -DPCRE2_STATIC -I$s/pcre2/src" \
		$s/pcre2/src/pcre2_{auto_possess,chartables,chkdint,compile,compile_class,config,context,convert}.c \
		$s/pcre2/src/pcre2_{dfa_match,error,extuni,find_bracket,jit_compile,maketables,match,match_data,newline}.c \
		$s/pcre2/src/pcre2_{ord2utf,pattern_info,script_run,serialize,string_utils,study}.c \
		$s/pcre2/src/pcre2_{substitute,substring,tables,ucd,valid_utf,xclass}.c

	cp $s/yyjson/src/yyjson.h "$deps/include/"
	library "$deps" yyjson "$cflags" $s/yyjson/src/yyjson.c

	cp $s/llhttp/lib/llhttp.h "$deps/include/"
	library "$deps" llhttp "$cflags -I$s/llhttp/lib" $s/llhttp/lib/{api,http,llhttp}.c
}

# The C library and the kernel's headers, in a folder of their own.
build_musl() {
	local deps=$root/build/deps
	mkdir -p build/deps/kernel
	cp -a /usr/include/linux /usr/include/asm-generic build/deps/kernel/
	cp -aL /usr/include/x86_64-linux-gnu/asm build/deps/kernel/
	(
		cd build/src/musl
		CC=gcc AR=ar RANLIB=ranlib CFLAGS="-O2 -fPIE -g0 -ffile-prefix-map=$PWD=musl" ./configure \
			--prefix="$deps/musl" --disable-shared --disable-wrapper
		make -j"$jobs" install
	) >build/musl.log 2>&1 || { tail -n 20 build/musl.log >&2; die "musl: build failed (build/musl.log)"; }
}

# Third-party libraries change with this file's recipe and the compiler, and with nothing else.
deps_stamp() {
	{ gcc -dumpfullversion; printf '%s\n' "${sources[@]}"; declare -f library libraries build_musl musl_cflags; } |
		sed "s|$root||g" | sha256sum | cut -d' ' -f1
}

# build_deps : build/deps and build/deps-host, from a sibling worktree if it has the same, else from source.
build_deps() {
	local stamp tree name
	stamp=$(deps_stamp)
	[ "$(cat build/deps-host/stamp 2>/dev/null)" != "$stamp" ] ||
		[ "$(cat build/deps/stamp 2>/dev/null)" != "$stamp" ] || return 0
	while read -r tree; do
		[ "$(cat "$tree/build/deps-host/stamp" 2>/dev/null)" = "$stamp" ] || continue
		say "taking the third-party libraries of $tree"
		rm -rf build/deps build/deps-host
		cp -a "$tree/build/deps" "$tree/build/deps-host" build/
		return 0
	done < <(git worktree list --porcelain 2>/dev/null | sed -n 's/^worktree //p' | grep -vx "$root")
	need make=make xz=xz-utils
	fetch_all
	say "building musl and the libraries (a minute)"
	rm -rf build/deps build/deps-host
	for name in musl liburing pcre2 yyjson llhttp; do
		unpack $name
	done
	build_musl
	libraries build/deps "$(musl_cflags)"
	libraries build/deps-host "-O2 -g1 -ffile-prefix-map=$root=."
	rm -rf build/src build/deps/obj build/deps-host/obj
	echo "$stamp" >build/deps/stamp
	echo "$stamp" >build/deps-host/stamp
}

# ---------------------------------------------------------------------------------------------------------------
# build.ninja

# Files with a `main` (or a fuzz target's entry) among those given.
files_with_main() { grep -lE '^int (main|LLVMFuzzerTestOneInput)\(' -- "$@" || true; }

# unit_needs : prints "UNIT FOLDER..." for every library folder and every file with main: the folders to link, from
# the headers that they include, directly or not. A unit is a folder, or a file with main.
unit_needs() {
	grep -HoE '^#include "[^"]+/' $(find "${roots[@]}" -name '*.[ch]' 2>/dev/null) /dev/null |
		awk -F: -v mains="$*" '
		BEGIN { n = split(mains, m, " "); for (i = 1; i <= n; i++) unit[m[i]] = 1 }
		{
			u = $1
			if (!(u in unit)) sub("/[^/]*$", "", u)
			f = $2; sub("^#include \"", "", f); sub("/$", "", f)
			if (!((u, f) in seen)) { seen[u, f] = 1; edge[u] = edge[u] " " f }
			all[u] = all[f] = 1
		}
		function walk(u, i, n, v) {
			n = split(edge[u], v, " ")
			for (i = 1; i <= n; i++) if (!(v[i] in reached)) { reached[v[i]] = 1; walk(v[i]) }
		}
		END {
			for (u in all) {
				split("", reached); walk(u); line = u
				for (f in reached) line = line " " f
				print line
			}
		}'
}

# cpu_flags FILE : a file's suffix says which instructions it may use.
cpu_flags() {
	case $1 in
	*_avx2.c) echo "$avx2" ;;
	*_avx512bf16.c) echo "$avx512bf16" ;;
	*_avx512.c) echo "$avx512" ;;
	tests/cuda/*.c) echo "$avx2" ;;  # the same: a GPU has FMA
	drivers/cpu/isa.c) ;;              # decides whether the rest may run
	drivers/cpu/*.c) echo "$avx2" ;;   # FMA: the scalar definition would call the C library without it
	esac
}

# checks_off FLAVOUR FILE : unrolled kernels take clang ten minutes with every check, and parse nothing; their tests have gcc's.
checks_off() {
	case $1/$2 in
	fuzz/drivers/cpu/*_avx*.c) echo "-fno-sanitize=all" ;;
	esac
}

# write_rules : the rules of every flavour. A flavour has a compiler, flags and a way to link. gcc warns that
# the thread sanitizer does not follow fences: in the tests built with it they order sleeping and waking, never data.
write_rules() {
	local flavour crt="build/deps/musl/lib"
	cat <<-EOF
		ninja_required_version = 1.10
		builddir = build
		common = $language $warnings
		host = -O1 -g -fno-omit-frame-pointer -isystem build/deps-host/include
		cc_musl = gcc $(musl_cflags) -g
		cc_glibc = gcc -O2 -g -fPIC -fstack-protector-strong -ffunction-sections -fdata-sections \$
		    -ffile-prefix-map=$root=. -isystem build/deps-host/include
		cc_asan = gcc \$host -fsanitize=address,undefined -fno-sanitize-recover=all
		cc_tsan = gcc \$host -fsanitize=thread -Wno-tsan
		cc_fuzz = clang \$host -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
		rule link_musl
		  command = gcc -nostdlib -nostartfiles -static-pie \$
		    -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,-z,text,--gc-sections,--build-id=none \$
		    $crt/rcrt1.o $crt/crti.o $(gcc -print-file-name=crtbeginS.o) \$wrap \$in -Lbuild/deps/lib \$
		    -L$crt -Wl,--start-group \$libs -luring -lpcre2-8 -lyyjson -lllhttp -lc \$
		    $(gcc -print-libgcc-file-name) -Wl,--end-group $(gcc -print-file-name=crtendS.o) $crt/crtn.o -o \$out
		  description = link \$out
		rule link_glibc
		  command = gcc -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,-z,text,--gc-sections,--build-id=none \$
		    -Wl,--as-needed \$in -Wl,--start-group \$libs -Lbuild/deps-host/lib -luring -lyyjson -lpcre2-8 -lllhttp \$
		    -Wl,--end-group -o \$out
		  description = link \$out
		rule link_shared
		  command = gcc -shared -Wl,-z,relro,-z,now,-z,noexecstack \$in -o \$out
		  description = link \$out
		rule embed
		  command = gcc -c \$in -o \$out
		  description = embed \$out
		rule strip
		  command = strip -o \$out \$in
		  description = strip \$out
		rule archive
		  command = rm -f \$out && ar rcsD \$out \$in
		  description = archive \$out
	EOF
	for flavour in musl glibc asan tsan fuzz; do
		printf 'rule cc_%s\n  command = $cc_%s $common $flags -MMD -MF $out.d -c $in -o $out\n' $flavour $flavour
		printf '  depfile = $out.d\n  deps = gcc\n  description = cc $out\n'
	done
	for flavour in asan tsan fuzz; do
		printf 'rule link_%s\n  command = $cc_%s %s $in -Wl,--start-group $libs -Wl,--end-group ' $flavour $flavour \
			"$([ $flavour != fuzz ] || echo -fsanitize=fuzzer)"
		printf -- '-Lbuild/deps-host/lib -luring -lpcre2-8 -lyyjson -lllhttp -lm -lpthread -o $out\n'
		printf '  description = link $out\n'
	done
}

# write_lint : one check per file and tool, so that only what changed is checked again.
write_lint() {
	local file all="" analyze="-fanalyzer -Wno-analyzer-use-of-uninitialized-value -Wno-analyzer-malloc-leak"
	# gcc 12's analyzer forgets what a loop has written to an array and calls it uninitialised, and what a
	# structure owns and calls it leaked (LeakSanitizer watches every test for that). Tests are not analysed:
	# for want of memory they may crash.
	# cppcheck 2.10 takes 0x1p31 for a small number, and so finds comparisons that cannot be true.
	cat <<-EOF
		rule lint_gcc
		  command = \$cc_musl \$common \$flags -Werror \$analyze -MMD -MT \$out -MF \$out.d -c \$in -o /dev/null && touch \$out
		  depfile = \$out.d
		  deps = gcc
		rule lint_clang
		  command = clang \$host \$common \$flags -Werror -fsyntax-only -MMD -MT \$out -MF \$out.d \$in && touch \$out
		  depfile = \$out.d
		  deps = gcc
		rule lint_format
		  command = clang-format \$in | cmp -s - \$in || { echo "\$in: './build.sh lint --fix' formats it"; exit 1; }; \$
		    ! expand -t 8 \$in | grep -nE '.{101}' || { echo "\$in: lines of more than 100 columns"; exit 1; }; touch \$out
		  description = format \$in
		rule lint_cppcheck
		  command = cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability --std=c11 -I. \$
		    -D__x86_64__ -D__LP64__ --suppress=incorrectLogicOperator \$in && touch \$out
		rule lint_shell
		  command = shellcheck \$in && touch \$out
	EOF
	for file; do
		all+=" build/lint/$file.gcc build/lint/$file.clang build/lint/$file.cppcheck"
		printf 'build build/lint/%s.gcc: lint_gcc %s | build/deps/stamp\n  flags = %s\n  analyze = %s\n' \
			"$file" "$file" "$(cpu_flags "$file")" "$([[ $file == tests/* ]] || echo "$analyze")"
		printf 'build build/lint/%s.clang: lint_clang %s | build/deps/stamp\n  flags = %s\n' \
			"$file" "$file" "$(cpu_flags "$file")"
		printf 'build build/lint/%s.cppcheck: lint_cppcheck %s\n' "$file" "$file"
	done
	for file in "$@" $(find "${roots[@]}" -name '*.h' 2>/dev/null); do
		all+=" build/lint/$file.format"
		printf 'build build/lint/%s.format: lint_format %s | .clang-format\n' "$file" "$file"
	done
	for file in $(shell_scripts); do
		all+=" build/lint/$file.shell"
		printf 'build build/lint/%s.shell: lint_shell %s\n' "$file" "$file"
	done
	printf 'build lint: phony%s\n' "$all"
}

# shell_scripts : every script of ours that shellcheck understands.
shell_scripts() {
	echo build.sh
	grep -lE '^#!/bin/(ba)?sh' -- $(find .ci "${roots[@]}" -type f ! -name '*.[ch]' 2>/dev/null) /dev/null || true
}

# cuda_stamp : names the kernels' sources, among them the layout of what a launch is given.
cuda_stamp() { cat ipc/command.h drivers/cuda/*.cu drivers/cuda/*.cuh drivers/cuda/run.h | sha256sum; }

# write_cubins : the object that holds what `./build.sh cuda` has compiled, a table that may be empty.
write_cubins() {
	local arch archs="" file made=""
	[ "$(cat build/cuda/stamp 2>/dev/null)" != "$(cuda_stamp)" ] || archs=$cuda_archs # others' would misread a launch
	mkdir -p build/cuda
	{
		printf '.section .data.rel.ro,"aw"\n.globl cuda_cubins\n.balign 8\ncuda_cubins:\n'
		for arch in $archs; do
			printf '.long %s, 0\n.quad cubin_%s\n' "$arch" "$arch"
		done
		printf '.quad 0, 0\n.section .rodata\n'
		for arch in $archs; do
			file=build/cuda/kernels.sm_$arch.cubin
			made+=" $file"
			printf '.balign 64\ncubin_%s: .incbin "%s"\n' "$arch" "$file"
		done
		printf '.section .note.GNU-stack,"",@progbits\n'
	} >build/cuda/cubins.S.new
	cmp -s build/cuda/cubins.S.new build/cuda/cubins.S || cp build/cuda/cubins.S.new build/cuda/cubins.S
	printf 'build build/cuda/cubins.o: embed build/cuda/cubins.S |%s\n' "$made"
}

# write_link FLAVOUR OUT MAIN : links one file with main.
write_link() {
	local flavour=$1 out=$2 main=$3 folder libs=""
	[ -z "${linked[$out]-}" ] || die "both $main and ${linked[$out]} would become $out: rename one, or drop its main"
	linked[$out]=$main
	for folder in ${needs[$main]-} "${main%/*}" ${needs[${main%/*}]-}; do
		[ -z "${archive[$folder]-}" ] || libs+=" build/$flavour/$folder.a"
	done
	printf 'build %s: link_%s build/%s/%s.o%s |%s build/deps/stamp\n  libs =%s\n' \
		"$out" "$flavour" "$flavour" "$main" "${more_objects[$main]-}" "$libs" "$libs"
	local wrapped
	wrapped=$(head -n 20 "$main" | sed -n 's/^\/\* wraps: \(.*\) \*\/$/\1/p')
	# shellcheck disable=SC2086 # words
	[ -z "$wrapped" ] || printf '  wrap =%s\n' "$(printf ' -Wl,--wrap=%s' $wrapped)"
}

# test_targets FILE : the flavours in which a test is built. A threaded one says so by a line with a comment of the one
# word tsan; one that the address sanitizer cannot run by a comment that begins with "no asan" and goes on to say why; one
# that loads a shared library, as only the host's C library can, by one that begins with "glibc".
test_targets() {
	local name=${1##*/} head
	head=$(head -n 20 "$1")
	if [[ $head == *'/* glibc'* ]]; then
		echo "build/test-glibc/${name%.c}"
		return
	fi
	echo "build/test/${name%.c}"
	[[ $head == *'/* no asan'* ]] || echo "build/test-asan/${name%.c}"
	[[ $head != *'/* tsan */'* ]] || echo "build/test-tsan/${name%.c}"
}

# write_ninja : all of build.ninja.
write_ninja() {
	local files mains file folder flavour name target unit rest bins="" tests="" fuzz=""
	declare -A is_main=() archive=() needs=() linked=() more_objects
	more_objects=([runtime/cuda/main.c]=" build/cuda/cubins.o" [tests/cuda/t_kernels_cuda.c]=" build/cuda/cubins.o")
	mapfile -t files < <(find "${roots[@]}" -name '*.c' 2>/dev/null | LC_ALL=C sort)
	mapfile -t mains < <(files_with_main "${files[@]}")
	for file in "${mains[@]}"; do
		is_main[$file]=1
	done
	while read -r unit rest; do
		needs[$unit]=$rest
	done < <(unit_needs "${mains[@]}")
	for file in "${files[@]}"; do
		folder=${file%/*}
		[ -n "${is_main[$file]-}" ] || archive[$folder]+=" $file.o"
	done

	write_rules
	for flavour in musl glibc asan tsan fuzz; do
		for file in "${files[@]}"; do
			printf 'build build/%s/%s.o: cc_%s %s | build/deps/stamp\n  flags = %s\n' \
				$flavour "$file" $flavour "$file" "$(cpu_flags "$file") $(checks_off $flavour "$file")"
		done
		for folder in "${!archive[@]}"; do
			printf 'build build/%s/%s.a: archive%s\n' $flavour "$folder" \
				"${archive[$folder]// / build/$flavour/}"
		done
	done
	for file in "${mains[@]}"; do
		name=${file##*/}
		name=${name%.c}
		case $file in
		tests/fuzz/*)
			fuzz+=" build/fuzz/$name"
			write_link fuzz "build/fuzz/$name" "$file" ;;
		tests/*)
			for target in $(test_targets "$file"); do
				tests+=" $target"
				case $target in
				build/test/*) write_link musl "$target" "$file" ;;
				build/test-glibc/*) write_link glibc "$target" "$file" ;;
				build/test-asan/*) write_link asan "$target" "$file" ;;
				build/test-tsan/*) write_link tsan "$target" "$file" ;;
				esac
			done ;;
		*)
			folder=${file%/*}
			name=${program_name[$folder]-${folder##*/}}
			bins+=" build/bin/$name"
			flavour=musl
			[ "$folder" != runtime/cuda ] || flavour=glibc # libcuda needs the C library it was built for
			write_link $flavour "build/debug/$name" "$file"
			printf 'build build/bin/%s: strip build/debug/%s\n' "$name" "$name" ;;
		esac
	done
	write_cubins
	printf 'build build/test/libcuda.so.1: link_shared build/glibc/tests/cuda/fake.c.o build/glibc/tests/cuda/shim.c.o\n'
	tests+=" build/test/libcuda.so.1"
	write_lint "${files[@]}"
	printf 'build bin: phony%s\nbuild tests: phony%s\nbuild fuzzers: phony%s\ndefault bin\n' "$bins" "$tests" "$fuzz"
}

# ninja_run TARGET... : brings build.ninja up to date and builds, one at a time per tree.
ninja_run() {
	mkdir -p build
	(
		set -e
		flock 9
		need_compiler
		gcc_include=$(gcc -print-file-name=include)
		build_deps
		if [ ! -e build/scanned ] || [ ! -e build/build.ninja ] || [ build/deps/stamp -nt build/scanned ] ||
			[ -n "$(find build.sh .clang-format .ci "${roots[@]}" -newer build/scanned -print -quit 2>/dev/null)" ]; then
			touch build/scanning # before the look: what changes meanwhile is newer
			write_ninja >build/build.ninja.new
			cmp -s build/build.ninja.new build/build.ninja || cp build/build.ninja.new build/build.ninja
			mv build/scanning build/scanned
		fi
		ninja -f build/build.ninja -j"$jobs" "$@" 9>&-
	) 9>build/.lock
}

# ---------------------------------------------------------------------------------------------------------------
# Commands

usage() {
	cat <<-EOF
		usage: ./build.sh COMMAND
		  build [TARGET...]       the programs, into build/bin; or single ninja targets (build/test/t_err, say)
		  run [QUESTION]          starts a node on the demo model and talks to it, or asks one question and stops
		  test [NAME...]          every test, or those whose path contains one of the names
		  lint [--fix]            warnings of both compilers, cppcheck, shellcheck, format (--fix: formats in place)
		  fuzz [SECONDS [NAME]]   every fuzz target, or one, for SECONDS each (10)
		  image [MODEL [FILE]]    a disk that boots, of the demo model or another (build/demo.img)
		  boot [FILE]             starts that disk in an emulated machine, console here, its socket at build/boot/s
		  cuda                    the GPU's kernels, into build/cuda (fetches NVIDIA's compiler: 106 MB)
		  install [PREFIX]        into PREFIX/libexec/penstock, with PREFIX/bin/penstock and units of systemd (/usr/local)
		  clean                   deletes build/, except the downloads
	EOF
}

command_build() { ninja_run "$@"; }

# wanted PATH NAME... : whether the path contains one of the names, or there are none.
wanted() {
	local path=$1 name
	shift
	[ $# -gt 0 ] || return 0
	for name; do
		[[ $path != *"$name"* ]] || return 0
	done
	return 1
}

command_test() {
	local file target status tests=() targets=()
	mkdir -p build
	need prove=perl python3=python3 spin=spin
	for file in $(find tests -name 't_*.c' | LC_ALL=C sort); do
		for target in $(test_targets "$file"); do
			if wanted "$target" "$@"; then
				tests+=("$target")
				targets+=("$target")
			fi
		done
	done
	for file in $(find tests -name '*.t' | LC_ALL=C sort); do
		! wanted "$file" "$@" || tests+=("$file")
	done
	[ ${#tests[@]} -gt 0 ] || die "no test has $* in its path"
	case "${tests[*]}" in
	*.t*) targets=(bin tests) ;; # a script may use any program, and any test
	esac
	case "${tests[*]}" in
	*e2e/boot.t*) (need_machine && make_node) || say "no machine can be started here: tests/e2e/boot.t is skipped" ;;
	esac
	# What does not build must not keep the rest from being tested, but it fails the whole.
	set +e
	ninja_run -k 0 "${targets[@]}"
	status=$?
	set -e
	prove -j2 --timer --exec "tests/limit 300" "${tests[@]}" 2>&1 | tee build/test.log || status=1
	return $status
}

command_lint() {
	mkdir -p build
	need_clang
	need clang-format=clang-format cppcheck=cppcheck shellcheck=shellcheck
	if [ "${1-}" = --fix ]; then
		find "${roots[@]}" -name '*.[ch]' -exec clang-format -i {} + 2>/dev/null || true
	fi
	ninja_run -k 0 lint
}

command_fuzz() {
	local seconds=${1-10} only=${2-} file name names=() targets=()
	mkdir -p build
	need_clang
	for file in tests/fuzz/fuzz_*.c; do
		name=${file##*/fuzz_}
		name=${name%.c}
		if [ -e "$file" ] && [ "${only:-$name}" = "$name" ]; then
			names+=("$name")
			targets+=("build/fuzz/fuzz_$name")
		fi
	done
	[ ${#names[@]} -gt 0 ] || die "there is no fuzz target${only:+ named $only} in tests/fuzz"
	ninja_run "${targets[@]}"
	export seconds
	# Found inputs are kept in build/, a finding beside them; seeds and old findings are in the tree.
	printf '%s\n' "${names[@]}" | xargs -P 2 -I{} sh -c '
		mkdir -p build/fuzz/corpus/{} build/fuzz/found tests/fuzz/corpus/{}
		if build/fuzz/fuzz_{} -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3072 -verbosity=1 \
			-artifact_prefix=build/fuzz/found/{}- build/fuzz/corpus/{} tests/fuzz/corpus/{} \
			>build/fuzz/{}.log 2>&1
		then echo "fuzz {}: $(tail -n 1 build/fuzz/{}.log)"
		else tail -n 40 build/fuzz/{}.log; echo "fuzz {}: FAILED (build/fuzz/{}.log)"; exit 1; fi'
}

command_run() {
	local model=images/demo pid socket=build/run.sock penstock=build/bin/penstock status=0 limit=() template=()
	ninja_run >&2 # standard output is the answer's
	if ! compgen -G "$model/*.safetensors" >/dev/null; then
		model=build/synth-model
		limit=(--max-tokens 64)  # nothing random numbers say comes to an end
		template=(--template v31) # and they bring none
		say "images/demo has no weights yet: this is a small model of random numbers, and it speaks gibberish"
		[ -e $model/done ] ||
			{ rm -rf $model && $penstock synth v3-tiny $model && touch $model/done; }
	fi
	rm -f $socket
	$penstock run $model --socket $socket --name "${model##*/}" "${template[@]}" &
	pid=$!
	# shellcheck disable=SC2064 # this function's $pid is gone when the shell exits
	trap "kill $pid 2>/dev/null; wait $pid 2>/dev/null || true" EXIT
	until [ -S $socket ]; do
		kill -0 $pid 2>/dev/null || { wait $pid; return; }
		sleep 0.02
	done
	# Requests wait for the weights, so nothing here has to.
	if [ $# -gt 0 ]; then
		$penstock ask --socket $socket "${limit[@]}" "$*" || status=$?
	else
		$penstock chat --socket $socket "${limit[@]}" || status=$?
	fi
	return $status
}

command_install() {
	local prefix=${1-/usr/local}
	ninja_run
	mkdir -p "$prefix/libexec/penstock" "$prefix/bin"
	install -m 755 build/bin/* "$prefix/libexec/penstock/"
	[ ! -e build/node/node.efi ] || install -m 644 build/node/node.efi "$prefix/libexec/penstock/" # penstock image takes it
	# `penstock` looks for the servers beside itself, where the link leads.
	ln -sfn ../libexec/penstock/penstock "$prefix/bin/penstock"
	mkdir -p "$prefix/lib/systemd/system"
	for unit in boot/systemd/*; do
		sed "s|@PREFIX@|$(realpath "$prefix")|" "$unit" >"$prefix/lib/systemd/system/${unit##*/}"
	done
	say "installed in $prefix/libexec/penstock"
}

# ---------------------------------------------------------------------------------------------------------------
# The node's program: Debian's kernel, an initramfs and a command line in one file for UEFI firmware

# What a node can need: drives, the channel to the host, buttons, watchdogs, temperatures. No network. Each line is
# loaded where the machine has a device for its first module; what the kernel lacks or has built in is left out.
node_modules=(
	"nvme" "vmd" "virtio_pci" "virtio_mmio" "virtio_blk" "virtio_scsi sd_mod"
	"virtio_console" "vmw_vsock_virtio_transport" "button evdev"
	"" # the rest waits until the node works, or has found no model
	"ahci sd_mod drivetemp"
	"i6300esb" "lpc_ich iTCO_wdt" "i2c_i801 iTCO_wdt" "sp5100_tco" "wdat_wdt"
	"coretemp" "k10temp"
)
node_modules_later=(efivarfs softdog) # init asks for these by name
node_programs=(init loader gateway router mla experts scribe)

# Debian's packages in it: name, version, SHA-256 of the file.
node_packages=(
	"linux-image-6.1.0-56-amd64 6.1.192-2 a86e2049672f52354c4536a089203b6c82639420424d31c91cf31a181fd4d8f1"
	"systemd-boot-efi 252.39-1~deb12u2 8f2b81bdcfafc466882a0cae460272dbf10d8d97c6a3c1c6ea33038c155a2f5e"
)

# fetch_package NAME VERSION SHA256 : its file, into the current folder. Of these two the distribution keeps one version,
# and replaces it by each security update. A node without updates would be worse than one of other bytes: what there
# is now is taken, apt has checked its signature, and it is said how to record it.
fetch_package() {
	local name=$1 version=$2 sum=$3 file now
	file=${name}_${version}_amd64.deb
	if [ ! -e "$file" ]; then
		say "fetching $file"
		apt-get download -q "$name=$version" >apt.log 2>&1 || true
	fi
	if [ -e "$file" ]; then
		sha256sum --quiet -c <<<"$sum  $file" ||
			die "build/downloads/node/$file is not the file this build was written for. Delete it and try again"
		echo "$file"
		return
	fi
	now=$name
	[[ $name != linux-image-* ]] ||
		now=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
	file=$(find . -name "${now}_*.deb" | head -n 1)
	[ -n "$file" ] || apt-get download -q "$now" >apt.log 2>&1 ||
		{ cat apt.log >&2; die "apt has no $name $version any more, and nothing newer: run apt-get update (Debian 12)"; }
	file=$(find . -name "${now}_*.deb" | head -n 1)
	say "the mirror has no $name $version any more. The image is made with what it has now, so its bytes are not those of"
	say "others. To record it, in node_packages of build.sh: \"$now $(dpkg-deb -f "$file" Version) $(sha256sum "$file" | cut -d' ' -f1)\""
	echo "$file"
}

# fetch_node : Debian's kernel and the stub, unpacked in build/node/debian.
fetch_node() {
	local dir=$root/build/node/debian line stamp file
	stamp=$(printf '%s\n' "${node_packages[@]}" | sha256sum)
	[ "$(cat "$dir/done" 2>/dev/null)" != "$stamp" ] || return 0
	need dpkg-deb=dpkg
	rm -rf "$dir"
	mkdir -p "$dir" build/downloads/node
	for line in "${node_packages[@]}"; do
		# shellcheck disable=SC2086 # three words
		file=$(cd build/downloads/node && fetch_package $line)
		dpkg-deb -x "build/downloads/node/$file" "$dir"
	done
	echo "$stamp" >"$dir/done"
}

# module_file NAME : its path, or nothing.
module_file() {
	find build/node/debian/lib/modules -name "$1.ko" -o -name "${1//_/-}.ko" -o -name "${1//-/_}.ko" | head -n 1
}

# module_info FILE KEY : the values of a key in a module's own description. objcopy writes files only: given /dev/stdout as
# root, it may put a file there.
module_info() {
	objcopy -O binary --only-section=.modinfo "$1" build/node/modinfo
	tr '\0' '\n' <build/node/modinfo | sed -n "s/^$2=//p"
}

# module_order NAME... : the modules' files in an order in which each comes after those that it needs.
module_order() {
	local name file need
	for name; do
		file=$(module_file "$name")
		if [ -z "$file" ] || [ -n "${ordered[${file##*/}]-}" ]; then
			continue
		fi
		ordered[${file##*/}]=1
		for need in $(module_info "$file" depends | tr ',' ' ') $(module_info "$file" softdep | sed -n 's/^pre: //p'); do
			module_order "$need"
		done
		echo "$file"
	done
}

# node_modules_into FOLDER : copies them, and writes its list: patterns, a tab, files.
node_modules_into() {
	local line file files patterns
	for line in "${node_modules[@]}"; do
		local -A ordered=()
		file=""
		[ -z "$line" ] || file=$(module_file "${line%% *}")
		if [ -z "$file" ]; then
			[ -n "$line" ] || echo
			continue
		fi
		patterns=$(module_info "$file" alias | tr '\n' ' ')
		files=""
		# shellcheck disable=SC2086 # several names
		while read -r file; do
			install -m 644 "$file" "$1/"
			files+=" ${file##*/}"
		done < <(module_order $line)
		printf '%s\t%s\n' "$patterns" "${files# }"
	done >"$1/order"
	for line in "${node_modules_later[@]}"; do
		install -m 644 "$(module_file "$line")" "$1/"
	done
}

# make_node : build/node/node.efi.
make_node() {
	local tree=build/node/root dir=build/node stub kernel file name size end at=0
	need objcopy=binutils cpio=cpio zstd=zstd
	ninja_run
	fetch_node
	stub=$dir/debian/usr/lib/systemd/boot/efi/linuxx64.efi.stub
	kernel=$(find $dir/debian/boot -name 'vmlinuz-*')
	rm -rf $tree
	mkdir -p $tree/{dev,proc,sys,run,modules}
	for name in "${node_programs[@]}"; do
		install -m 755 build/bin/"$name" $tree/
	done
	node_modules_into $tree/modules
	grep -q "^pci:.*nvme.ko" $tree/modules/order || die "the kernel's modules say nothing of themselves: no drive would be found"
	# what the image holds: `penstock node list` prints it
	{
		echo "$(stat -c %s "$kernel") $(sha256sum "$kernel" | cut -d' ' -f1) ${kernel##*/}"
		echo "$(stat -c %s $stub) $(sha256sum $stub | cut -d' ' -f1) ${stub##*/}"
		(cd $tree && find . -type f | LC_ALL=C sort | while read -r file; do
			echo "$(stat -c %s "$file") $(sha256sum "$file" | cut -d' ' -f1) ${file#.}"
		done)
	} >$dir/contents
	install -m 644 $dir/contents $tree/contents
	find $tree -exec touch -h -d @0 {} +
	(cd $tree && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) |
		zstd -q -19 -T1 >$dir/initrd
	printf '%1024s' ' ' >$dir/cmdline
	printf 'ID=penstock\nPRETTY_NAME=Penstock\n' >$dir/osrel
	# each section at a page of its own, behind the stub's last one
	while read -r size end; do
		at=$((16#$size + 16#$end > at ? 16#$size + 16#$end : at))
	done < <(objdump -h $stub | awk '/^ *[0-9]+ \./ { print $3, $4 }')
	local sections=()
	for name in osrel cmdline linux initrd; do
		case $name in
		linux) file=$kernel ;;
		*) file=$dir/$name ;;
		esac
		at=$(((at + 4095) / 4096 * 4096))
		size=$(stat -c %s "$file")
		sections+=(--add-section ".$name=$file" --change-section-vma ".$name=$at")
		at=$((at + size))
	done
	objcopy "${sections[@]}" $stub $dir/node.efi.new
	# it has written the time into the header, and a sum that `penstock image` will make untrue: nobody needs either
	at=$(od -An -tu4 -j60 -N4 $dir/node.efi.new)
	for size in $((at + 8)) $((at + 88)); do
		printf '\0\0\0\0' | dd of=$dir/node.efi.new bs=1 seek="$size" conv=notrunc status=none
	done
	mv $dir/node.efi.new $dir/node.efi
}

# What a machine is made of that boots a disk: emulated, with UEFI firmware.
need_machine() {
	need qemu-system-x86_64=qemu-system-x86 /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf fsck.fat=dosfstools
}

command_image() {
	make_node
	build/bin/penstock image "${1-images/demo}" "${2-build/demo.img}" --node build/node/node.efi
	say "${2-build/demo.img} is a disk that boots; images/README.md says how it gets onto one"
}

command_boot() {
	local dir=build/boot disk=${1-build/demo.img} socket=build/boot/s pids=()
	need_machine
	[ $# -gt 0 ] || command_image images/demo "$disk"
	mkdir -p $dir
	rm -f $dir/port $socket
	[ -e $dir/vars ] || cp /usr/share/OVMF/OVMF_VARS_4M.fd $dir/vars # the firmware's memory
	# without erms: an emulated processor clears memory byte by byte where the kernel believes that to be fast
	qemu-system-x86_64 -machine q35 -accel tcg -cpu max,erms=off,fsrm=off -smp 2 -m 1024 -nic none -display none \
		-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
		-drive if=pflash,format=raw,file=$dir/vars \
		-drive if=none,id=d,format=raw,file="$disk" -device nvme,drive=d,serial=penstock \
		-device virtio-serial-pci -chardev socket,id=p,path=$dir/port,server=on,wait=off \
		-device virtserialport,chardev=p,name=penstock -serial stdio </dev/null &
	pids+=($!)
	build/bin/penstock relay $dir/port --socket $socket &
	pids+=($!)
	# shellcheck disable=SC2064 # this function's variables are gone when the shell exits
	trap "kill ${pids[*]} 2>/dev/null; wait 2>/dev/null || true" EXIT
	say "penstock ask --socket $socket reaches it, and penstock node off ends it"
	wait "${pids[0]}"
}

# The toolkit, from PyPI, into build/cuda/toolkit.
fetch_cuda() {
	local wheel name version sum list=build/cuda/wheels.txt
	[ ! -e build/cuda/toolkit/ready ] || return 0
	need pip3=python3-pip unzip=unzip
	say "fetching the CUDA compiler (106 MB)"
	mkdir -p build/cuda build/downloads
	for wheel in "${cuda_wheels[@]}"; do
		read -r name version sum <<<"$wheel"
		echo "$name==$version --hash=sha256:$sum"
	done >$list
	pip3 download -q --require-hashes --no-deps -d build/downloads -r $list
	rm -rf build/cuda/toolkit
	mkdir -p build/cuda/toolkit
	for wheel in "${cuda_wheels[@]}"; do
		read -r name version sum <<<"$wheel"
		unzip -q -o build/downloads/"${name//-/_}-$version"-*.whl -d build/cuda/toolkit
	done
	find build/cuda/toolkit -path '*/bin/*' -type f -exec chmod +x {} +
	touch build/cuda/toolkit/ready
}

# The kernels for every architecture, and their listings, which tests/cuda/cubins.t reads.
command_cuda() {
	local nvcc arch source=drivers/cuda/kernels.cu out
	mkdir -p build/cuda
	need g++=g++
	fetch_cuda
	nvcc=$(find build/cuda/toolkit -path '*/bin/nvcc' -type f)
	"$nvcc" --version | grep -q "release $cuda_version," || die "$nvcc is not CUDA $cuda_version"
	out=build/cuda/kernels
	if [ "$(cat build/cuda/stamp 2>/dev/null)" != "$(cuda_stamp)" ]; then
		rm -f build/cuda/stamp
		# shellcheck disable=SC2086 # a list of flags
		printf '%s\n' $cuda_archs | xargs -P "$jobs" -I{} "$nvcc" $cuda_flags -cubin -arch=sm_{} $source -o $out.sm_{}.cubin
		for arch in $cuda_archs; do
			"$(find build/cuda/toolkit -path '*/bin/nvdisasm' -type f)" -c $out.sm_"$arch".cubin >$out.sm_"$arch".sass
		done
		# shellcheck disable=SC2086
		"$nvcc" $cuda_flags -ptx -arch=sm_80 $source -o $out.new.ptx
		mv $out.new.ptx $out.ptx
		cuda_stamp >build/cuda/stamp
	fi
	rm -f build/scanned # the programs have new kernels
	ninja_run
	ls -l build/cuda/*.cubin >&2
}

command_clean() {
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name downloads ! -name .lock -exec rm -rf {} +
}

case ${1-help} in
build | run | test | lint | fuzz | image | boot | cuda | install | clean)
	name=$1
	shift
	"command_$name" "$@"
	;;
help | -h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
