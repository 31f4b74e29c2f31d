"""The tools that are compared: how each begins, backs up and restores, and how a command is timed."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

PASSWORD = "compare"

GET = {
    "tar": "apt-get install tar zstd age",
    "restic": "apt-get install restic (https://restic.net)",
    "borg": "apt-get install borgbackup (https://www.borgbackup.org)",
    "rustic": "cargo install rustic-rs --locked (https://rustic.cli.rs)",
}


class Run:
    def __init__(self, wall, cpu, peak):
        self.wall, self.cpu, self.peak = wall, cpu, peak


def run(command, cwd, env=None, ok=(0,), quiet_disk=True):
    """Runs a command line in bash; seconds, CPU seconds, and MiB of its largest process."""
    if quiet_disk:
        os.sync()
    log = tempfile.TemporaryFile()
    begun = time.monotonic()
    child = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in ok:
        log.seek(0)
        sys.exit(f"{command}\nended with {child.returncode}:\n{log.read().decode(errors='replace')[-3000:]}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def until_known(command, cwd):
    """Seconds until a command says on standard error that the key is wrong, or ends."""
    begun = time.monotonic()
    child = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    known = None
    for line in child.stderr:
        if known is None and (b"is wrong" in line or b"canary does not open" in line or b"wrong key" in line):
            known = time.monotonic() - begun
            child.kill()
    child.wait()
    return known if known is not None else time.monotonic() - begun


def size_of(path):
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


class Tool:
    incremental = True
    restores = True

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.place(folder / f"repo-{self.name}")

    def place(self, repo):
        self.repo = repo

    def reset(self, repo):
        """Begins anew in a folder that is not there yet."""
        self.place(repo)
        repo.mkdir()
        self.begin()

    def begin(self):
        pass

    def run(self, command, settle=None):
        # strongroom makes what it writes durable before it ends; with --sync the others have to, too.
        if settle and self.options.sync and self.name != "strongroom":
            command = f"{{ {command}; }} && sync -f {settle}"
        return run(command, self.folder, self.env())

    def env(self):
        return {}

    def size(self):
        return size_of(self.repo)


class Strongroom(Tool):
    name = "strongroom"

    def __init__(self, folder, options):
        super().__init__(folder, options)
        self.program = shlex.quote(str(options.strongroom))

    def place(self, repo):
        self.repo, self.config = repo, repo / "strongroom.toml"

    def begin(self, database="app/database.sqlite", storage="app/storage"):
        recipient = (self.folder / "identity.txt").read_text().split("public key: ")[1].split()[0]
        where = f"--storage file:{self.folder}/{storage}" if storage else ""
        self.run(
            f"cd {self.repo} && {self.program} init --yes --database sqlite:{self.folder}/{database} {where} "
            f"--archive file:{self.repo}/archive --key-source file:{self.folder}/key.txt "
            f"--custodian bench={recipient} --config {self.config}"
        )

    def backup(self):
        return self.run(f"{self.program} backup --no-progress --config {self.config}")

    def restore(self, target):
        return self.run(
            f"{self.program} restore --no-progress --config {self.config} -i identity.txt --yes --target {target}"
        )

    def fingerprint(self):
        return self.run(f"{self.program} key fingerprint file:{self.folder}/key.txt --config {self.config}")

    def size(self):
        return size_of(self.repo / "archive")

    def wrong_key(self):
        return until_known(
            [str(self.options.strongroom), "verify", "--no-progress", "--config", str(self.config)]
            + ["-i", "identity.txt", "--key", "file:wrong.txt"],
            self.folder,
        )


class Tar(Tool):
    name, incremental = "tar", False

    def backup(self):
        recipient = (self.folder / "identity.txt").read_text().split("public key: ")[1].split()[0]
        return self.run(f"tar -cf - app | zstd -q -T0 | age -r {recipient} > {self.repo}/all.tar.zst.age", self.repo)

    def restore(self, target):
        return self.run(
            f"mkdir {target} && age -d -i identity.txt {self.repo}/all.tar.zst.age | zstd -q -d | tar -xf - -C {target}",
            target,
        )


class Copy(Tool):
    """What the disk alone takes: the same bytes in one file, durable."""

    name, incremental, restores = "copy", False, False

    def backup(self):
        return self.run(f"find app -type f -print0 | xargs -0 cat > {self.repo}/all && sync {self.repo}/all")


class Restic(Tool):
    name = "restic"

    def env(self):
        cache = str(self.folder / "cache-restic")
        return {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.repo), "RESTIC_CACHE_DIR": cache}

    def begin(self):
        shutil.rmtree(self.folder / "cache-restic", ignore_errors=True)
        self.run("restic init")

    def backup(self):
        return self.run("restic backup -q app", self.repo)

    def restore(self, target):
        return self.run(f"restic restore -q latest --target {target}", target)


class Borg(Tool):
    name = "borg"

    def env(self):
        base = str(self.folder / "base-borg")
        return {
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_REPO": str(self.repo),
            "BORG_BASE_DIR": base,
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def begin(self):
        shutil.rmtree(self.folder / "base-borg", ignore_errors=True)
        self.count = 0
        self.run("borg init -e repokey-blake2")

    def backup(self):
        self.count += 1
        return self.run(f"borg create ::n{self.count} app", self.repo)

    def restore(self, target):
        return self.run(f"mkdir {target} && cd {target} && borg extract ::n{self.count}", target)


class Rustic(Tool):
    name = "rustic"

    def env(self):
        cache = str(self.folder / "cache-rustic")
        path = f"{self.options.rustic.parent}:{os.environ['PATH']}" if self.options.rustic else os.environ["PATH"]
        return {
            "PATH": path,
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_REPOSITORY": str(self.repo),
            "RUSTIC_CACHE_DIR": cache,
            "RUSTIC_NO_PROGRESS": "true",
        }

    def begin(self):
        shutil.rmtree(self.folder / "cache-rustic", ignore_errors=True)
        self.run("rustic init")

    def backup(self):
        return self.run("rustic backup app", self.repo)

    def restore(self, target):
        return self.run(f"mkdir {target} && rustic restore latest {target}", target)


TOOLS = {t.name: t for t in (Strongroom, Copy, Tar, Restic, Borg, Rustic)}


def present(name, options):
    needed = {"tar": ["tar", "zstd", "age"], "strongroom": [], "copy": []}.get(name, [name])
    if name == "rustic" and options.rustic:
        return True
    return all(shutil.which(n) for n in needed)
