"""What is printed: medians, ratios within a round, and the targets."""

import os
import platform
import shlex
import statistics
import subprocess

LABELS = {"tar": "`tar \\| zstd -T0 \\| age`", "copy": "`cat`, `sync`"}


def median(results, step, tool, what="wall"):
    runs = results.get(step, {}).get(tool)
    return statistics.median(getattr(r, what) for r in runs) if runs else None


def ratios(results, step, others, what="wall"):
    """strongroom's time by the best other of the same round, for each round."""
    runs = [results.get(step, {}).get(name) for name in others]
    runs = [r for r in runs if r]
    ours = results.get(step, {}).get("strongroom")
    if not runs or not ours:
        return []
    best = [min(getattr(r[i], what) for r in runs) for i in range(len(ours))]
    return [getattr(a, what) / b for a, b in zip(ours, best)]


def spread(values):
    """The median, with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(results, sizes, many, options):
    print("\n| step | " + " | ".join(LABELS.get(t, t) for t in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for step in ("first", "nothing changed", "2 % changed", "restore"):
        cells = []
        for tool in sizes:
            wall = median(results, step, tool)
            if wall is None:
                cells.append("–")
                continue
            cpu, peak = median(results, step, tool, "cpu"), median(results, step, tool, "peak")
            cells.append(f"{wall:.2f} s ({cpu:.2f} s CPU, {peak:.0f} MiB)")
        print(f"| {step} | " + " | ".join(cells) + " |")
    print("| stored | " + " | ".join(f"{size / 1e6:.1f} MB" for size in sizes.values()) + " |")

    repos = [t for t in sizes if t not in ("strongroom", "tar", "copy")]
    lines = []

    def target(what, value, limit, least=False, cpu=None):
        reached = value >= limit if least else value <= limit
        second = "–" if cpu is None else f"{cpu:.3g}"
        lines.append((what, f"{value:.3g}", second, f"{'≥' if least else '≤'} {limit}", "yes" if reached else "no"))

    def against(what, step, others, limit):
        wall, cpu = ratios(results, step, others), ratios(results, step, others, "cpu")
        if not wall:
            return lines.append((what, "not measured", "–", f"{limit}", "–"))
        reached = "yes" if statistics.median(wall) <= limit else "no"
        lines.append((what, spread(wall), spread(cpu), f"≤ {limit}", reached))

    best = f"best of {', '.join(repos) or 'none'}"
    against("first backup / (tar, zstd, age)", "first", ["tar"], 0.65)
    against(f"first backup / {best}", "first", repos, 0.45)
    against(f"2 % changed / {best}", "2 % changed", repos, 1.0)
    beyond = median(results, "nothing changed", "strongroom") - median(results, "fingerprint", "strongroom")
    target("nothing changed, seconds beyond the fingerprint", beyond, 0.3)
    against("restore / best of all others", "restore", [t for t in sizes if t not in ("strongroom", "copy")], 0.75)
    peak = max(r.peak for step in results.values() for r in step.get("strongroom", []))
    target("peak memory, MiB", max([peak, *([many["peak"]] if many else [])]), 96)
    target("wrong key known, seconds", median(results, "wrong key", "strongroom"), 1.0)
    if many:
        target(f"wrong key known among {options.many} credentials, seconds", many["wrong"], 1.0)
        target(f"{options.many} credentials, share of cores × OpenSSL's PBKDF2", many["rate"], 0.9, True, many["share"])
    if "tar" in sizes:
        target("size / (tar, zstd, age)", sizes["strongroom"] / sizes["tar"], 1.01)
    print("\n| target | measured | by CPU seconds | limit | reached |\n|---|---|---|---|---|")
    for line in lines:
        print("| " + " | ".join(line) + " |")
    if "copy" in sizes:
        floor = spread(ratios(results, "first", ["copy"]))
        print(f"\nfirst backup / one copy of the same bytes, made durable: {floor}")
    print(f"\nfingerprint alone: {median(results, 'fingerprint', 'strongroom'):.2f} s", end="")
    print(f"; {options.many} credentials: {many['wall']:.1f} s" if many else "")


def versions(tools, options):
    asked = {
        "strongroom": f"{shlex.quote(str(options.strongroom))} --version",
        "copy": "sync --version | head -1",
        "tar": "tar --version | head -1; zstd --version; age --version",
        "restic": "restic version",
        "borg": "borg --version",
        "rustic": f"{shlex.quote(str(options.rustic or 'rustic'))} --version",
    }
    for tool in tools:
        said = subprocess.run(["bash", "-c", asked[tool.name]], capture_output=True, text=True).stdout
        print(f"* {tool.name}: " + ", ".join(line.strip() for line in said.splitlines() if line.strip()))
    cores = len(os.sched_getaffinity(0))
    print(f"* {cores} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}")
