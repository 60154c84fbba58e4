# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Shared by the scripts that handle the series: git without anybody's
# configuration, reading patches/series, and git am with errors that name patch
# and hunk. Needs lib.sh first.

# shellcheck source=../base/pin
. "$TOP/base/pin"

LINUX=$BUILD/linux
# What "make tree" left in build/linux: checksum of the mails, commit.
STATE=$LINUX/.git/md-lifecycle-series
# Directories of the repository that are its own, not the kernel's.
OWN_DIRS='base|bench|build|patches|scripts|.ci|.git'
export LINUX STATE

# own_git: from here on git depends on nothing but this. Not for the user's tree.
own_git() {
	local setting n=0
	unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_CONFIG_PARAMETERS GIT_COMMITTER_DATE GIT_AUTHOR_DATE
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_ATTR_NOSYSTEM=1 LC_ALL=C
	export GIT_AUTHOR_NAME=$AUTHOR_NAME GIT_AUTHOR_EMAIL=$AUTHOR_MAIL
	export GIT_COMMITTER_NAME=$AUTHOR_NAME GIT_COMMITTER_EMAIL=$AUTHOR_MAIL
	for setting in core.excludesFile=/dev/null core.attributesFile=/dev/null \
		core.hooksPath=/dev/null core.fsync=none core.autocrlf=false core.quotePath=false \
		core.warnAmbiguousRefs=false gc.auto=0 maintenance.auto=false commit.gpgSign=false \
		am.threeWay=false diff.noprefix=false diff.mnemonicPrefix=false diff.renames=false \
		diff.algorithm=histogram diff.indentHeuristic=true diff.context=3 \
		diff.interHunkContext=0 diff.external= apply.whitespace=nowarn \
		advice.detachedHead=false 'safe.directory=*'; do
		export "GIT_CONFIG_KEY_$n=${setting%%=*}" "GIT_CONFIG_VALUE_$n=${setting#*=}"
		n=$((n + 1))
	done
	export GIT_CONFIG_COUNT=$n
}

# scratch: a directory in $SCRATCH that goes when the script ends.
scratch() {
	SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/md-lifecycle.XXXXXX")
	trap 'rm -rf "$SCRATCH"' EXIT
}

# kernel_version DIR: 7.3.4, out of its Makefile.
kernel_version() {
	[ -f "$1/Makefile" ] || return 1
	awk '$1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { p = $3 } $1 == "SUBLEVEL" { s = $3 }
	     $1 == "EXTRAVERSION" { e = $3; exit }
	     END { if (v == "" || p == "") exit 1; printf "%s.%s%s%s\n", v, p, (s != "" && s != 0) ? "." s : "", e }' "$1/Makefile"
}

# series_is_empty: no patch yet in patches/series.
series_is_empty() {
	! grep -qsE '^[^[:space:]#]' "$TOP/patches/series"
}

# read_series: patches/series into PATCHES (names), NEW_FILES (paths, in order)
# and BROUGHT_BY (path -> index of its patch), each line checked.
declare -a PATCHES NEW_FILES
declare -A BROUGHT_BY
read_series() {
	local dir=$TOP/patches line path
	local -A seen
	PATCHES=() NEW_FILES=() BROUGHT_BY=()
	[ -f "$dir/series" ] || die "no $dir/series"
	while IFS= read -r line || [ -n "$line" ]; do
		[[ $line =~ ^[[:space:]]*(#.*)?$ ]] && continue
		if [[ $line != [[:space:]]* ]]; then
			[ -f "$dir/$line" ] || die "patches/series: $line: no such file in patches/"
			[ -z "${seen[$line]:-}" ] || die "patches/series: $line is listed twice"
			seen[$line]=1
			PATCHES+=("$line")
			continue
		fi
		path=${line#"${line%%[![:space:]]*}"}
		[ ${#PATCHES[@]} -gt 0 ] || die "patches/series: $path comes before any patch"
		[ -z "${BROUGHT_BY[$path]:-}" ] ||
			die "patches/series: $path is listed twice, by ${PATCHES[BROUGHT_BY[$path]]} and ${PATCHES[-1]}"
		kernel_path "$path" || die "patches/series: $path: not a path for new kernel files"
		[ -f "$TOP/$path" ] || [ -L "$TOP/$path" ] ||
			die "patches/series: ${PATCHES[-1]} brings $path, which is missing"
		BROUGHT_BY[$path]=$((${#PATCHES[@]} - 1))
		NEW_FILES+=("$path")
	done <"$dir/series"
	[ ${#PATCHES[@]} -gt 0 ] || die "no patches: $dir/series names none"
	for path in "$dir"/*.patch; do
		[ -n "${seen[${path##*/}]:-}" ] || die "patches/${path##*/} is not in patches/series"
	done
	while IFS= read -r path; do
		[ -n "${BROUGHT_BY[$path]:-}" ] || die "$path is a new file that no patch brings: list it in patches/series"
	done < <(kernel_files)
}

# kernel_path PATH: may a new file of the series lie there?
kernel_path() {
	[[ $1 == */* && $1 != /* && ! $1 =~ ^($OWN_DIRS)/ && ! $1 =~ (^|/)\.\.?(/|$) && ! $1 =~ //|[[:space:]*?\[\\] ]]
}

# kernel_files: every file under the repository's kernel directories, without
# what .gitignore files name.
kernel_files() {
	local path
	if [ "$(git -C "$TOP" rev-parse --show-prefix 2>&1)" = "" ]; then
		git -C "$TOP" ls-files -co --exclude-standard
	else
		(cd "$TOP" && find . \( -type f -o -type l \) -printf '%P\n')
	fi | sort -u | while IFS= read -r path; do
		kernel_path "$path" && [ -e "$TOP/$path" ] && printf '%s\n' "$path"
	done || true
}

# mails_key DIR: checksum of the mails in DIR, the cover letter left out.
mails_key() {
	(cd "$1" && sha256sum -- *.patch | grep -v ' 0000-' | sha256sum | cut -d ' ' -f 1)
}

# hunk_at DIFF FILE LINE SIDE: the @@ line of FILE's hunk that starts at LINE of
# the old (SIDE is -) or the new (+) text.
hunk_at() {
	awk -v file="$2" -v line="$3" -v side="$4" '
		/^diff --git / { in_file = 0 }
		/^--- a\// || /^\+\+\+ b\// { if (substr($0, 7) == file) in_file = 1 }
		in_file && /^@@ / {
			split($(side == "-" ? 2 : 3), at, /[-+,]/)
			if (at[2] == line) { print; exit }
		}' "$1"
}

# misfit DIFF SIDE ERRORS: one phrase that says which file and hunk git apply
# or git am could not use, out of what it printed.
misfit() {
	local line file at
	line=$(grep -m 1 '^error: ' "$3") || line=$(grep -m 1 . "$3") || line='no reason given'
	line=${line#error: }
	if [[ $line =~ ^patch\ failed:\ (.*):([0-9]+)$ ]]; then
		file=${BASH_REMATCH[1]}
		at=$(hunk_at "$1" "$file" "${BASH_REMATCH[2]}" "$2")
		line="$file, hunk ${at:-at line ${BASH_REMATCH[2]}}"
	fi
	printf '%s\n' "$line"
}

# am_mails TREE MAILS_DIR [GIT_AM_OPTION...]: git am in TREE. On failure TREE is
# left as it was, and one line says which patch, file and hunk; exit 1.
# shellcheck disable=SC2034 # AM_ERROR is for the caller
am_mails() {
	local tree=$1 dir=$2 log n failed
	local -a mails
	shift 2
	mails=("$dir"/[0-9]*.patch)
	[[ ${mails[0]} != */0000-* ]] || mails=("${mails[@]:1}")
	log=$(mktemp)
	if git -C "$tree" am -q --no-3way --committer-date-is-author-date "$@" "${mails[@]}" >"$log" 2>&1; then
		rm -f "$log"
		return 0
	fi
	n=$(cat "$(cd "$tree" && git rev-parse --absolute-git-dir)/rebase-apply/next" 2>/dev/null) || n=
	if [ -n "$n" ]; then
		failed=${mails[n - 1]}
		AM_ERROR="${failed##*/} does not apply: $(misfit "$failed" - "$log")"
		git -C "$tree" am --abort >/dev/null 2>&1
	else
		AM_ERROR="git am: $(misfit /dev/null - "$log")"
	fi
	rm -f "$log"
	return 1
}

# am_mails_anyhow TREE MAILS_DIR: the same, and where a neighbouring line differs,
# as it may on another release than the base, with one line of context (git am
# -C1). AM_HOW says if that was needed.
# shellcheck disable=SC2034 # AM_HOW is for the caller
am_mails_anyhow() {
	AM_HOW=''
	! am_mails "$1" "$2" || return 0
	AM_HOW=', with git am -C1'
	am_mails "$1" "$2" -C1
}

# am_in_clone REPO COMMIT MAILS_DIR CLONE: the series on COMMIT of REPO, in a new
# shared clone without a full checkout; REPO and its files are not touched.
am_in_clone() {
	local repo=$1 commit=$2 dir=$3 clone=$4
	commit=$(git -C "$repo" rev-parse "$commit^{commit}")
	git clone -q --shared --no-checkout "$repo" "$clone"
	git -C "$clone" update-ref --no-deref HEAD "$commit"
	mkdir -p "$clone/.git/info"
	# At the top of a repository: below it git apply leaves out other directories.
	dir=$(cd "$dir" && pwd)
	git -C "$clone" apply --numstat "$dir"/*.patch 2>/dev/null | cut -f 3- | sed 's|^|/|' | sort -u \
		>"$clone/.git/info/sparse-checkout"
	git -C "$clone" config core.sparseCheckout true
	git -C "$clone" read-tree -mu HEAD
	am_mails "$clone" "$dir"
}
