"""Much of something: a million files, one file of 20 GiB, ten thousand bundles."""

import datetime
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import time

from .data import apart, make_database
from .tools import Strongroom, run

PROMISES = []


def promise(what, value, limit):
    PROMISES.append((what, value, limit))


def verdicts():
    print("\n| promise | measured | limit | kept |\n|---|---|---|---|")
    for what, value, limit in PROMISES:
        print(f"| {what} | {value:.3g} | ≤ {limit} | {'yes' if value <= limit else 'no'} |")


def heading(what):
    print(f"\n{what}\n\n| step | seconds | CPU seconds | peak MiB |\n|---|---|---|---|", flush=True)


def row(step, ran):
    print(f"| {step} | {ran.wall:.2f} | {ran.cpu:.2f} | {ran.peak:.0f} |", flush=True)
    return ran


def host(folder, options, name):
    """A host of its own for the application in a folder; with a storage where the folder has one."""
    tool = Strongroom(folder, options)
    tool.place(folder / f"repo-{name}")
    tool.repo.mkdir()
    storage = f"{name}/storage" if (folder / name / "storage").is_dir() else None
    tool.begin(f"{name}/database.sqlite", storage)
    return tool


def verb(tool, line):
    return tool.run(f"{tool.program} {line} --no-progress --config {tool.config}")


def small_files(root, count):
    for n in range(count):
        folder = root / f"private/repo-{n % 40}/vendor-{n // 250}"
        if n % 250 < 40:
            folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"name": f"vendor/package-{n}", "version": f"1.0.{n % 97}", "description": "as it is " * (n % 50)})
        (folder / f"{n}.json").write_text(text)


def lists(tool):
    return {path for path in (tool.repo / "archive/parts").rglob("*.files.zst.age")}


