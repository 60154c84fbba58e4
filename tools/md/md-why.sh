#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# md-why.sh: tell why an md or device-mapper device is still there.
#
# A shell script, as what is to be looked at is in files already, and a rescue
# system or an initramfs has a shell. Nothing here opens the device, asks it for
# anything, or looks a name up in /dev itself: all of these may hang when it does.

usage() {
	cat <<-END
	Usage: md-why.sh DEVICE

	Tell for an md or device-mapper device in which state it is, with md also
	since when, what keeps it from going, and what its stop or removal waits
	for. DEVICE is a node (/dev/md5), a number (9:5), a name (md5, dm-3), or the
	name that device mapper has for it. To be run as root, in the first pid
	namespace.

	Lines are "stays:", what has to be done to be rid of it; "kept:", who
	prevents that; "waits:", which task is at it, and where in the kernel. With
	device mapper that is any task in one of its ioctls, as nobody can see which
	device such a call is about.

	Exit status: 0 there is no such device, or nothing keeps it; 1 something
	does; 2 it cannot be told.
	END
}

die() {
	echo "md-why.sh: $*" >&2
	exit 2
}

set -u

devices=/sys/kernel/debug/md/devices
sysfs=/sys/devices/virtual/block

# Of nodes on a file server; not in every stat, that of busybox say.
cached=--cached=always
stat $cached / >/dev/null 2>&1 || cached=''

# hex MAJOR:MINOR: as stat prints it
hex() {
	printf '%x:%x' "${1%:*}" "${1#*:}"
}

# is_one_of WORD LIST
is_one_of() {
	case " $2 " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# find_device DEVICE: its name in sysfs as $name, its number as $number, both
# empty if there is none.
find_device() {
	name='' number=''
	case $1 in
	*[!0-9:]* | *:*:* | :* | *:) find_name "$1" ;;
	*:*) number=$1 ;;
	*) die "$1 is no device" ;;
	esac
	if [ -z "$name" ] && [ -n "$number" ]; then
		name=$(readlink "/sys/dev/block/$number") && name=${name##*/}
	fi
	if [ -e "/sys/class/block/$name/partition" ]; then
		name=$(readlink "/sys/class/block/$name")
		name=${name%/*} name=${name##*/} number=''
	fi
	[ ! -r "$sysfs/$name/dev" ] || [ -n "$number" ] || read -r number <"$sysfs/$name/dev"
	# One that is not in sysfs, or not any more.
	[ -n "$name" ] ||
		name=$(echo "$table" | sed -n "/^$number /{s/^[^ ]* \([^ ]*\) .*/\1/p;q;}")
}

