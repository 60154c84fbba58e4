#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck disable=SC2317 # the rows are called by name
#
# The guest's part of scripts/run: plays the lives of md and dm devices with
# the real mdadm, dmsetup and udevd on the disks vdc to vdj, and prints a row
# for each: requirement, name, what was done, what was seen, whether it held.
# Rows print what was seen; those that look later than at once say so.

cd /tmp || exit 1
param=/sys/module/md_mod/parameters
held=0 failed=0

row() { # ID NAME "what was done"
	local id=$1 name=$2 what=$3 seen rc verdict start=${EPOCHREALTIME/./}
	[ -z "${PLAY:-}" ] || [[ $name =~ $PLAY ]] || return 0
	clean_up
	seen=$("$name" 2>/tmp/err)
	rc=$?
	[ $rc = 0 ] || [ -n "$seen" ] || seen=$(tail -n 1 /tmp/err)
	if [ $rc = 0 ]; then
		verdict=held held=$((held + 1))
	else
		verdict='NOT HELD' failed=$((failed + 1))
	fi
	printf '%-4s %-15s %-46s %-44s %s\n' "$id" "$name" "$what" "${seen//$'\n'/ }" "$verdict"
	echo "play: $name $(((${EPOCHREALTIME/./} - start) / 1000)) ms" >/dev/kmsg
	if [ "$verdict" = 'NOT HELD' ]; then tail -n 3 /tmp/err | sed 's/^/     /'; fi
}

clean_up() {
	local dev
	for dev in /sys/block/md*; do
		[ ! -e "$dev" ] || mdadm --stop "/dev/${dev##*/}"
		[ ! -e "$dev/md/array_state" ] || echo clear >"$dev/md/array_state"
	done
	dmsetup remove_all --force
	mdadm --zero-superblock /dev/vd[c-j]
	rm -f /etc/mdadm.conf /etc/mdadm/mdadm.conf
	settle
} >/dev/null 2>&1

settle() { [ ! -e /run/udev/control ] || udevadm settle --timeout=20; }
stop_udevd() { udevadm control --exit && while pgrep -x systemd-udevd >/dev/null; do sleep 0.1; done; rm -rf /run/udev; }
start_udevd() { /lib/systemd/systemd-udevd --daemon && udevadm trigger --type=devices --action=add && settle; } 2>/dev/null

# NODE: a raid1 of vdc and vdd, without a resync. udevd is let finish before
# anything else is done: its "mdadm -I" would take the disks after a stop.
raid1() {
	mdadm --create "$1" --run --assume-clean --metadata=1.2 --level=1 --raid-devices=2 --bitmap=none \
		/dev/vdc /dev/vdd </dev/null >&2 2>&1 && settle
}
stop() { mdadm --stop "$1" >&2; }

# What is left of an array or a mapped device: nothing is "gone".
left() { # NAME [NODE]
	local left=''
	[ ! -e "${2:-/dev/$1}" ] || left+=" node"
	[ ! -e "/sys/block/$1" ] || left+=" sysfs"
	! grep -q "^$1 " /proc/mdstat || left+=" mdstat"
	printf '%s' "${left:+left:$left }"
	[ -z "$left" ] && printf 'gone '
}

left_now() { # the same without a process: sysfs and the node tell enough
	if [ -e "/sys/block/$1" ] || [ -e "/dev/$1" ]; then printf 'still there'; false; else printf 'gone'; fi
}

