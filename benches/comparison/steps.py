"""The steps that every tool is taken through, in turn."""

import hashlib
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from .data import ITERATIONS, KEY, apart, make_database, many_files, write_zip
from .tools import Run, Strongroom, run

# Seconds that the disk rests before what writes much: a virtual one may owe what it took before.
REST = 5


def read(path):
    """Brings what lies in a folder into the system's cache."""
    subprocess.run(["bash", "-c", 'find "$0" -type f -print0 | xargs -0 -r cat > /dev/null', path], check=True)


def ready(folder):
    """Brings what will be read into the system's cache, writes out what others left to be written, and lets the disk rest.

    Borg drops from the cache what it has read.
    """
    read(folder)
    os.sync()
    time.sleep(REST)


def fill(folder):
    """Fills free memory with the cache of a file, as it is full on a machine that has run for a while.

    A virtual machine may have given free memory back to its host, and pays for each page of it anew.
    """
    free = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemFree"))
    with open(folder / "filler", "wb") as sparse:
        sparse.truncate(free << 10)
    subprocess.run(["cat", folder / "filler"], stdout=subprocess.DEVNULL, check=True)
    read(folder / "app")


def change(folder, share, number):
    """Rewrites so many files in a hundred, the same ones for everyone."""
    zips = sorted((folder / "app/storage").rglob("*.zip"))
    for path in random.Random(number).sample(zips, max(1, len(zips) * share // 100)):
        write_zip(path, path.stat().st_size)
    # A file that changed a moment ago is read again by every tool that looks at times.
    time.sleep(3)


def same(one, other):
    result = subprocess.run(["diff", "-rq", one, other], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"a restore differs from what was backed up:\n{result.stdout[-2000:]}")


def restored_storage(target):
    return next(p for p in [target / "storage", target / "app/storage", *target.rglob("storage")] if p.is_dir())


def compare(folder, tools, options):
    results = {}  # step → tool → [Run]
    sizes = {}

    def note(step, tool, result):
        results.setdefault(step, {}).setdefault(tool.name, []).append(result)
        print(
            f"  {step:<16} {tool.name:<11} {result.wall:7.2f} s {result.cpu:7.2f} s CPU {result.peak:7.0f} MiB",
            file=sys.stderr,
        )

    fill(folder)
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        order = tools[number % len(tools) :] + tools[: number % len(tools)]
        # Nothing is deleted until the end: the disk would go on discarding it, ext4 passes over the inodes of deleted
        # files for minutes, and memory would be free again.
        for tool in order:
            tool.reset(folder / f"repo-{tool.name}-{number}")
        for tool in order:
            ready(folder / "app")
            note("first", tool, tool.backup())
            sizes.setdefault(tool.name, tool.size())
        for tool in order:
            if tool.incremental:
                note("nothing changed", tool, tool.backup())
            if tool.name == "strongroom":
                note("fingerprint", tool, tool.fingerprint())
        change(folder, 2, number)
        for tool in order:
            if tool.incremental:
                note("2 % changed", tool, tool.backup())
            elif tool.restores:
                # Untimed: what the restore is compared with is the data as it is now.
                tool.backup()
        for tool in (t for t in order if t.restores):
            target = folder / f"restored-{tool.name}-{number}"
            # Not everybody leaves what was written in the cache.
            ready(tool.repo)
            note("restore", tool, tool.restore(target))
            if number == 0:
                same(folder / "app/storage", restored_storage(target))
        for tool in order:
            if tool.name == "strongroom":
                known = tool.wrong_key()
                note("wrong key", tool, Run(known, 0, 0))
    return results, sizes


def one_core(rounds=5):
    """Seconds of one core for one PBKDF2 of the scheme, by OpenSSL through Python."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        hashlib.pbkdf2_hmac("sha256", KEY[:32].encode(), b"s" * 16, ITERATIONS, 32)
        times.append(time.process_time() - begun)
    return min(times)


def prove_many(folder, options):
    """How near proving many credentials is to what the cores could do with OpenSSL's PBKDF2."""
    rates, shares, walls, peak = [], [], [], 0
    for _ in range(min(options.rounds, 3)):
        before = one_core()
        result = run(
            f"{shlex.quote(str(options.strongroom))} prove --no-progress sqlite:{folder}/many.sqlite --key file:key.txt",
            folder,
        )
        single = min(before, one_core())
        ideal = options.many * single / len(os.sched_getaffinity(0))
        rates.append(ideal / result.wall)
        shares.append(options.many * single / result.cpu)
        walls.append(result.wall)
        peak = max(peak, result.peak)
    return statistics.median(rates), statistics.median(shares), statistics.median(walls), peak


def wrong_key_many(folder, options):
    """The same question of a bundle that holds many credentials."""
    tool = Strongroom(folder, options)
    tool.place(folder / "repo-many")
    tool.repo.mkdir()
    tool.begin("many.sqlite", None)
    backup = tool.backup()
    return statistics.median(tool.wrong_key() for _ in range(options.rounds)), backup.peak


def scale(folder, options):
    """Peak memory, whatever sizes and counts are."""
    print("\n| storage | step | seconds | peak MiB |\n|---|---|---|---|")
    for what in ("200,000 files of 1 kB", "one file of 3 GiB"):
        app = folder / "scale"
        shutil.rmtree(app, ignore_errors=True)
        (app / "storage").mkdir(parents=True)
        if what.startswith("200"):
            apart(many_files, app / "storage")
        else:
            apart(write_zip, app / "storage/large.zip", 3 << 30)
        apart(make_database, app / "database.sqlite", options.credentials)
        tool = Strongroom(folder, options)
        tool.place(folder / "repo-scale")
        tool.repo.mkdir()
        tool.begin("scale/database.sqlite", "scale/storage")
        target = folder / "restored"
        shutil.rmtree(target, ignore_errors=True)
        time.sleep(3)
        common = f"--no-progress --config {tool.config}"
        for step, action in [
            ("first", tool.backup),
            ("nothing changed", tool.backup),
            ("check --all", lambda: tool.run(f"{tool.program} check --all {common}")),
            ("verify --deep", lambda: tool.run(f"{tool.program} verify --deep -i identity.txt {common}")),
            ("restore --target", lambda: tool.restore(target)),
        ]:
            result = action()
            print(f"| {what} | {step} | {result.wall:.1f} | {result.peak:.0f} |", flush=True)
        shutil.rmtree(target)
        shutil.rmtree(app)
        shutil.rmtree(tool.repo)