# A node directly in /dev has the name of its device.
find_name() {
	node=''
	case $1 in
	/dev/mapper/*) name=${1#/dev/mapper/} ;;
	/dev/*/*) node=$1 ;;
	/dev/*) name=${1#/dev/} ;;
	*/*) node=$1 ;;
	*) name=$1 ;;
	esac
	if [ -n "$node" ] && [ ! -e "$node" ]; then
		name=${node##*/}
	elif [ -n "$node" ]; then
		[ -b "$node" ] || die "$node is no block device"
		number=$(stat -L -c '%t %T' "$node") || die "cannot look at $node"
		# shellcheck disable=SC2086 # two words
		set -- $number
		number=$((0x$1)):$((0x$2))
		return
	fi
	[ ! -d "/sys/class/block/$name" ] || return 0
	for dir in "$sysfs"/dm-*; do
		if [ "$(cat "$dir/dm/name" 2>/dev/null)" = "$name" ]; then
			name=${dir##*/}
			break
		fi
	done
}

# not_in_sysfs DEVICE: exit, unless md knows it nevertheless.
not_in_sysfs() {
	[ -z "$name" ] || ! echo "$table" | grep -q "^[^ ]* $name " || return 0
	[ -z "$name" ] || [ ! -d "/sys/class/block/$name" ] ||
		die "$name is neither an md device nor one of device mapper"
	echo "$1: there is no such device"
	if dmsetup info "$1" >/dev/null 2>&1; then
		echo "stays: device mapper has it, without a table: dmsetup remove $1"
	fi
	for dir in "$sysfs"/dm-*; do
		[ ! -d "$dir" ] || cat "$dir/dm/name" >/dev/null 2>&1 ||
			echo "${dir##*/} is being removed, and has no name any more"
	done
	exit 0
}

# All that it and its partitions can be recognised by: $names, $numbers, $hexes.
identify() {
	names=$name numbers=$number
	for dir in "$sysfs/$name/$name"*; do
		[ -r "$dir/partition" ] || continue
		read -r part <"$dir/dev"
		names="$names ${dir##*/}" numbers="$numbers $part"
	done
	# An older one of the same name, open somewhere, may have had another number.
	while read -r part old _; do
		if [ "$old" = "$name" ] && [ ! -e "/sys/dev/block/$part" ]; then
			is_one_of "$part" "$numbers" || numbers="$numbers $part"
		fi
	done <<-END
	$table
	END
	nodes=''
	for part in $names; do
		nodes="$nodes /dev/$part"
	done
	hexes=''
	for part in $numbers; do
		hexes="$hexes $(hex "$part")"
	done
}

# is_it PATH: is that a node of it?
is_it() {
	case $1 in
	/dev/*/*) ;;
	/dev/*) is_one_of "${1#/dev/}" "$names"; return ;;
	esac
	[ -b "$1" ] && is_one_of "$(stat -L -c '%t:%T' "$1" 2>/dev/null)" "$hexes"
}

# --- its state ---

# value FIELD LINE
value() {
	case " $2 " in
	*" $1="*) rest=${2#*"$1="}; echo "${rest%% *}" ;;
	esac
}

md_state() {
	state='' openers=0 hold=none
	if [ -r $devices ]; then
		while read -r part old line; do
			[ "$part" = "$number" ] || [ "$old" = "$name" ] || continue
			this=$(value state "$line") closing=''
			[ "$this $(value closing "$line")" != 'live 1' ] || closing=' closing,'
			echo "$old ($part): $this for $(value seconds "$line") s,$closing" \
				"diskseq $(value diskseq "$line")," \
				"references $(value references "$line")," \
				"opened $(value openers "$line"), hold $(value hold "$line")"
			openers=$((openers + $(value openers "$line")))
			if [ "$this" != gone ]; then
				state=$this hold=$(value hold "$line")
			elif [ -z "$state" ]; then
				state=gone
			fi
		done <<-END
		$table
		END
	elif [ -d "$sysfs/$name/md" ]; then
		state=live
		echo "$name ($number): there; $devices, which tells more, is not"
	elif [ -d "$sysfs/$name" ]; then
		state=dying
		echo "$name ($number): being deleted; $devices, which tells more, is not there"
	fi
}

md_stays() {
	[ "$state" = live ] || return 0
	array=$(cat "$sysfs/$name/md/array_state" 2>/dev/null)
	[ "${array:-clear}" = clear ] || hold=array
	case $hold in
	array) reason="it is an array ($array), until it is stopped" ;;
	until_stop) reason='made by its name, until it is stopped' ;;
	until_ioctl) reason='made by an open, until it is used or stopped' ;;
	*) return 0 ;;
	esac
	echo "stays: $reason: mdadm --stop /dev/$name"
}

# dmsetup tells how often the device is open; sysfs does not. A device that has
# lost its name in sysfs is being removed.
dm_state() {
	state='' openers=''
	[ -d "$sysfs/$name" ] || return 0
	if dm_name=$(cat "$sysfs/$name/dm/name" 2>/dev/null); then
		state=live
		[ "$(cat "$sysfs/$name/dm/suspended" 2>/dev/null)" != 1 ] || state=suspended
		info=$(dmsetup info -j "${number%:*}" -m "${number#*:}" 2>/dev/null)
		openers=$(echo "$info" | sed -n 's/^Open count: *//p')
	else
		state=removing dm_name='no name any more' info=''
	fi
	nodes="$nodes /dev/mapper/$dm_name"
	echo "$name ($number, $dm_name): $state${openers:+, opened $openers}"
}

dm_stays() {
	[ "$state" != removing ] || return 0
	case $info in
	*'(DEFERRED REMOVE)'*) echo "stays: until the last close, which removes it" ;;
	*) echo "stays: until it is removed: dmsetup remove $dm_name" ;;
	esac
}