md_use() {
	raid1 /dev/md5 && mkfs.ext4 -q /dev/md5 && mount /dev/md5 /media && echo hello >/media/file &&
		umount /media && mount /dev/md5 /media && grep -q hello /media/file && umount /media &&
		grep -q '^md5 : active raid1' /proc/mdstat && printf 'active raid1, file read back'
}
# Who has it open is told by its process id; and nothing is, afterwards.
md_why() {
	local why holder
	raid1 /dev/md5 || return 1
	sleep 1000 3</dev/md5 &
	holder=$!
	mdadm --stop /dev/md5 && return 1
	why=$(/tests/md-lifecycle/md-why.sh /dev/md5)
	printf '%s\n' "$why" >&2
	printf '%s; ' "$(sed -n 's/^kept: \(process [0-9]* ([a-z]*) has it open\).*/\1/p' <<<"$why")"
	grep -q "^kept: process $holder (sleep) has it open" <<<"$why" || return 1
	kill $holder
	wait $holder
	stop /dev/md5 && left md5
}
# Run a command and look, before any worker of the kernel gets a CPU: with
# real-time priority, and real-time tasks on all other CPUs.
hogged() {
	local cpu pids='' rc
	for cpu in $(seq 1 $(($(nproc) - 1))); do
		chrt -f 1 taskset -c "$cpu" bash -c 'while :; do :; done' >/dev/null 2>&1 &
		pids+=" $!"
	done
	taskset -pc 0 $BASHPID >/dev/null && chrt -f -p 2 $BASHPID
	"$@"
	rc=$?
	chrt -o -p 0 $BASHPID && taskset -pc 0-$(($(nproc) - 1)) $BASHPID >/dev/null
	# shellcheck disable=SC2086
	kill $pids
	return $rc
}
stop_and_look() { stop "/dev/$1" && left_now "$1"; }
md_stop() { raid1 /dev/md5 && hogged stop_and_look md5; }
md_gone() { raid1 /dev/md5 && stop /dev/md5 && settle && sleep 1 && left md5; }
md_again() {
	local i
	for ((i = 0; i < 6; i++)); do
		raid1 /dev/md5 || break
		stop /dev/md5 || break
	done
	printf '%d of 6 lives, no wait between' $i
	[ $i = 6 ]
}
md_new_array() {
	echo md_home >$param/new_array && settle && [ -e /sys/block/md_home ] && stop /dev/md_home && sleep 1 && left md_home
}
md_named() {
	echo 'CREATE names=yes' >/etc/mdadm.conf
	raid1 /dev/md/home && [ -e /sys/block/md_home ] && stop /dev/md/home && sleep 1 && left md_home
}
md_assemble() {
	local i n=0
	raid1 /dev/md5
	for ((i = 0; i < 4; i++)); do
		stop /dev/md5
		mdadm --assemble /dev/md5 /dev/vdc /dev/vdd >&2 && grep -q '^md5 : active' /proc/mdstat && n=$((n + 1))
		settle
	done
	stop /dev/md5
	sleep 1
	printf '%d of 4 assemblies; 1 s later: ' $n
	left md5 && [ $n = 4 ]
}
cycles() { # COUNT: create and stop, each tried once; prints how many went well
	local i n=0
	for ((i = 0; i < $1; i++)); do
		raid1 /dev/md5 && stop /dev/md5 && n=$((n + 1))
	done
	printf '%d of %d cycles, ' $n "$1"
	[ $n = "$1" ]
}
# The observers have a node of their own, which no removal takes from them.
md_observers() {
	local rc=0 pids='' i
	mknod /dev/.observed b 9 5
	for i in 1 2; do
		(while :; do mdadm --detail /dev/.observed; done) >/dev/null 2>&1 &
		pids+=" $!"
	done
	cycles 4 || rc=1
	sleep 2
	# shellcheck disable=SC2086
	kill $pids
	wait
	rm /dev/.observed
	settle
	sleep 1
	left md5 && return $rc
}
md_monitor() {
	local rc=0 pid
	raid1 /dev/md5
	mdadm --monitor --scan --delay=1 --program=/bin/true >/dev/null 2>&1 &
	pid=$!
	sleep 1.5
	stop /dev/md5 && cycles 3 || rc=1
	sleep 2
	kill $pid
	left md5 && return $rc
}
md_switch() {
	local switch=$param/legacy_async_del_gendisk old value rc=0
	[ -e $switch ] || { printf 'no such parameter'; return; }
	old=$(cat $switch)
	for value in N Y; do
		echo $value >$switch || rc=1
		printf '%s: ' $value
		cycles 3 || rc=1
	done
	echo "$old" >$switch
	settle
	left md5 && return $rc
}
md_probe() {
	rm -f /tmp/md99
	mknod /tmp/md99 b 9 99
	! mdadm --detail /tmp/md99 >/dev/null 2>&1 || return 1
	settle
	sleep 1
	left md99
}
# What a CPU's cache of freed objects holds counts as used until it is flushed:
# without the shrink, eight lives of 7.3.4 show as no growth at all.
kernfs_bytes() {
	echo 1 >/sys/kernel/slab/kernfs_node_cache/shrink
	awk '$1 == "kernfs_node_cache" { print $2 * $4 }' /proc/slabinfo
}
md_memory() {
	local before after n=8
	[ -e /sys/kernel/slab/kernfs_node_cache/shrink ] || return 1
	cycles 3 >/dev/null
	settle
	sleep 1
	before=$(kernfs_bytes)
	cycles $n
	settle
	sleep 1
	after=$(kernfs_bytes)
	printf '%d bytes of sysfs nodes a cycle' $(((after - before) / n))
	[ $(((after - before) / n)) -lt 100 ]
}
uevents() { # NAME COMMAND...: count the kernel's add and remove of NAME
	local name=$1 pid add remove
	shift
	udevadm monitor --kernel --subsystem-match=block >/tmp/uevents &
	pid=$!
	sleep 1
	"$@" >&2
	settle
	sleep 1
	kill $pid
	wait $pid 2>/dev/null
	add=$(grep -c " add .*/$name " /tmp/uevents)
	remove=$(grep -c " remove .*/$name " /tmp/uevents)
	printf '%d add, %d remove' "$add" "$remove"
	[ "$add" = 1 ] && [ "$remove" = 1 ]
}
md_uevents() { uevents md5 md_gone; }

