#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Line and branch coverage of single files, from what a kernel with gcov left.

usage: coverage.py BUILD_DIR SOURCE_DIR FILE=OBJECT...

Each FILE is counted as it was compiled into OBJECT: a header is only seen in
the object whose code is meant to test it. Lines and branches that were never
taken are listed with their text. Branches of lines that begin with one of HOOKS
are not counted: only a kernel for tests has them.
"""

import json
import os
import subprocess
import sys

HOOKS = ("KUNIT_STATIC_STUB_REDIRECT(",)


def gcov(build, obj):
    """What gcov has to tell about one object."""
    out = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", obj],
                         cwd=build, check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def read(build, file, obj):
    """{line: (count, [count of each branch])}; every inlined copy adds to it."""
    lines = {}
    for entry in gcov(build, obj)["files"]:
        if not entry["file"].endswith(file):
            continue
        for line in entry["lines"]:
            count, branches = lines.get(line["line_number"], (0, []))
            new = [branch["count"] for branch in line["branches"]]
            if branches and new and len(branches) == len(new):
                branches = [a + b for a, b in zip(branches, new)]
            else:
                branches = branches + new
            lines[line["line_number"]] = (count + line["count"], branches)
    if not lines:
        sys.exit(f"error: gcov knows no line of {file} in {obj}")
    return lines


def percent(taken, of):
    """7 of 8 (87.5 %)"""
    return f"{taken} of {of} ({100 * taken / of:.1f} %)" if of else "none"


def report(build, source, file, obj):
    """Print the numbers of one file, and what is missing."""
    with open(os.path.join(source, file), encoding="utf-8") as text:
        text = [line.strip() for line in text]
    lines = read(build, file, obj)
    hit = taken = branches = 0
    missing = []
    for number, (count, counts) in sorted(lines.items()):
        where = f"  {file}:{number}:"
        if count:
            hit += 1
        else:
            missing.append(f"{where} never executed: {text[number - 1]}")
        if text[number - 1].startswith(HOOKS):
            continue
        branches += len(counts)
        taken += sum(1 for n in counts if n)
        if count and not all(counts):
            never = sum(1 for n in counts if not n)
            missing.append(f"{where} {never} of {len(counts)} branches not taken: "
                           f"{text[number - 1]}")
    print(f"{file}: lines {percent(hit, len(lines))}, branches {percent(taken, branches)}")
    print("\n".join(missing), end="\n" if missing else "")


def main():
    """See the usage above."""
    build, source, *pairs = sys.argv[1:]
    for pair in pairs:
        report(build, source, *pair.split("="))


main()
