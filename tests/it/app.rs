//! An application such as PACKAGE.broker: a SQLite database, a storage folder, a key in a `.env` file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rusqlite::Connection;
use strongroom::appkey::KeyText;
use strongroom::appkey::schemes;
use zeroize::Zeroizing;

/// The application's key; it protects nothing.
pub(crate) const KEY: &str = "hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";
/// Another one.
pub(crate) const WRONG: &str = "Zz3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";

/// How many credentials are encrypted; the row `manual` is plaintext by design and comes on top.
pub(crate) const CREDENTIALS: usize = 4;

/// The tables that matter, with the application's own columns.
pub(crate) const SCHEMA: &str = "
CREATE TABLE __applied_migrations (id TEXT PRIMARY KEY, applied_at INTEGER);
CREATE TABLE repositories (
    id TEXT PRIMARY KEY, url TEXT NOT NULL, vcs_type TEXT NOT NULL, credential_type TEXT NOT NULL,
    auth_credentials TEXT NOT NULL, composer_json_path TEXT, package_filter TEXT, status TEXT DEFAULT 'pending',
    error_message TEXT, last_synced_at INTEGER, created_at INTEGER NOT NULL);
CREATE TABLE artifacts (
    id TEXT PRIMARY KEY, repo_id TEXT NOT NULL REFERENCES repositories(id) ON DELETE CASCADE, package_name TEXT NOT NULL,
    version TEXT NOT NULL, file_key TEXT NOT NULL, size INTEGER, download_count INTEGER DEFAULT 0,
    created_at INTEGER NOT NULL, last_downloaded_at INTEGER);
CREATE TABLE packages (id TEXT PRIMARY KEY, repo_id TEXT REFERENCES repositories(id), name TEXT, version TEXT, metadata TEXT);
CREATE TABLE users (
    id TEXT PRIMARY KEY, email TEXT UNIQUE, password_hash TEXT, two_factor_secret TEXT, recovery_codes TEXT,
    invite_token TEXT, created_at INTEGER);
CREATE TABLE tokens (id TEXT PRIMARY KEY, token_hash TEXT, created_at INTEGER);
CREATE INDEX artifacts_by_repo ON artifacts (repo_id);
";

/// One value, encrypted as the application does it; the same text and key give the same value within a test run.
pub(crate) fn encrypt(key: &str, secret: &str) -> String {
    static MADE: OnceLock<Mutex<std::collections::HashMap<(String, String), String>>> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    let name = (key.to_owned(), secret.to_owned());
    if let Some(value) = made.lock().expect("the cache").get(&name) {
        return value.clone();
    }
    let scheme = schemes::by_name("package-broker").expect("the scheme");
    let text = KeyText::new(Zeroizing::new(key.as_bytes().to_vec()));
    let effective = scheme.effective_key(&text).expect("an effective key");
    let value = String::from_utf8(scheme.encrypt(&effective, secret.as_bytes()).expect("encrypted")).expect("base64");
    made.lock().expect("the cache").insert(name, value.clone());
    value
}

/// The credentials of repository `n`.
pub(crate) fn secret(n: usize) -> String {
    format!(r#"{{"username":"team-{n}","password":"sample-{n}"}}"#)
}

/// Objects that the database names, and whether the storage has them from the beginning.
pub(crate) const OBJECTS: [(&str, &str, &str); 3] =
    [("manual", "acme/tools", "1.0.0"), ("manual", "acme/tools", "1.1.0"), ("repo-1", "acme/lib", "2.0.0")];

/// Where an object of the storage lies.
pub(crate) fn object(repo: &str, package: &str, version: &str) -> String {
    format!("private/{repo}/{package}/{version}.zip")
}

/// A database with schema and rows.
pub(crate) struct App {
    pub(crate) folder: PathBuf,
}

impl App {
    /// Makes database, storage and `.env` in a folder.
    pub(crate) fn make(folder: &Path, key: &str) -> Self {
        let app = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(folder).expect("a folder");
        app.execute(SCHEMA);
        app.execute("INSERT INTO repositories VALUES ('manual','','manual','none','{}',NULL,NULL,'ok',NULL,NULL,1)");
        for n in 1..=CREDENTIALS {
            app.add_credential(n, key);
        }
        for (repo, package, version) in OBJECTS {
            let name = object(repo, package, version);
            app.execute(&format!(
                "INSERT INTO artifacts VALUES ('{repo}-{version}','{repo}','{package}','{version}','{name}',9,0,1,NULL)"
            ));
            app.store(&name, &zip(&name, 64));
            app.store(&name.replace(".zip", ".readme.md"), format!("# {package} {version}\n").as_bytes());
        }
        app.execute("INSERT INTO users VALUES ('u1','a@example','$2b$x',NULL,NULL,NULL,1)");
        // A SHA-256 in hex, as the application keeps tokens: base64 letters, and no ciphertext.
        let hash = blake3::hash(b"a token").to_hex();
        app.execute(&format!("INSERT INTO tokens VALUES ('t1','{hash}',1)"));
        app.set_key(key);
        app
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("database.sqlite")
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.join("storage")
    }

    /// Runs statements on the live database.
    pub(crate) fn execute(&self, sql: &str) {
        let connection = Connection::open(self.database()).expect("the database opens");
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;").expect("set");
        connection.execute_batch(sql).expect("the statements run");
    }

    /// One number out of the live database.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        number(&self.database(), sql)
    }

    /// Adds repository `repo-n` with credentials under a key.
    pub(crate) fn add_credential(&self, n: usize, key: &str) {
        let value = encrypt(key, &secret(n));
        self.execute(&format!(
            "INSERT INTO repositories VALUES ('repo-{n}','https://git.example/{n}','git','http-basic','{value}',NULL,NULL,'ok',NULL,NULL,1)"
        ));
    }

    /// Writes a file of the storage.
    pub(crate) fn store(&self, path: &str, bytes: &[u8]) {
        let file = self.storage().join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(&file, bytes).expect("written");
    }

    /// Reads a file of the storage.
    pub(crate) fn stored(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.storage().join(path)).expect("the file is there")
    }

    /// Puts another key into the `.env` file.
    pub(crate) fn set_key(&self, key: &str) {
        secret_file(&self.folder.join(".env"), &format!("# the application's\nPORT=3000\nENCRYPTION_KEY={key}\n"));
    }
}

/// One number out of a database file.
pub(crate) fn number(path: &Path, sql: &str) -> i64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(path, flags).expect("the database opens");
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok", "{}", path.display());
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// A file that only its owner can read.
pub(crate) fn secret_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode set");
}

/// The first bytes of a ZIP, then bytes that do not compress.
pub(crate) fn zip(name: &str, blocks: u32) -> Vec<u8> {
    let noise = (0..blocks).flat_map(|i| *blake3::hash(format!("{name} {i}").as_bytes()).as_bytes());
    b"PK\x03\x04".iter().copied().chain(noise).collect()
}