linear() { echo "0 65536 linear /dev/$1 0"; }
dm_name() { basename "$(readlink -f /dev/mapper/"$1")"; }
dm_left() { # NAME KERNELNAME
	if dmsetup info "$1" >/dev/null 2>&1; then printf 'table of names, '; false; else left "$2" /dev/mapper/"$1"; fi
}
dm_use() {
	dmsetup create x --table "$(linear vdc)" && dd if=/dev/urandom of=/tmp/data bs=64k count=4 2>/dev/null &&
		dd if=/tmp/data of=/dev/mapper/x oflag=direct bs=64k 2>/dev/null &&
		cmp -n 262144 /tmp/data /dev/mapper/x && printf '256 KiB written and read back'
}
dm_remove() {
	local name
	dmsetup create x --table "$(linear vdc)" && name=$(dm_name x) && settle && dmsetup remove x && dm_left x "$name"
}
dm_remove_plain() {
	local rc
	stop_udevd
	dm_remove
	rc=$?
	start_udevd
	return $rc
}
dm_again() {
	local i
	for ((i = 0; i < 10; i++)); do
		dmsetup create x --table "$(linear vdc)" || break
		dmsetup remove x || break
	done
	printf '%d of 10 lives, no wait between' $i
	[ $i = 10 ]
}
dm_switch() {
	local i rc=0
	for i in c d; do
		yes "disk $i" | dd of=/dev/vd$i bs=4k count=1 iflag=fullblock oflag=direct 2>/dev/null
	done
	dmsetup create x --table "$(linear vdc)"
	for i in d c d c; do
		linear vd$i | dmsetup reload x && dmsetup resume x || rc=1
		grep -aqm1 "^disk $i$" <(dd if=/dev/mapper/x bs=4k count=1 iflag=direct 2>/dev/null) || rc=1
		printf '%s ' $i
	done
	[ $rc = 0 ] && printf 'each read from its own disk'
	return $rc
}
dm_reload() {
	local trace=/sys/kernel/tracing opens i major minor
	IFS=: read -r major minor </sys/block/vdc/dev
	dmsetup create x --table "$(linear vdc)"
	settle
	echo >$trace/trace
	echo 'p:play/opens bdev_file_open_by_dev dev=%di:u32' >$trace/kprobe_events || return 1
	echo "dev == $(((major << 20) + minor))" >$trace/events/play/opens/filter
	echo 1 >$trace/events/play/opens/enable
	for ((i = 0; i < 5; i++)); do
		linear vdc | dmsetup reload x && dmsetup resume x || return 1
	done
	echo 0 >$trace/events/play/opens/enable
	opens=$(grep -c ' opens: ' $trace/trace)
	echo >$trace/kprobe_events
	printf '%d opens of vdc in 5 reloads' "$opens"
	[ "$opens" = 0 ]
}
dm_failed_load() {
	local rc=0
	dmsetup create x --notable || return 1
	echo "0 65536 linear /dev/none 0" | dmsetup load x 2>/dev/null && rc=1
	echo "0 65536 linear /dev/vdc" | dmsetup load x 2>/dev/null && rc=1
	linear vdc | dmsetup load x && dmsetup resume x && dd if=/dev/mapper/x of=/dev/null bs=64k count=1 2>/dev/null || rc=1
	dmsetup remove x || rc=1
	[ $rc = 0 ] && printf 'refused, then loaded, read and removed'
	return $rc
}
# The read is the end of a kernel that took the queue of the failed load.
dm_failed_first() {
	local rc=0
	dmsetup create x --notable || return 1
	echo "0 99999999 multipath 0 0 1 1 round-robin 0 1 1 /dev/vdc 1" | dmsetup load x 2>/dev/null && rc=1
	linear vdc | dmsetup load x || rc=1
	if [ -e "/sys/block/$(dmsetup info -c --noheadings -o blkdevname x)/mq" ]; then
		printf 'the good load has the queue of the failed one'
		rc=1
	else
		dmsetup resume x && dd if=/dev/mapper/x of=/dev/null bs=64k count=1 2>/dev/null || rc=1
		[ $rc = 0 ] && printf 'refused, then loaded and read'
	fi
	dmsetup remove x && return $rc
}
dm_wait() {
	local waiter remover i rc=0
	dmsetup create x --notable || return 1
	dmsetup wait x >&2 &
	waiter=$!
	until grep -qs dm_wait_event /proc/$waiter/stack; do sleep 0.1; done
	dmsetup remove x >&2 &
	remover=$!
	for ((i = 0; i < 30; i++)); do
		kill -0 $remover 2>/dev/null || break
		sleep 0.1
	done
	[ $i -lt 30 ] || rc=1
	kill $waiter 2>/dev/null
	wait $remover || rc=1
	if [ $rc = 0 ]; then printf 'removed'; else printf 'not before the wait was killed'; fi
	return $rc
}
dm_remove_all() {
	local i rc=0
	for i in c d e f g h; do
		dmsetup create $i --table "$(linear vd$i)" && dmsetup create on$i --table "$(linear mapper/$i)" || rc=1
	done
	settle
	dmsetup remove_all || rc=1
	for i in /sys/block/dm-* /dev/mapper/[c-h]; do
		[ ! -e "$i" ] || rc=1
	done
	[ $rc = 0 ] && printf '12 devices, 6 of them on others: gone'
	return $rc
}
dm_busy() {
	local rc=0 name
	dmsetup create x --table "$(linear vdc)" && name=$(dm_name x)
	settle
	exec 9</dev/mapper/x
	dmsetup remove x 2>/dev/null && rc=1
	dd bs=64k count=1 of=/dev/null <&9 2>/dev/null || rc=1
	exec 9<&-
	[ $rc = 0 ] && printf 'busy and whole; then '
	dmsetup remove x && dm_left x "$name" && return $rc
}
dm_uevents() {
	[ ! -e /sys/block/dm-0 ] || return 1
	uevents dm-0 dm_remove
}

