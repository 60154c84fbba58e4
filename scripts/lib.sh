# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Shared by the scripts in this directory: paths, messages, progress, packages.

set -euo pipefail

TOP=${SERIES_TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)} # SERIES_TOP: test-series
BUILD=${BUILD:-$TOP/build}
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/md-lifecycle
SELFTEST=tools/testing/selftests/md-lifecycle
# shellcheck disable=SC2034 # used by the scripts that source this file
AUTHOR_NAME='md-lifecycle developers' AUTHOR_MAIL='md-lifecycle@localhost'
export BUILD CACHE SELFTEST

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root: everything that mounts, boots or installs wants it.
need_root() { [ "$(id -u)" = 0 ] || die "must be root: $1"; }

# need_space DIR MiB
need_space() {
	local have
	mkdir -p "$1"
	have=$(df --output=avail -m "$1" | tail -n 1)
	[ "$have" -ge "$2" ] || die "no space: $1 has $have MiB free, $2 MiB needed"
}

# need COMMAND[=PACKAGE]...: install from Debian what is not there. A command
# given as a path to a file (a header, a library's .pc) is looked for as is.
need() {
	local arg cmd packages=()
	for arg in "$@"; do
		cmd=${arg%%=*}
		case $cmd in
		/*) [ -e "$cmd" ] && continue ;;
		*) command -v "$cmd" >/dev/null && continue ;;
		esac
		packages+=("${arg#*=}")
	done
	[ ${#packages[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing: ${packages[*]}; as root: apt-get install ${packages[*]}"
	command -v apt-get >/dev/null || die "missing: ${packages[*]}, and no apt-get to install them"
	if ! apt_install "${packages[@]}"; then
		step "update the package lists" apt-get update
		apt_install "${packages[@]}" ||
			die "apt-get could not install ${packages[*]}; see $BUILD/log/install-packages.log"
	fi
}

apt_install() {
	mkdir -p "$BUILD/log"
	say "installing: $*"
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
		>"$BUILD/log/install-packages.log" 2>&1
}

# step LABEL COMMAND...: run a long command with its output in build/log, and
# say every few seconds what runs, how far it is (the shell function named in
# HOW_FAR, given the log) and for how long. A failure shows the log's end.
step() {
	local label=$1 log start pid now last=0 every=10 rc=0
	shift
	mkdir -p "$BUILD/log"
	log=$BUILD/log/$(tr -cs 'a-zA-Z0-9.\n' - <<<"$label").log
	start=$SECONDS
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		now=$((SECONDS - start))
		if [ $((now - last)) -ge $every ]; then
			last=$now
			say "  $label: ${now} s${HOW_FAR:+, $("$HOW_FAR" "$log")}"
		fi
		sleep 0.2
	done
	wait "$pid" || rc=$?
	if [ "$rc" != 0 ]; then
		tail -n 40 "$log" >&2
		say "error: $label failed (exit $rc) after $((SECONDS - start)) s; the log is $log"
		return "$rc"
	fi
	say "  $label: done in $((SECONDS - start)) s"
}
