#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""report.py DIR: a table of DIR/bench.csv on stdout, plots as DIR/*.svg.

Of each metric the median over the rounds on base and patched, the spread (largest
less smallest, in percent of the median) and the ratio patched/base; growth as the
slope of a least squares fit of log(value) over log(n); then what was aimed at."""

import collections
import math
import os
import statistics
import subprocess
import sys

FORMS = ("icount", "clock")
KERNELS = ("base", "patched")
HEADS = {
    "icount": "icount: one CPU of 10^9 instructions a second, independent of the host",
    "clock": "clock: two CPUs, the host's clock",
}


def read(path):
    """The comments, and values[form, workload, n, metric][kernel] = [value...]."""
    notes, values = [], collections.defaultdict(lambda: collections.defaultdict(list))
    with open(path, encoding="ascii") as lines:
        for line in lines:
            if line.startswith("#"):
                notes.append(line[1:].strip())
            elif not line.startswith("form,"):
                form, kernel, _, workload, n, metric, value = line.strip().split(",")
                values[form, workload, int(n), metric][kernel].append(float(value))
    return notes, values


def middle(samples):
    return statistics.median(samples) if samples else None


def show(value):
    if value is None:
        return "-"
    if math.isinf(value):
        return "never"
    return f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def spread(samples):
    if not samples or len(samples) < 2 or math.isinf(max(samples)) or not middle(samples):
        return "-"
    return f"{100 * (max(samples) - min(samples)) / middle(samples):.1f}"


def ratio(base, patched):
    if not base or patched is None or math.isinf(base) and math.isinf(patched):
        return None
    return patched / base


def exponent(points):
    """The slope of log(value) over log(n)."""
    points = [(math.log(n), math.log(v)) for n, v in points if v and not math.isinf(v)]
    if len(points) < 2:
        return None
    x0 = statistics.mean(x for x, _ in points)
    y0 = statistics.mean(y for _, y in points)
    return (sum((x - x0) * (y - y0) for x, y in points)
            / sum((x - x0) ** 2 for x, _ in points))


class Results:
    def __init__(self, values):
        self.values = values

    def get(self, kernel, form, workload, n, metric):
        return middle(self.values.get((form, workload, n, metric), {}).get(kernel))

    def curve(self, kernel, form, workload, metric):
        return [(n, self.get(kernel, f, w, n, m)) for f, w, n, m in sorted(self.values)
                if (f, w, m) == (form, workload, metric)
                and self.get(kernel, f, w, n, m) is not None]

    def metrics(self, form):
        return list(dict.fromkeys((w, m) for f, w, _, m in self.values if f == form))

    def table(self, form):
        print(f"{'':36} {'n':>6} {'base':>10} {'patched':>10} {'ratio':>7} {'spread, %':>13}")
        for workload, metric in self.metrics(form):
            for n in sorted(k[2] for k in self.values if k[:2] == (form, workload) and k[3] == metric):
                samples = self.values[form, workload, n, metric]
                both = [middle(samples.get(k)) for k in KERNELS]
                quotient = ratio(*both)
                print(f"{workload + ' ' + metric:36} {n:>6} {show(both[0]):>10} {show(both[1]):>10} "
                      f"{'-' if quotient is None else format(quotient, '.3f'):>7} "
                      f"{spread(samples.get('base')):>6} {spread(samples.get('patched')):>6}")

    def growth(self, form):
        print(f"\n{'growth: cost ~ n^x':36} {'n':>12} {'base':>10} {'patched':>10}")
        for workload, metric in self.metrics(form):
            curves = [self.curve(k, form, workload, metric) for k in KERNELS]
            if min(map(len, curves)) < 3 or metric.endswith("_waits"):
                continue
            slopes = [exponent(c) for c in curves]
            if metric.endswith("_per_s"):
                # The cost of each, and the work is n of them.
                slopes = [1 - s for s in slopes]
            ns = [n for n, _ in curves[0]]
            print(f"{workload + ' ' + metric:36} {f'{min(ns)}-{max(ns)}':>12} "
                  f"{show(slopes[0]):>10} {show(slopes[1]):>10}")

    def targets(self):
        """(what, wanted, got, whether it is met)."""
        for phase in ("assemble", "stop"):
            curves = {k: self.curve(k, "icount", "members", phase + "_waits") for k in KERNELS}
            if not curves["patched"]:
                continue
            got = "; ".join(f"{k} " + ", ".join(f"{n}: {show(v)}" for n, v in c)
                            for k, c in curves.items())
            yield (f"grace periods of {phase}, by members", "the same", got,
                   len({v for _, v in curves["patched"]}) == 1)
        for form in FORMS:
            for workload, metric, wanted in (("churn", "useful_per_s", 5), ("parallel", "lives_per_s", 2)):
                curve = self.curve("patched", form, workload, metric)
                if not curve:
                    continue
                n, patched = curve[-1]
                got = ratio(self.get("base", form, workload, n, metric), patched)
                if got is not None:
                    yield (f"{workload} {metric}, {n}, {form}", f">= {wanted} x base",
                           f"{got:.2f} x", got >= wanted)
        for form in FORMS:
            curve = self.curve("patched", form, "table_n", "load_us")
            if len(curve) > 2:
                slope = exponent(curve)
                base = exponent(self.curve("base", form, "table_n", "load_us"))
                yield (f"dm load growth to {curve[-1][0]}, {form}", "<= 1.1",
                       f"{slope:.2f}, base {show(base)}", slope <= 1.1)
        for form in FORMS:
            for metric in ("open_us", "life_us"):
                both = [self.get("patched", form, "stuck", n, metric) for n in (0, 1)]
                if None not in both:
                    base = ratio(*[self.get("base", form, "stuck", n, metric) for n in (0, 1)])
                    yield (f"another's {metric} while one is stuck, {form}", "<= 1.1 x healthy",
                           f"{both[1] / both[0]:.2f} x, base {show(base)}",
                           both[1] <= 1.1 * both[0])
        costs = {m: ratio(*(self.get(k, "icount", "io", 4096, m) for k in KERNELS))
                 for _, w, _, m in self.values if w == "io" and m.endswith("_insns")}
        costs = {m: c for m, c in costs.items() if c is not None}
        if costs:
            worst = max(costs, key=costs.get)
            yield ("instructions per 4 KiB of I/O", "<= base + 0.5 %",
                   f"at most {100 * (costs[worst] - 1):+.2f} % ({worst})", costs[worst] <= 1.005)
        life, floor = (self.get("patched", "icount", "lives", 1, m) for m in ("md_waits", "null_blk_waits"))
        if life is not None and floor:
            yield ("grace periods of a whole life", "<= 1.5 x null_blk's",
                   f"{show(life)} / {show(floor)}, base {show(self.get('base', 'icount', 'lives', 1, 'md_waits'))}",
                   life <= 1.5 * floor)

    def plot(self, out, name, title, ylabel, form, lines, floor=None):
        """One SVG: @lines are (workload, metric) of both kernels, @floor a value."""
        data, plots = "", []
        for i, (workload, metric) in enumerate(lines):
            for j, kernel in enumerate(KERNELS):
                curve = self.curve(kernel, form, workload, metric)
                if len(curve) < 2:
                    return
                data += f"$d{i}{j} << E\n" + "".join(f"{n} {v}\n" for n, v in curve) + "E\n"
                label = f"{workload} {metric}, {kernel}".replace("_", " ")
                plots.append(f"$d{i}{j} with linespoints lw 2 dt {1 if kernel == 'patched' else 2} "
                             f"lc {i + 1} pt {5 + 2 * j} title '{label}'")
        if floor is not None:
            plots.append(f"{floor} with lines lc 'gray' title 'floor: null blk'")
        yaxis = "set yrange [0:*]" if lines[0][1].endswith("_waits") else "set logscale y"
        script = (f"set terminal svg size 640,420 background 'white'\nset output '{out}/{name}.svg'\n"
                  f"set title '{title}'\nset xlabel 'N'\nset ylabel '{ylabel}'\nset key left top\n"
                  f"set logscale x 2\n{yaxis}\nset grid\n" + data + "plot " + ", ".join(plots) + "\n")
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


def main():
    out = sys.argv[1]
    notes, values = read(os.path.join(out, "bench.csv"))
    results = Results(values)
    print("\n".join(note for note in notes if not note.startswith("round ")))
    loads = [float(note.rsplit(" ", 1)[1]) for note in notes if note.startswith("round ")]
    print(f"the host's load when a VM was started: {min(loads)} to {max(loads)}\n")
    for what, wanted, got, met in results.targets():
        print(f"{'met    ' if met else 'NOT MET'} {what}: {got} (wanted: {wanted})")
    for form in FORMS:
        if results.metrics(form):
            print(f"\n{HEADS[form]}")
            results.table(form)
            results.growth(form)
    floor = results.get("patched", "icount", "lives", 1, "null_blk_waits")
    results.plot(out, "waits", "Grace periods of a raid1 of N members", "waits", "icount",
                 [("members", "assemble_waits"), ("members", "stop_waits")], floor)
    results.plot(out, "members", "A raid1 of N members", "us", "icount",
                 [("members", "assemble_us"), ("members", "stop_us")],
                 results.get("patched", "icount", "lives", 1, "null_blk_us"))
    results.plot(out, "table", "A dm table of N devices", "us", "icount",
                 [("table_n", "load_us"), ("table_n", "remove_us")])
    results.plot(out, "arrays", "Arrays made and stopped", "a second", "icount",
                 [("serial", "lives_per_s"), ("parallel", "lives_per_s")])


main()