printf '%s; %s; %s; %s\n\n' "Linux $(uname -r)" "$(mdadm --version 2>&1 | cut -d' ' -f1-3)" \
	"$(dmsetup version | sed -n 's/^Library version: *\([^ ]*\).*/dmsetup \1/p')" "$(udevadm --version | sed 's/^/udevd /')"
printf '%-4s %-15s %-46s %-44s %s\n' id row 'what was done' 'what was seen' held
row '' md_use 'mdadm --create raid1, mkfs, mount, write, read'
row B1 md_stop 'mdadm --stop; looked at before anything else'
row '' md_gone 'mdadm --stop; looked at 1 s later'
row B3 md_again 'the same number again at once'
row B4 md_new_array 'echo md_home >new_array; --stop; 1 s later'
row B4 md_named 'mdadm --create /dev/md/home, --stop; 1 s later'
row B10 md_assemble 'mdadm --stop, --assemble'
row B2 md_observers '4 lives under two mdadm --detail; 1 s later'
row B2 md_monitor '4 lives under mdadm --monitor; 2 s later'
row B10 md_switch 'legacy_async_del_gendisk N, then Y; 3 lives each'
row B5 md_probe 'mdadm --detail of a node without array; 1 s later'
row B6 md_memory 'growth over create and stop'
row B8 md_uevents 'uevents of one life'
row '' md_why 'a process has it open; md-why.sh; --stop'
row '' dm_use 'dmsetup create linear, write, read'
row B1 dm_remove 'dmsetup remove; looked at once'
row B1 dm_remove_plain 'the same without udevd'
row B3 dm_again 'the same name again at once'
row C12 dm_switch 'reload and resume with another disk'
row C12 dm_reload 'reload and resume with the same disk'
row B14 dm_failed_load 'two loads that fail, then a good one'
row B19 dm_failed_first 'a first load that is too long, then a good one'
row B14 dm_busy 'remove while open; closed; remove'
row B21 dm_wait 'remove under dmsetup wait, no table'
row B1 dm_remove_all 'remove_all of a stack; looked at once'
row B8 dm_uevents 'uevents of one life'
clean_up
printf '\n%d held, %d not held; %.0f s\n' $held $failed "$(cut -d' ' -f1 /proc/uptime)"
[ $failed = 0 ]
