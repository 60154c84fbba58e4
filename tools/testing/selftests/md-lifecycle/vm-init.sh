#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# PID 1 of the VM that vmtest.sh boots. Its own directory, a tmpfs, holds what
# vmtest.sh unpacked there: the installed kselftests, `vm-env` (environment) and
# `vm-cmd` (what to run). Kernel messages go to ttyS0, the output of the
# command to hvc0, its exit status to ttyS1.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=linux LC_ALL=C

mount_virtual() {
	mount -t proc none /proc
	mount -t sysfs sys /sys
	mountpoint -q /dev || mount -t devtmpfs dev /dev
	mkdir -p /dev/pts /dev/shm
	mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
	mount -t tmpfs shm /dev/shm
	mount -t tmpfs run /run
	mount -t tmpfs tmp /tmp
	mount -t debugfs debug /sys/kernel/debug
	mount -t tracefs tracing /sys/kernel/tracing
	mount -t configfs config /sys/kernel/config
	ln -sfn /proc/self/fd /dev/fd
	ln -sfn /proc/self/fd/0 /dev/stdin
	ln -sfn /proc/self/fd/1 /dev/stdout
	ln -sfn /proc/self/fd/2 /dev/stderr
	mkdir -p /run/lock /run/mdadm
} 2>/dev/null

# What vmtest.sh was given by -m; "build" and "source" lead out of the VM.
mount_modules() {
	[ -d "$here/modules" ] || return 0
	mkdir -p /lib/modules
	mount --bind "$here/modules" /lib/modules
}

start_udevd() {
	local daemon=/lib/systemd/systemd-udevd
	[ -x "$daemon" ] || daemon=udevd
	"$daemon" --daemon
	udevadm trigger --type=subsystems --action=add
	udevadm trigger --type=devices --action=add
	udevadm settle --timeout=60
}

# kmemleak tells only when asked, and needs an object to be unreferenced for
# a few seconds.
leaks=/sys/kernel/debug/kmemleak
scan_leaks() {
	if ! echo scan >$leaks || ! sleep 6 || ! echo scan >$leaks; then
		echo "BUG: kmemleak does not scan" >/dev/ttyS0
	fi
}

# What the boot has leaked is not the tests'.
forget_leaks() {
	[ -e $leaks ] || return 0
	scan_leaks
	echo clear >$leaks
}

report_leaks() {
	[ -e $leaks ] || return 0
	scan_leaks
	head -n 200 $leaks >/dev/ttyS0
}

here=$(cd "$(dirname "$0")" && pwd)

# Stage 1: a writable root, the image under a tmpfs.
if [ "${1:-}" != stage2 ]; then
	mkdir "$here/.upper" "$here/.work" "$here/.root"
	layers=lowerdir=/,upperdir=$here/.upper,workdir=$here/.work
	mount -t overlay -o "$layers" overlay "$here/.root" ||
		echo "vm-init: no overlay, the root stays read-only" >/dev/ttyS0
	mkdir -p "$here/.root/mnt/old" "$here/.root/tests"
	mount --bind "$here" "$here/.root/tests"
	mount -n --move /dev "$here/.root/dev"
	cd "$here/.root" || exit 1
	pivot_root . mnt/old
	exec chroot . /tests/vm-init.sh stage2 </dev/console >/dev/console 2>&1
fi

# Stage 2.
mount_virtual
mount_modules
hostname vm 2>/dev/null
echo 1 >/proc/sys/kernel/sysrq
set -a
# shellcheck source=/dev/null
. "$here/vm-env"
set +a
[ "${VM_UDEVD:-1}" = 0 ] || start_udevd
stty -F /dev/hvc0 -opost 2>/dev/null
[ -z "${VM_TTY_SIZE:-}" ] ||
	stty -F /dev/hvc0 opost rows "${VM_TTY_SIZE% *}" cols "${VM_TTY_SIZE#* }"
cd "$here" || exit 1
forget_leaks
# For how many us KCSAN looks at an access; after the boot, which takes them, too.
[ ! -d /sys/module/kcsan ] || echo 1000 >/sys/module/kcsan/parameters/udelay_task
echo "vm-init: up after $(cut -d' ' -f1 /proc/uptime) s" >/dev/kmsg

if [ "${VM_SHELL:-0}" = 1 ]; then
	setsid -c bash -i </dev/hvc0 >/dev/hvc0 2>&1
else
	bash "$here/vm-cmd" </dev/null >/dev/hvc0 2>&1
fi
rc=$?
stty -F /dev/hvc0 opost 2>/dev/null # waits until the output is written
report_leaks
# How much KCSAN has looked at.
[ ! -e /sys/kernel/debug/kcsan ] || cat /sys/kernel/debug/kcsan >/dev/ttyS0
echo "exit $rc" >/dev/ttyS1
stty -F /dev/ttyS1 -opost
echo "vm-init: exit $rc after $(cut -d' ' -f1 /proc/uptime) s" >/dev/kmsg
echo b >/proc/sysrq-trigger
sleep 60
