# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Shared by the scripts that run tests of many kinds: counts over all of them,
# and what failed, again at the end. Needs lib.sh.

passed=0 failed=0 skipped=0
failures=()

# What failed in a program of selftests, and why, again where that program ends:
# there may be thousands of lines between.
failed_again() {
	perl -ne '
		BEGIN { $| = 1; $said = $bad = "" }
		print;
		$said = "" if /^# #  RUN /;
		$said .= "# failed: $1" if /^# # ([a-z_]+\.c:\d+:.*)/s;
		$bad .= $said . "# failed: $1" if /^# (not ok.*)/s;
		print $bad if /^not ok/;
		$bad = "" if /^(not )?ok/'
}

# suite NAME COMMAND...: adds the counts of its last line that has them; a
# suite without counts is one test.
suite() {
	local name=$1 rc=0 counts p f s start=$SECONDS out=$BUILD/log/suite
	shift
	mkdir -p "$BUILD/log"
	echo "== $name"
	"$@" 2>&1 | failed_again | tee "$out" || rc=${PIPESTATUS[0]}
	counts=$(grep -E '^(# )?[0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1 || true)
	if [ -n "$counts" ]; then
		read -r p f s < <(sed -E 's/^(# )?([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?.*/\2 \3 \5/' <<<"$counts")
		[ "$rc" = 0 ] || [ "$rc" = 4 ] || [ "$f" != 0 ] || f=1
	elif [ "$rc" = 0 ]; then
		p=1 f=0 s=0
	else
		p=0 f=1 s=0
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
	[ "$f" = 0 ] || failures+=("$name:" "$(grep -E '^(not ok|# failed: |FAIL|# VM hangs|# the kernel)' "$out" || tail -n 5 "$out")")
	say "   $name: $((SECONDS - start)) s"
}

# all_suites: the counts over all, and whether nothing failed
all_suites() {
	echo
	[ ${#failures[@]} = 0 ] || printf '%s\n' "what failed, again:" "${failures[@]}"
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}
