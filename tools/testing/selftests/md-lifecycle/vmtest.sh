#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boot a kernel in QEMU with a Debian-like root image, run the md-lifecycle
# selftests in it (or one of them, or a command, or a shell), and exit with
# their status. The VM has eight empty virtio disks, vdc to vdj. KTAP goes to
# stdout; the kernel's messages go to a log, which is searched for WARNING,
# BUG, lockdep, KASAN and the like, and kept when something went wrong.

set -u

KSFT_SKIP=4
here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<END
Usage: vmtest.sh [OPTIONS]
  -k IMAGE    kernel image (default: arch/x86/boot/bzImage of this tree)
  -I FILE     initrd, for a kernel that needs one to find the root image
  -r IMAGE    root image: squashfs or ext4 with a Debian-like userland
  -i DIR      installed kselftests: make -C tools/testing/selftests
              TARGETS=md-lifecycle install INSTALL_PATH=DIR (default: where
              this script is installed)
  -t NAME     run only this test program (may be repeated)
  -c COMMAND  run this bash command instead of the tests
  -s          give a shell instead
  -m DIR      modules: make modules_install INSTALL_MOD_PATH=DIR
  -f FILE     put FILE into the VM's /tests directory (may be repeated)
  -e VAR=VAL  environment of the tests or the command (may be repeated)
  -u          without udevd
  -W          do not search the kernel's log for WARNING and the like
  -o FILE     write the results: pass|fail|xfail|skip, test, reason
  -l FILE     keep the kernel's log as FILE, whatever happens
  -T SECONDS  deadline for the whole VM (default 1800)
  -O SECONDS  deadline for each test program (default: as in "settings")
  -H SECONDS  the VM hangs when nothing was printed for so long (default 180)
  -a WORDS    more words for the kernel's command line (may be repeated)
  -M MiB      memory (default 2048)
  -q WORDS    more words for QEMU, which override: "-smp 1" (may be repeated)
MD_LIFECYCLE_ACCEL=kvm|tcg: do not try KVM, use this.
END
}

kernel='' initrd='' root='' install='' modules='' log='' results='' command='' append=''
shell=0 udevd=1 scan=1 memory=2048 deadline=1800 timeout='' silence=180
tests=() files=() env=() qemu_words=()
while getopts k:I:r:i:t:c:sm:f:e:uWo:l:T:O:H:a:M:q:h opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	I) initrd=$OPTARG ;;
	r) root=$OPTARG ;;
	i) install=$OPTARG ;;
	t) tests+=("${OPTARG#md-lifecycle:}") ;;
	c) command=$OPTARG ;;
	s) shell=1 ;;
	m) modules=$OPTARG ;;
	f) files+=("$OPTARG") ;;
	e) env+=("$OPTARG") ;;
	u) udevd=0 ;;
	W) scan=0 ;;
	o) results=$OPTARG ;;
	l) log=$OPTARG ;;
	T) deadline=$OPTARG ;;
	O) timeout=$OPTARG ;;
	H) silence=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	M) memory=$OPTARG ;;
	q) read -ra words <<<"$OPTARG"; qemu_words+=(${words[@]+"${words[@]}"}) ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 1 ;;
	esac
done

skip() { echo "1..0 # SKIP $*"; exit $KSFT_SKIP; }
say() { echo "# $*"; }

: "${kernel:=$here/../../../../arch/x86/boot/bzImage}"
: "${root:=$here/rootfs.img}"
[ -n "$install" ] || [ ! -e "$here/../run_kselftest.sh" ] || install=$here/..
command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64 here"
[ -r "$kernel" ] || skip "no kernel image $kernel (option -k)"
[ -z "$initrd" ] || [ -r "$initrd" ] || skip "no initrd $initrd (option -I)"
[ -r "$root" ] || skip "no root image $root (option -r)"
[ -n "$install" ] || [ -n "$command" ] || [ $shell = 1 ] ||
	skip "no installed kselftests (option -i)"
[ -z "$install" ] || [ -x "$install/run_kselftest.sh" ] ||
	skip "no run_kselftest.sh in $install (option -i)"
[ -z "$modules" ] || [ -d "$modules/lib/modules" ] ||
	skip "no modules in $modules (option -m)"

work=$(mktemp -d "${TMPDIR:-/tmp}/vmtest.XXXXXX")
serial=$work/serial.log
qemu_pid=''

# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[ -z "$qemu_pid" ] || kill -9 "$qemu_pid" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# /dev/kvm may be there and open, and yet no guest ever starts: boot one.
kvm_works() {
	local pid i rc=1
	[ -w /dev/kvm ] || return 1
	qemu-system-x86_64 -accel kvm -cpu host -m 512 -nodefaults -display none \
		-no-reboot -kernel "$kernel" -append 'console=ttyS0 panic=-1' \
		-serial "file:$work/kvm.log" >/dev/null 2>&1 &
	pid=$!
	for ((i = 0; i < 25; i++)); do
		sleep 0.2
		grep -qs 'Linux version' "$work/kvm.log" && rc=0 && break
		kill -0 "$pid" 2>/dev/null || break
	done
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	return $rc
}

# What to run, with the tests, as a tar on the second disk.
make_tests_image() {
	local t v args=()
	{
		printf 'VM_UDEVD=%s\nVM_SHELL=%s\n' "$udevd" "$shell"
		[ $shell = 0 ] || printf 'VM_TTY_SIZE=%q\nTERM=%q\n' \
			"$(stty size 2>/dev/null)" "${TERM:-linux}"
		for v in ${env[@]+"${env[@]}"}; do
			printf '%s=%q\n' "${v%%=*}" "${v#*=}"
		done
	} >"$work/vm-env"
	if [ -n "$command" ]; then
		printf '%s\n' "$command"
	else
		args=(-c md-lifecycle)
		[ ${#tests[@]} = 0 ] || args=()
		for t in ${tests[@]+"${tests[@]}"}; do
			args+=(-t "md-lifecycle:$t")
		done
		printf './run_kselftest.sh %s\n' "${timeout:+-o $timeout }${args[*]}"
	fi >"$work/vm-cmd"
	cp "$here/vm-init.sh" "$work/vm-init.sh"
	chmod 755 "$work/vm-init.sh"
	[ ${#files[@]} = 0 ] || cp "${files[@]}" "$work/" || return 1
	files=(vm-env vm-cmd vm-init.sh ${files[@]+"${files[@]##*/}"})
	args=(-C "$work" "${files[@]}")
	[ -z "$install" ] || args+=(-C "$(realpath "$install")" .)
	[ -z "$modules" ] || args+=(-C "$(realpath "$modules")/lib" modules)
	tar -cf "$work/tests.img" --owner=0 --group=0 "${args[@]}"
}

disk() { # NUMBER FILE [OPTIONS]
	qemu+=(-drive "if=none,id=d$1,file=$2,format=raw,cache=unsafe${3:+,$3}"
		-device "virtio-blk-pci,drive=d$1,serial=disk$1")
}

start_vm() {
	local i qemu=(qemu-system-x86_64 -accel "$accel" -smp 2 -m "$memory" -nodefaults
		-no-user-config -display none -no-reboot -device virtio-rng-pci
		-device virtio-serial-pci)

	# Without KVM a copy byte by byte takes seconds where code was in that memory.
	if [ "$accel" = kvm ]; then qemu+=(-cpu host); else qemu+=(-cpu "max,erms=off,fsrm=off"); fi
	qemu+=(${qemu_words[@]+"${qemu_words[@]}"})
	disk 0 "$root" readonly=on
	disk 1 "$work/tests.img" readonly=on
	for ((i = 2; i < 10; i++)); do
		truncate -s 256M "$work/disk$i"
		disk $i "$work/disk$i"
	done
	# "con" takes Ctrl-A b (a break, for sysrq) from the fifo.
	mkfifo "$work/keys"
	exec 5<>"$work/keys"
	if [ $shell = 1 ]; then
		qemu+=(-chardev "file,id=con,path=$serial" -chardev "stdio,id=out,signal=off")
	else
		qemu+=(-chardev "stdio,id=con,mux=on,signal=off"
			-chardev "file,id=out,path=$work/out")
	fi
	# no_timer_check: on a busy host the kernel finds that its timer does not tick
	qemu+=(-serial chardev:con -serial "file:$work/status" -device "virtconsole,chardev=out"
		-kernel "$kernel"
		-append "console=ttyS0 panic=-1 no_timer_check root=/dev/vda ro$append \
init=/bin/sh -- -c \"mount -t devtmpfs dev /dev; mount -t tmpfs -o size=75% tests /mnt && \
tar -xf /dev/vdb -C /mnt && exec /mnt/vm-init.sh\"")
	[ -z "$initrd" ] || qemu+=(-initrd "$initrd")
	: >"$serial"
	: >"$work/out"
	if [ $shell = 1 ]; then
		"${qemu[@]}" 2>"$work/qemu.err"
	else
		"${qemu[@]}" <&5 >"$serial" 2>"$work/qemu.err" &
		qemu_pid=$!
	fi
}

# Ask for blocked and running tasks in the log before the end.
autopsy() {
	local key
	for key in w t l; do
		printf '\001b%s' "$key" >&5
		sleep 3
	done
}

# Wait for the VM; say why it had to be killed.
watch_vm() {
	local start=$SECONDS last=$SECONDS size old=''
	while kill -0 "$qemu_pid" 2>/dev/null; do
		sleep 0.3
		size=$(stat -c %s "$serial" "$work/out")
		if [ "$size" != "$old" ]; then
			old=$size
			last=$SECONDS
		fi
		if [ $((SECONDS - last)) -ge "$silence" ]; then
			hang="nothing printed for $silence s"
		elif [ $((SECONDS - start)) -ge "$deadline" ]; then
			hang="not done after $deadline s"
		else
			continue
		fi
		autopsy
		kill -9 "$qemu_pid" 2>/dev/null
		break
	done
	wait "$qemu_pid" 2>/dev/null
	qemu_pid=''
}

# The leaf results in KTAP of run_kselftest.sh, one a line: result, test,
# reason; a program without leaf results counts as one test.
count_results() {
	awk '
	function result(status, name, why) { printf "%s\t%s\t%s\n", status, name, why }
	function directive(word, line) { return match(line, "# " word "( |$)") }
	function after(line) { return substr(line, RSTART + RLENGTH) }
	{ sub(/\r$/, "") }
	/^# selftests: / { prog = $NF; leaves = failed = plan = 0; why = ""; next }
	/^# 1\.\.[0-9]+/ {
		plan = substr($2, 4) + 0
		if (directive("SKIP", $0)) why = after($0)
		next
	}
	/^# (not )?ok [0-9]+ / {
		leaves++
		line = $0
		sub(/^# (not )?ok [0-9]+ /, "", line)
		name = line
		sub(/ *#.*/, "", name)
		sub(/^- /, "", name)
		name = prog "." (name == "" ? leaves : name)
		if ($2 == "not") {
			failed++
			sub(/^[^#]*(#  *)?/, "", line)
			result("fail", name, line)
		} else if (directive("SKIP", line)) result("skip", name, after(line))
		else if (directive("XFAIL", line)) result("xfail", name, after(line))
		else result("pass", name, "")
		next
	}
	/^(not )?ok [0-9]+ selftests: / {
		if (!leaves && directive("SKIP", $0))
			result("skip", prog, why == "" ? after($0) : why)
		else if (!leaves && $1 == "ok")
			result("pass", prog, "")
		else if (directive("TIMEOUT", $0))
			result("fail", prog, "timeout")
		else if (plan > leaves)
			result("fail", prog, "stopped after " leaves " of " plan " tests")
		else if ($1 == "not" && !failed)
			result("fail", prog, match($0, "exit=[0-9]*") ? substr($0, RSTART) : "")
		prog = ""
	}
	END { if (prog != "") result("fail", prog, "the VM ended in this test") }'
}

trouble='WARNING:|BUG:|UBSAN:|ODEBUG:|Oops|general protection|refcount_t:'
trouble+='|possible (circular|recursive) locking|DEBUG_LOCKS_WARN|list_(add|del) corruption'
trouble+='|blocked for more than|hung task|detected stalls?|soft lockup|Kernel panic'
trouble+='|kmemleak: .*disabled|^unreferenced object'

# The first report of trouble in the kernel's log, 30 lines of it.
scan_log() {
	awk -v trouble="$trouble" '
	!start && $0 ~ trouble { start = NR }
	start && NR < start + 30 { print "#   " $0 }
	END { exit !start }'
}

accel=${MD_LIFECYCLE_ACCEL:-}
if [ -z "$accel" ]; then
	if kvm_works 2>/dev/null; then accel=kvm; else accel=tcg,thread=multi; fi
fi
make_tests_image || { echo "error: cannot make the image with the tests in $work" >&2; exit 1; }
hang=''
start_vm
if [ $shell = 0 ]; then
	tail -n +1 -s 0.2 -f --pid="$qemu_pid" "$work/out" &
	tail_pid=$!
	watch_vm 2>/dev/null
	wait "$tail_pid"
fi

status=$(sed -n 's/^exit \([0-9]*\).*/\1/p' "$work/status" 2>/dev/null)
rc=${status:-1} failed=0
if [ -s "$work/qemu.err" ] && ! [ -s "$serial" ]; then
	say "QEMU does not start: $(head -n 1 "$work/qemu.err")"
elif ! grep -q 'vm-init: up' "$serial"; then
	say "the kernel $kernel does not boot${hang:+, $hang}; the end of its log:"
elif [ -n "$hang" ]; then
	say "VM hangs: $hang; the end of its log before tasks were asked for:"
elif [ -z "$status" ]; then
	say "the kernel went down; the end of its log:"
fi
if [ -z "$status" ]; then
	failed=1
	sed '/sysrq: Show Blocked State/q' "$serial" | tail -n 40 | sed 's/\r$//; s/^/#   /'
fi
if [ $scan = 1 ] && [ -z "$hang" ] && sed 's/\r$//' "$serial" | scan_log >"$work/report"; then
	failed=1
	[ "$rc" != 0 ] || rc=1
	say "the kernel's log has:"
	cat "$work/report"
fi
if [ -z "$command" ] && [ $shell = 0 ]; then
	{
		count_results <"$work/out"
		if [ -z "$status" ]; then
			printf 'fail\tkernel\t%s\n' "${hang:-the kernel went down}"
		elif [ $failed = 1 ]; then
			printf 'fail\tkernel\t%s\n' "reports trouble in its log"
		fi
	} >"$work/results"
	awk -F '\t' '{ n[$1]++ } END {
		if (n["xfail"]) printf "xfail: %d\n", n["xfail"]
		printf "%d passed, %d failed, %d skipped\n",
			n["pass"] + n["xfail"], n["fail"], n["skip"] }' "$work/results"
	[ -z "$results" ] || cp "$work/results" "$results"
	if grep -q '^fail' "$work/results"; then
		rc=1
	elif [ "$rc" = 0 ] && ! grep -q '^[px]' "$work/results"; then
		rc=$KSFT_SKIP
	fi
fi
if [ -z "$log" ] && [ $shell = 0 ] && [ "$rc" != 0 ] && [ "$rc" != $KSFT_SKIP ]; then
	log=${TMPDIR:-/tmp}/vmtest-$$.log
fi
if [ -n "$log" ]; then
	sed 's/\r$//' "$serial" >"$log"
	[ "$rc" = 0 ] || say "the kernel's log is $log"
fi
exit "$rc"