# --- who keeps it ---

by_holders() {
	for dir in "$sysfs/$name" "$sysfs/$name/$name"*; do
		for path in "$dir"/holders/*; do
			[ -e "$path" ] || [ -L "$path" ] || continue
			upper=${path##*/}
			alias=$(cat "/sys/class/block/$upper/dm/name" 2>/dev/null)
			echo "kept: $upper${alias:+ ($alias)} is on ${dir##*/}"
		done
	done
}

# One process of each mount namespace tells what is mounted in it.
by_mounts() {
	stat -L -c '%i %n' /proc/[0-9]*/ns/mnt 2>/dev/null | sort -n -u -k 1,1 |
	while read -r _ path; do
		path=${path%/ns/mnt}
		while read -r _ _ part _ dir rest; do
			rest=${rest#* - }
			type=${rest%% *} rest=${rest#* }
			# Of a file system on several devices only the first is told.
			is_one_of "$part" "$numbers" ||
				is_one_of "${rest%% *}" "$nodes" || continue
			echo "kept: mounted on $dir ($type), as process ${path#/proc/} sees it"
		done 2>/dev/null <"$path/mountinfo"
	done
}

# A file system may be mounted where nobody sees it, or not be mounted any more
# and still not be gone.
by_file_systems() {
	for part in $names; do
		for path in /sys/fs/*/"$part"; do
			[ -d "$path" ] || continue
			path=${path#/sys/fs/}
			echo "kept: a file system (${path%%/*}) is on $part, mounted nowhere"
		done
	done
}

by_swap() {
	while read -r path type _; do
		[ "$type" != partition ] || ! is_it "$path" || echo "kept: swap is on it"
	done 2>/dev/null </proc/swaps
}

# Looking at a file may hang when the device does that it is on: nodes only.
by_loops() {
	for dir in /sys/block/loop*/loop; do
		{ read -r path <"$dir/backing_file"; } 2>/dev/null || continue
		case $path in /dev/*) ;; *) continue ;; esac
		! is_it "$path" || { dir=${dir%/loop}; echo "kept: ${dir##*/} is on it"; }
	done
}

# What a node is called tells nothing, so ask each descriptor for its number; but
# not a file server. As arguments of one command they may be too many.
by_processes() {
	printf '%s\0' /proc/[0-9]*/fd/* |
	LC_ALL=C xargs -0 stat -L $cached -c '%F|%t:%T|%n' 2>/dev/null |
	while IFS='|' read -r type part path; do
		[ "$type" = 'block special file' ] || continue
		is_one_of "$part" "$hexes" || continue
		fd=${path##*/} path=${path%/fd/*}
		comm=$(cat "$path/comm" 2>/dev/null)
		node=$(readlink "$path/fd/$fd") || continue
		case $node in
		*' (deleted)') node="$node, maybe an older device" ;;
		esac
		echo "kept: process ${path#/proc/} ($comm) has it open as $fd, $node"
	done
}

# --- who is at it ---

# chain TASK: where in the kernel a task is, the innermost function first
chain() {
	sed -n 's/^[^ ]* \([^+]*\).*/\1/p' "$1/stack" 2>/dev/null | sed ':a; N; $!ba; s/\n/ < /g'
}

# waits_of WHAT TASK: unless it is not in a system call
waits_of() {
	functions=$(chain "$2")
	[ -z "$functions" ] || echo "waits: $1 ${2##*/} ($(cat "$2/comm" 2>/dev/null)): $functions"
}

# A worker says in its name what it is at, in 31 characters.
by_workers() {
	case $kind in
	md) want=md_del-$name ;;
	dm) want=dm_remove-$number ;;
	esac
	want=$(printf '%.31s' "$want")
	for path in /proc/[0-9]*/comm; do
		{ read -r comm <"$path"; } 2>/dev/null || continue
		case $comm in
		kworker/*"+$want") waits_of worker "${path%/comm}" ;;
		esac
	done
}

# tasks_in FUNCTIONS [PID]: tasks that are in one of them, waiting
tasks_in() {
	# shellcheck disable=SC2086 # a pattern
	printf '%s\0' /proc/${2:-[0-9]*}/task/*/stack | xargs -0 grep -lsE " ($1)\+"
}