def files(folder, options):
    """Memory of many files to that of a hundredth of them, and a night without changes to a `find`."""
    peaks, nights = {}, {}
    for count in (options.files // 100, options.files):
        name = f"files-{count}"
        (folder / name / "storage").mkdir(parents=True)
        apart(small_files, folder / name / "storage", count)
        apart(make_database, folder / name / "database.sqlite", 24)
        tool = host(folder, options, name)
        heading(f"{count:,} files")
        first = row("backup", tool.backup())
        before = lists(tool)
        settled = row("the next one", tool.backup())
        night = [row("nothing changed", tool.backup()) for _ in range(3)]
        fresh = len(lists(tool) - before)
        find = [row("`find -ls`", run(f"find {folder / name}/storage -ls >/dev/null", folder)) for _ in range(3)]
        proof = row("fingerprint alone", tool.fingerprint())
        check = row("check --all", verb(tool, "check --all"))
        deep = row("verify --deep", verb(tool, "verify --deep -i identity.txt"))
        peaks[count] = [r.peak for r in (first, settled, *night, check, deep)]
        nights[count] = (night, find, proof, fresh)
        shutil.rmtree(tool.repo)
        shutil.rmtree(folder / name)
    small, many = peaks[options.files // 100], peaks[options.files]
    promise(f"{options.files:,} files: MiB more than a hundredth of them, backup", many[0] - small[0], 32)
    promise(f"{options.files:,} files: MiB more, any step", max(b - a for a, b in zip(small, many)), 32)
    night, find, proof, fresh = nights[options.files]
    seconds = statistics.median(r.wall for r in night)
    promise("nothing changed: new file lists", fresh, 0)
    promise("nothing changed / `find -ls`", seconds / statistics.median(r.wall for r in find), 5)


def dense(path, gibibytes):
    """Bytes that hardly compress and take little to make: a random MiB, each time with another number in every page."""
    mebibyte = bytearray(os.urandom(1 << 20))
    with open(path, "wb") as out:
        for n in range(gibibytes << 10):
            mark = n.to_bytes(8, "little")
            for at in range(0, 1 << 20, 4096):
                mebibyte[at : at + 8] = mark
            out.write(mebibyte)


def large(folder, options):
    """One large file, in and out, in memory that does not grow with it."""
    (folder / "large/storage").mkdir(parents=True)
    apart(make_database, folder / "large/database.sqlite", 24)
    tool = host(folder, options, "large")
    heading("an application without files")
    none = row("backup", tool.backup())
    file = folder / "large/storage/large.bin"
    apart(dense, file, options.gibibytes)
    if file.stat().st_blocks * 512 < file.stat().st_size:
        raise SystemExit(f"{file} has holes")
    # What changed within two seconds of a backup is read again by the next one.
    time.sleep(5)
    heading(f"one file of {options.gibibytes} GiB")
    steps = [
        row("backup", tool.backup()),
        row("nothing changed", tool.backup()),
        row("check --all", verb(tool, "check --all")),
        row("verify --deep", verb(tool, "verify --deep -i identity.txt")),
    ]
    print(f"\nstored: {tool.size() / file.stat().st_size:.4f} of its size")
    shutil.rmtree(tool.repo)
    shutil.rmtree(folder / "large")
    promise(f"one file of {options.gibibytes} GiB: MiB more than none", max(s.peak for s in steps) - none.peak, 32)


def bundles(folder, options):
    """What reads the whole ledger, when it is long."""
    (folder / "bundles").mkdir()
    apart(make_database, folder / "bundles/database.sqlite", 24)
    tool = host(folder, options, "bundles")
    heading("one bundle")
    row("backup", tool.backup())
    row("list", verb(tool, "list"))
    row("key status", verb(tool, "key status"))
    lengthen(tool.repo, options.bundles)
    heading(f"{options.bundles:,} bundles")
    listed = [row("list", verb(tool, "list")) for _ in range(5)]
    counted = verb_output(tool, "list --json")
    if len(json.loads(counted)) != options.bundles:
        raise SystemExit(f"{len(json.loads(counted))} bundles are listed, not {options.bundles}")
    status = [row("key status", verb(tool, "key status")) for _ in range(5)]
    row("key needed --all", verb(tool, "key needed --all"))
    row("key history", verb(tool, "key history"))
    row("backup", tool.backup())
    promise(f"{options.bundles:,} bundles: list, seconds", statistics.median(r.wall for r in listed), 1)
    promise(f"{options.bundles:,} bundles: key status, seconds", statistics.median(r.wall for r in status), 1)
    shutil.rmtree(tool.repo)
    shutil.rmtree(folder / "bundles")


def verb_output(tool, line):
    command = [str(tool.options.strongroom), *line.split(), "--config", str(tool.config)]
    return subprocess.run(command, cwd=tool.folder, check=True, capture_output=True, text=True).stdout


def lengthen(repo, count):
    """Adds entries like the newest bundle's until there are so many bundles: as others would sign them, with minisign."""
    ledger = repo / "archive/ledger/package-broker"
    names = sorted(ledger.glob("??????????.json"))
    bytes_before = names[-1].read_bytes()
    model = json.loads(bytes_before)
    stamp = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=count)
    for n in range(count - 1):
        entry = dict(model)
        entry["seq"] = len(names) + n + 1
        made = (stamp + datetime.timedelta(days=n)).strftime("%Y%m%dT%H%M%SZ")
        entry["bundle"] = f"{made}-{n:08x}"
        entry["sums"] = hashlib.sha256(entry["bundle"].encode()).hexdigest()
        entry["previous"] = hashlib.sha256(bytes_before).hexdigest()
        bytes_before = (json.dumps(entry, separators=(",", ":")) + "\n").encode()
        path = ledger / f"{entry['seq']:010}.json"
        path.write_bytes(bytes_before)
        comment = f"strongroom ledger v1 archive={entry['archive']} app={entry['app']} seq={entry['seq']}"
        subprocess.run(
            ["minisign", "-S", "-s", str(repo / "strongroom-signing.key"), "-t", comment, "-m", str(path)],
            check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )
