# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Shared by the scripts that build, boot and test: source trees by flavour,
# whether they changed, and the VM. Needs lib.sh.

LINUX=$BUILD/linux
ROOTFS=$BUILD/rootfs-${SUITE:-bookworm}.img
KSELFTEST=$BUILD/kselftest
# shellcheck disable=SC2034 # used by the scripts that source this file
JOBS=${JOBS:-$(nproc)}

bzimage() { echo "$BUILD/$1/arch/x86/boot/bzImage"; }

# is_base FLAVOUR: made from the base, without the series
is_base() { [[ $1 == base || $1 == *-base ]]; }

# tree_id FLAVOUR: a name for the sources of this flavour as they are now.
tree_id() {
	if is_base "$1"; then
		git -C "$LINUX" rev-parse 'base^{tree}'
		return
	fi
	git -C "$LINUX" rev-parse 'HEAD^{tree}'
	if [ -n "$(git -C "$LINUX" status --porcelain)" ]; then
		git -C "$LINUX" diff HEAD | sha256sum
		git -C "$LINUX" ls-files -o --exclude-standard -z | (cd "$LINUX" && xargs -0r sha256sum)
	fi
}

# use_ccache: what is compiled in any checkout is found again in all others.
use_ccache() {
	export CCACHE_DIR=$CACHE/ccache
	mkdir -p "$CCACHE_DIR" 2>/dev/null && [ -w "$CCACHE_DIR" ] || CCACHE_DIR=$BUILD/ccache
	export CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=5G
}

# build_from TREE FLAVOUR TREE_ID: the kernel FLAVOUR of the sources in TREE, which
# are shown at build/linux for this alone: so it shares what ccache has.
build_from() {
	# shellcheck disable=SC2016 # for the inner shell
	MD_LIFECYCLE_TREE_ID=$3 unshare -m \
		sh -c 'mount --bind "$1" "$2" && exec "$3" "$4"' sh "$1" "$LINUX" \
		"$TOP/scripts/build-kernel" "$2"
}

# allmodconfig TREE OUT MAKE_OPTION...: without what a compiler says nothing about and
# takes twice the time for; a warning is an error.
WANTED='# CONFIG_GCC_PLUGINS is not set
# CONFIG_GCOV_KERNEL is not set
# CONFIG_KASAN is not set
# CONFIG_KCOV is not set
# CONFIG_KCSAN is not set
CONFIG_DEBUG_INFO_NONE=y
CONFIG_WERROR=y'
allmodconfig() {
	local tree=$1 out=$2
	shift 2
	mkdir -p "$out"
	echo "$WANTED" >"$out/wanted"
	make -C "$tree" "O=$out" LOCALVERSION= "$@" -s "KCONFIG_ALLCONFIG=$out/wanted" allmodconfig
}

# set_up FLAVOUR...: everything that boots and tests these kernels
set_up() {
	local flavour
	need_root "to boot and test kernels"
	need qemu-system-x86_64=qemu-system-x86
	"$TOP/scripts/tree"
	for flavour in "$@"; do
		"$TOP/scripts/build-kernel" "$flavour"
	done
	"$TOP/scripts/mkrootfs" "${SUITE:-bookworm}"
	"$TOP/scripts/build-selftests"
}

# vm FLAVOUR [OPTIONS OF vmtest.sh]
vm() {
	local flavour=$1 modules=$BUILD/$1/installed
	shift
	mkdir -p "$BUILD/log"
	[ ! -d "$modules" ] || set -- -m "$modules" "$@"
	[ ! -d "$KSELFTEST" ] || set -- -i "$KSELFTEST" "$@"
	# Under KASAN, emulated, the firmware's code for the routing of interrupts
	# takes longer than ACPI allows.
	[[ $flavour != *debug* ]] || set -- -a pci=noacpi "$@"
	# shellcheck disable=SC2153 # SELFTEST is from lib.sh
	TMPDIR=$BUILD/log "$TOP/$SELFTEST/vmtest.sh" -k "$(bzimage "$flavour")" -r "$ROOTFS" "$@"
}
