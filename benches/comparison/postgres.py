"""A PostgreSQL server of one's own, and the sample application's database on it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .data import credential

# What a package registry's rows look like: names, versions, and JSON that repeats itself and ends in digests. They compress
# to about a sixth.
ROWS = """
INSERT INTO {table}
SELECT 'p' || n, 'vendor-' || n % 977 || '/package-' || n / 12, '1.' || n % 12 || '.' || n % 7,
       json_build_object(
           'description', repeat('It does what it says, and nothing else. ', 4 + n % 9),
           'require', (SELECT json_object_agg('vendor-' || (n * g) % 977 || '/package-' || (n * g) % 5000, '^' || g || '.' || n % 10)
                       FROM generate_series(1, 14) g),
           'dist', json_build_object('shasum', md5(n::text) || md5((n + 1)::text), 'url', 'https://repo.example/' || md5('u' || n)),
           'source', json_build_object('reference', md5('r' || n) || md5('s' || n))
       )::text
FROM generate_series({first}, {last}) n;
"""
# What it logs: short rows, and many of them.
LOG = """
INSERT INTO downloads
SELECT n, 'p' || (hashint8(n) & 1048575), timestamptz '2026-01-01' + n * interval '1 second', 'composer/2.' || n % 9, md5(n::text)
FROM generate_series({first}, {last}) n;
"""
SCHEMA = """
CREATE TABLE repositories (id text PRIMARY KEY, url text, vcs_type text, credential_type text, auth_credentials text NOT NULL);
CREATE TABLE artifacts (id text PRIMARY KEY, repo_id text REFERENCES repositories(id), file_key text);
CREATE TABLE packages (id text PRIMARY KEY, name text NOT NULL, version text NOT NULL, metadata text);
CREATE TABLE advisories (id text PRIMARY KEY, name text NOT NULL, version text NOT NULL, metadata text);
CREATE TABLE downloads (id bigint PRIMARY KEY, package text NOT NULL, at timestamptz NOT NULL, client text, address text);
"""
INDEXES = """
CREATE INDEX packages_by_name ON packages (name, version);
CREATE INDEX advisories_by_name ON advisories (name, version);
CREATE INDEX downloads_by_package ON downloads (package, at);
CREATE INDEX downloads_by_time ON downloads (at);
ANALYZE;
"""
# Bytes of a row, of the two kinds.
ROW, LINE = 1450, 100


class Server:
    """Started on a socket in a folder of its own; stopped and gone at the end."""

    def __init__(self, programs):
        self.programs = Path(programs)
        self.folder = Path(tempfile.mkdtemp(prefix="strongroom-pg-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
            self.folder.chmod(0o755)
        self._admin("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8")
        options = f"-k {self.folder} -c listen_addresses='' -c shared_buffers=512MB -c max_wal_size=4GB"
        self._admin("pg_ctl", "-D", self.data, "-o", options, "-l", f"{self.folder}/log", "-w", "start")
        self.sql("CREATE ROLE app LOGIN CREATEDB", "postgres", "postgres")

    @property
    def data(self):
        return f"{self.folder}/data"

    def _admin(self, program, *arguments):
        user = "nobody" if os.geteuid() == 0 else None
        command = [self.programs / program, *arguments]
        subprocess.run(command, user=user, cwd="/", stdout=subprocess.DEVNULL, check=True)

    def sql(self, text, database="app", user="app"):
        command = [self.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", self.folder, "-U", user, "-d", database]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    def fill(self, megabytes, credentials):
        self.sql("CREATE DATABASE app OWNER app", "postgres", "postgres")
        self.sql(SCHEMA)
        values = ",\n".join(f"('r{n}', 'https://git.example/{n}', 'git', 'http-basic', '{credential(n)}')" for n in range(credentials))
        self.sql(f"INSERT INTO repositories VALUES {values}")
        for table, share in (("packages", 0.55), ("advisories", 0.2)):
            self._insert(ROWS.replace("{table}", table), int(megabytes * 1_000_000 * share) // ROW, 50_000)
        self._insert(LOG, int(megabytes * 1_000_000 * 0.25) // LINE, 500_000)
        self.sql(INDEXES)
        self.sql("CHECKPOINT", "postgres", "postgres")

    def _insert(self, text, rows, step):
        for first in range(1, rows, step):
            self.sql(text.format(first=first, last=min(rows, first + step - 1)))

    def stop(self):
        self._admin("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")
        shutil.rmtree(self.folder)
