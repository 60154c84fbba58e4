#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# virtme-ng.sh: build a kernel with virtme-ng in a tree that has the series, and run
# the selftests in it, over the root file system of this machine, which stays as it is.
# That has to have udevd, mdadm and dmsetup. Without KVM: DISABLE_KVM=1.

set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
vng --build --config tools/testing/selftests/md-lifecycle/config
make headers
make -C tools/testing/selftests TARGETS=md-lifecycle install INSTALL_PATH="$dir"
vng --run --user root --cpus 2 --memory 2G ${DISABLE_KVM:+--disable-kvm} \
	--exec "cd '$dir' && ./run_kselftest.sh -c md-lifecycle"
