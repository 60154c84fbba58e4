# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Packages of suites other than this machine's from Debian's archive, by an apt
# configuration of our own under build/apt; and a cache of the kernel source
# packages. Needs lib.sh and base/pin.

PACKAGES=$CACHE/base

# sha256_is FILE SUM
sha256_is() { [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$2" ]; }

# apt_setup SUITE...: package lists of these suites, and APT to use them with.
apt_setup() {
	local dir=$BUILD/apt suite
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	need apt-get=apt
	need "$keyring=debian-archive-keyring"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	for suite in "$@"; do
		echo "deb [signed-by=$keyring] $DEBIAN_MIRROR $suite main"
	done >"$dir/sources.list"
	APT=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache"
		-o Dir::State::status=/dev/null -o APT::Sandbox::User=root
		-o APT::Update::Post-Invoke-Success= -o Acquire::http::Timeout=20 -o Acquire::Retries=1)
	apt-get "${APT[@]}" -o APT::Update::Error-Mode=any update >"$dir/update.log" 2>&1 ||
		say "no archive: $DEBIAN_MIRROR $*: $(grep -m 1 -E '^(E|W|Err)' "$dir/update.log"); check the network"
}

# newest_package NAME: the newest version that is no release candidate.
newest_package() {
	local version best=
	while read -r version; do
		[[ $version == *~rc* ]] && continue
		[ -n "$best" ] && dpkg --compare-versions "$version" le "$best" || best=$version
	done < <(apt-cache "${APT[@]}" madison "$1" 2>/dev/null | awk '{ print $3 }')
	[ -n "$best" ] && printf '%s\n' "$best"
}

# cached_package NAME: the newest sound package in the cache; damaged ones go.
cached_package() {
	local deb best=
	while IFS= read -r deb; do
		if [ -f "$deb.sha256" ] && sha256_is "$deb" "$(cat "$deb.sha256")"; then
			best=$deb
		else
			say "$deb: damaged (its checksum is not the one noted), removed"
			rm -f "$deb" "$deb.sha256"
		fi
	done < <(find "$PACKAGES" -name "$1_*.deb" 2>/dev/null | sort -V)
	[ -n "$best" ] && printf '%s\n' "$best"
}

# debian_source SERIES SUITE...: the path of a linux-source-SERIES package, from
# the cache or else from the archive.
debian_source() {
	local name=linux-source-$1 version sum deb
	shift
	deb=$(cached_package "$name") && { printf '%s\n' "$deb"; return; }
	apt_setup "$@"
	if ! version=$(newest_package "$name"); then
		say "no package $name in $DEBIAN_MIRROR, suites: $*"
		return 1
	fi
	need_space "$PACKAGES" 1000
	sum=$(apt-cache "${APT[@]}" show "$name=$version" | awk '$1 == "SHA256:" { print $2; exit }')
	[ "$version" != "$BASE_DEB_VERSION" ] || sum=$BASE_DEB_SHA256
	deb=$PACKAGES/${name}_${version}.deb
	if ! (cd "$BUILD/apt" && rm -f -- *.deb &&
		step "download $name $version" apt-get "${APT[@]}" download "$name=$version" >&2); then
		say "$name $version: download failed, see above; try again, or set LINUX_TARBALL or KDIR"
		return 1
	fi
	if ! sha256_is "$BUILD/apt/$name"_*.deb "$sum"; then
		say "$name $version: wrong checksum, not used; try again, or set LINUX_TARBALL or KDIR"
		return 1
	fi
	printf '%s\n' "$sum" >"$deb.sha256"
	mv "$BUILD/apt/$name"_*.deb "$deb"
	printf '%s\n' "$deb"
}

# debian_package NAME LEAST SUITE: download the newest NAME, version LEAST or
# newer, and say which; its path. apt checks it against the signed lists.
debian_package() {
	local name=$1 least=$2 suite=$3 version
	apt_setup "$suite"
	version=$(newest_package "$name") || version=''
	dpkg --compare-versions "${version:-0}" ge "$least" ||
		die "no package $name $least or newer in $DEBIAN_MIRROR $suite (there: ${version:-none}); check the network, or set MIRROR"
	(cd "$BUILD/apt" && rm -f -- "$name"_*.deb &&
		step "download $name $version" apt-get "${APT[@]}" download "$name=$version" >&2) ||
		die "$name $version: download failed, see above; try again, or set MIRROR"
	printf '%s\n' "$BUILD/apt/$name"_*.deb
}

# deb_tar DEB TAR_OPTION...: tar on the source tarball inside the package.
deb_tar() {
	local deb=$1 name
	shift
	name=${deb##*/}
	name=${name%%_*}
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$name.tar.xz" | xz -dc | tar "$@" -f -
}