# by_callers md | dm | nascent: the threads that are in an ioctl of an md device, or a
# write to an attribute, and have that open; or that are in any ioctl of device mapper
# or make any md device, as nobody can see which device that is about.
by_callers() {
	case $1 in
	md)
		pids=$({
			echo "$processes" | sed -n 's/^kept: process \([0-9]*\) .*/\1/p'
			# shellcheck disable=SC2012 # busybox's find knows no -lname
			ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v "attr=-> $sysfs/$name/md/" '
				/^\/proc\// { split($0, part, "/") }
				index($0, attr) { print part[3] }'
		} | sort -u)
		for pid in $pids; do
			tasks_in 'blkdev_ioctl|compat_blkdev_ioctl|md_attr_store' "$pid"
		done ;;
	nascent)
		tasks_in 'md_alloc' ;;
	dm)
		tasks_in 'dm_ctl_ioctl|ctl_ioctl|dm_compat_ctl_ioctl' ;;
	esac |
	while read -r path; do
		# Who waits for events keeps nothing.
		grep -qs ' dev_wait+' "$path" || waits_of task "${path%/stack}"
	done
}

[ $# = 1 ] || { usage >&2; exit 2; }
case $1 in
-h | --help) usage; exit 0 ;;
-* | '') usage >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || die "only root can see who has a device open"

table=$(cat $devices 2>/dev/null)
find_device "$1"
# When it is being deleted it has no directory dm or md any more.
case $name in
dm-*) kind=dm ;;
*) kind=md ;;
esac
case $name in
dm-* | md*) [ -d "$sysfs/$name" ] || not_in_sysfs "$1" ;;
*) not_in_sysfs "$1" ;;
esac
identify

if [ $kind = md ]; then md_state; else dm_state; fi
if [ -z "$state" ]; then
	echo "$1: there is no such device"
	exit 0
fi

processes=$(by_processes)
mounts=$(by_mounts)
others=$(by_holders; by_swap; by_loops)
[ -n "$mounts" ] || mounts=$(by_file_systems)
seen=$(printf '%s\n%s\n%s\n' "$processes" "$mounts" "$others" | sed '/^$/d')
nr=$(echo "$seen" | grep -c .)
if [ "$nr" = 0 ] && [ "${openers:-0}" -gt 0 ]; then
	seen="kept: opened $openers time(s), by nobody who can be seen from here"
elif [ "${openers:-0}" -gt "$nr" ]; then
	seen="$seen
kept: opened $openers time(s), more than can be seen from here"
fi
waits=''
case $state in
removing) waits=$(by_workers; by_callers dm) ;;
live) [ $kind != md ] || waits=$(by_callers md) ;;
nascent) waits=$(by_callers nascent) ;;
dying)
	waits=$(by_workers)
	[ -n "$waits" ] || waits='waits: for a worker'
	waits=$(echo "$waits"; by_callers md)
	;;
esac
stays=$(${kind}_stays)
printf '%s\n%s\n%s\n' "$stays" "$seen" "$waits" | sed '/^$/d'
[ -z "$seen$waits" ] || exit 1
case $state in
live | suspended) echo "nothing keeps it from being stopped or removed" ;;
esac
