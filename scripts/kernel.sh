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
	# Under KASAN, emulated, the firmware's code for the routing of interrupts
	# takes longer than ACPI allows.
	[[ $flavour != *debug* ]] || set -- -a pci=noacpi "$@"
	# shellcheck disable=SC2153 # SELFTEST is from lib.sh
	TMPDIR=$BUILD/log "$TOP/$SELFTEST/vmtest.sh" -k "$(bzimage "$flavour")" -r "$ROOTFS" -i "$KSELFTEST" "$@"
}
