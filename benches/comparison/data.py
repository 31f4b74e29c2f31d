"""The data that every tool is given: files that do not compress, a few texts, and a database of encrypted credentials."""

import base64
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import random
import sqlite3
import sys

KEY = "hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU="
WRONG = "Zz3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU="
PASSWORD = "compare"
ITERATIONS = 100_000

# AES-256-GCM for a few bytes, so that the sample credentials need no package beyond Python's own.


def _tables():
    sbox, p, q = [0] * 256, 1, 1
    while True:
        p = (p ^ (p << 1) ^ (0x1B if p & 0x80 else 0)) & 0xFF
        for shift in (1, 2, 4):
            q ^= (q << shift) & 0xFF
        if q & 0x80:
            q ^= 0x09
        rotated = q
        for n in range(1, 5):
            rotated ^= ((q << n) | (q >> (8 - n))) & 0xFF
        sbox[p] = rotated ^ 0x63
        if p == 1:
            break
    sbox[0] = 0x63
    return sbox


SBOX = _tables()


def _expand(key):
    words, rcon = [list(key[i : i + 4]) for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = list(words[i - 1])
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon <<= 1
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i : i + 4], []) for i in range(0, 60, 4)]


def _aes(keys, block):
    double = lambda b: ((b << 1) ^ (0x1B if b & 0x80 else 0)) & 0xFF
    state = [a ^ b for a, b in zip(block, keys[0])]
    for n, key in enumerate(keys[1:], 1):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if n < len(keys) - 1:
            mixed = []
            for c in range(0, 16, 4):
                a = state[c : c + 4]
                whole = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[i] ^ whole ^ double(a[i] ^ a[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def _gcm(key, iv, plain):
    keys = _expand(key)
    h = int.from_bytes(_aes(keys, bytes(16)), "big")

    def times(x):
        z, v = 0, h
        for i in range(127, -1, -1):
            if x >> i & 1:
                z ^= v
            v = (v >> 1) ^ (0xE1 << 120 if v & 1 else 0)
        return z

    stream = b"".join(
        _aes(keys, iv + n.to_bytes(4, "big")) for n in range(2, 2 + (len(plain) + 15) // 16)
    )
    sealed = bytes(a ^ b for a, b in zip(plain, stream))
    y = 0
    for i in range(0, len(sealed), 16):
        y = times(y ^ int.from_bytes(sealed[i : i + 16].ljust(16, b"\0"), "big"))
    y = times(y ^ (len(sealed) * 8))
    return sealed + (y ^ int.from_bytes(_aes(keys, iv + b"\0\0\0\1"), "big")).to_bytes(16, "big")


def credential(number):
    salt, iv = os.urandom(16), os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha256", KEY[:32].encode(), salt, ITERATIONS, 32)
    return base64.b64encode(salt + iv + _gcm(key, iv, b'{"username":"team-%d"}' % number)).decode()


def make_database(path, credentials, storage=None):
    """Rows as PACKAGE.broker has them; each credential with a salt of its own, as it writes them."""
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.executescript(
        """CREATE TABLE repositories (id TEXT PRIMARY KEY, url TEXT, vcs_type TEXT, credential_type TEXT,
                                      auth_credentials TEXT NOT NULL);
           CREATE TABLE artifacts (id TEXT PRIMARY KEY, repo_id TEXT REFERENCES repositories(id), package_name TEXT,
                                   version TEXT, file_key TEXT);"""
    )
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for n, value in enumerate(pool.map(credential, range(credentials))):
            row = (f"repo-{n}", f"https://git.example/{n}", "git", "http-basic", value)
            db.execute("INSERT INTO repositories VALUES (?, ?, ?, ?, ?)", row)
    for n, file in enumerate(storage or []):
        repo = f"repo-{n % max(credentials, 1)}"
        db.execute("INSERT INTO artifacts VALUES (?, ?, 'vendor/package', ?, ?)", (f"a{n}", repo, f"1.0.{n}", file))
    db.commit()
    db.close()


def write_zip(path, size):
    """What a ZIP begins with, then bytes that do not compress."""
    with open(path, "wb") as out:
        out.write(b"PK\x03\x04")
        left = size - 4
        while left > 0:
            chunk = os.urandom(min(left, 1 << 20))
            out.write(chunk)
            left -= len(chunk)


def make_storage(root, files, megabytes):
    names, chooser = [], random.Random(1)
    average = megabytes * 1_000_000 // files
    for n in range(files):
        name = f"private/repo-{n % 40}/vendor-{n % 90}/package-{n // 10}/1.0.{n}.zip"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_zip(path, chooser.randint(average // 2, average + average // 2))
        if n % 10 == 0:
            path.with_suffix(".readme.md").write_text(f"# Package {n}\n" + "It does what it says.\n" * 40)
        names.append(name)
    return names


def make(folder, options):
    app = folder / "app"
    (app / "storage").mkdir(parents=True)
    names = make_storage(app / "storage", options.files, options.megabytes)
    make_database(app / "database.sqlite", options.credentials, names)
    make_database(folder / "many.sqlite", options.many)


def apart(function, *arguments):
    """Runs in a process of its own: what a child's parent holds would count as the child's peak memory."""
    worker = multiprocessing.Process(target=function, args=arguments)
    worker.start()
    worker.join()
    if worker.exitcode:
        sys.exit("the sample data could not be made")


def many_files(root):
    for n in range(200_000):
        path = root / f"private/repo-{n % 40}/vendor-{n % 1000}/{n}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": f"package-{n}", "description": "as it is " * 100}))
