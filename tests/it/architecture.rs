//! Imports run one way; a room that imports one it must not fails here.

use std::path::Path;

/// What each room may import. A room that is not named here may import nothing and be imported by nobody.
const ROOMS: [(&str, &[&str]); 15] = [
    ("ground", &[]),
    ("sealing", &["ground"]),
    ("signer", &["ground"]),
    ("archive", &["ground"]),
    ("ledger", &["archive", "ground", "signer"]),
    ("custody", &["archive", "ground", "sealing", "signer"]),
    // A proof runs along a profile, and a configuration names a key: these two know each other's types.
    ("appkey", &["config", "ground"]),
    ("config", &["appkey", "ground", "sealing", "signer"]),
    ("escrow", &["archive", "ground", "sealing", "signer"]),
    ("database", &["appkey", "config", "ground"]),
    ("storage", &["ground"]),
    ("bundle", &["appkey", "archive", "database", "ground", "sealing", "signer", "storage"]),
    (
        "commands",
        &[
            "appkey", "archive", "bundle", "config", "custody", "database", "escrow", "ground", "ledger", "sealing",
            "signer", "storage",
        ],
    ),
    ("cli", &["commands", "config", "ground", "storage", "wiring"]),
    ("wiring", &["appkey", "archive", "commands", "config", "database", "escrow", "ground", "storage"]),
];

/// Real systems, by the paths that name them. Only `wiring` and the system itself may.
const SYSTEMS: [&str; 13] = [
    "appkey::docker",
    "archive::folder",
    "database::postgres",
    "database::sqlite",
    "storage::filesystem",
    "escrow::archive",
    "escrow::file",
    "escrow::ArchiveEscrow",
    "escrow::FileEscrow",
    "escrow::vault",
    "escrow::Login",
    "escrow::Vault",
    "escrow::VaultEscrow",
];

/// Who may name a system besides `wiring`, and why.
const EXCEPTIONS: [(&str, &str); 1] = [
    // Dumps are read with what SQLite knows of its own files and values.
    ("database::dump", "database::sqlite"),
];

/// Crates that one room alone may use.
const CRATES: [(&str, &[&str]); 4] =
    [("clap", &["cli"]), ("indicatif", &["cli"]), ("rpassword", &["cli"]), ("ureq", &["commands", "escrow"])];

/// What prints; only `cli` may.
const PRINTING: [&str; 7] =
    ["println!", "eprintln!", "print!", "eprint!", "io::stdout()", "io::stderr()", "process::exit"];

#[test]
fn no_room_imports_one_that_it_must_not() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    each_file(&source, &mut |path| {
        let name = path.strip_prefix(&source).expect("below").to_string_lossy().into_owned();
        wrong.extend(check(&name, &std::fs::read_to_string(path).expect("read")));
        seen += 1;
    });
    assert!(seen > 100, "only {seen} files were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_source_is_named_in_the_table() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<String> = std::fs::read_dir(source)
        .expect("listed")
        .map(|e| e.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .filter(|name| name != "main" && name != "lib")
        .collect();
    let mut named: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    found.sort();
    named.sort_unstable();
    assert_eq!(found, named);
}

#[test]
fn the_checker_catches_what_is_planted() {
    let planted = [
        ("storage/mod.rs", "use crate::archive::Archive;"),
        ("ground/mod.rs", "fn f() { crate::commands::run() }"),
        ("commands/backup/mod.rs", "use crate::{ground::Result, wiring::Wiring};"),
        ("commands/backup/mod.rs", "use crate::database::{self, sqlite::Sqlite};"),
        ("commands/demo.rs", "fn f(x: &crate::storage::filesystem::Filesystem) {}"),
        ("commands/list.rs", "use crate::escrow::{Escrow, FileEscrow};"),
        ("commands/backup/prove.rs", "use super::super::super::cli::print;"),
        ("escrow/file.rs", "use super::archive::ArchiveEscrow;"),
        ("escrow/archive.rs", "use crate::archive::folder::Folder;"),
        ("bundle/mod.rs", "use crate::storage::filesystem::Filesystem as F;"),
        ("archive/folder/walk.rs", "use crate::database::Database;"),
        ("ledger/mod.rs", "fn f() { println!(\"x\") }"),
        ("commands/verify.rs", "fn f() { let _ = std::io::stdout().lock(); }"),
        ("commands/verify.rs", "use clap::Parser;"),
        ("newroom/mod.rs", "use crate::ground::Result;"),
        ("ground/mod.rs", "pub use crate :: cli :: run;"),
        ("lib.rs", "fn f() { eprintln!(\"x\") }"),
    ];
    for (file, text) in planted {
        assert!(!check(file, text).is_empty(), "nothing was said against {text:?} in {file}");
    }
}

#[test]
fn the_checker_has_nothing_against_what_is_allowed() {
    let fine = [
        ("wiring.rs", "use crate::database::sqlite::{Sqlite, SqliteOptions};"),
        ("database/mod.rs", "mod sqlite; use crate::ground::{Error, Result};"),
        ("database/sqlite/open.rs", "use super::place; use crate::database::sqlite::read;"),
        ("database/dump/mod.rs", "use super::sqlite::open;"),
        ("commands/list.rs", "// use crate::wiring::Wiring;\nuse crate::archive::Archive;"),
        ("commands/list.rs", "const X: &str = \"crate::wiring println!\";"),
        ("commands/list.rs", "#[cfg(test)]\nmod tests { use crate::database::sqlite::Sqlite; }"),
        ("ground/child.rs", "pub(crate) fn f() {}"),
        ("cli/print.rs", "fn f() { std::io::stdout().lock(); }"),
    ];
    for (file, text) in fine {
        assert_eq!(check(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

/// What is wrong with a file, one line each.
fn check(file: &str, text: &str) -> Vec<String> {
    let is_test = file.ends_with("tests.rs") || file.contains("/tests/") || file.contains("conformance");
    if is_test || file == "signer/interop.rs" {
        return Vec::new();
    }
    let text = without_tests(&strip(text));
    let module = module_of(file);
    let room = module.first().cloned().unwrap_or_default();
    let crate_root = file == "lib.rs" || file == "main.rs";
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    let mut wrong = Vec::new();
    if allowed.is_none() && !crate_root {
        wrong.push(format!("{file}: {room} is no room that the table names"));
    }
    for path in paths(&text, &module) {
        let to = path.first().cloned().unwrap_or_default();
        if to != room && !crate_root && !allowed.unwrap_or_default().contains(&to.as_str()) {
            wrong.push(format!("{file}: {room} imports {}", path.join("::")));
        }
        let here = module.join("::");
        for system in SYSTEMS {
            let within = |name: &str, root: &str| name == root || name.starts_with(&format!("{root}::"));
            let excepted = EXCEPTIONS.iter().any(|(who, what)| within(&here, who) && *what == system);
            // The room's own `mod.rs` holds the contract and hands the system out.
            let own = within(&here, system) || system.split("::").next() == Some(here.as_str());
            if within(&path.join("::"), system) && room != "wiring" && !own && !excepted {
                wrong.push(format!("{file}: names the system {}", path.join("::")));
            }
        }
    }
    for (name, rooms) in CRATES {
        if !rooms.contains(&room.as_str()) && text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == name)
        {
            wrong.push(format!("{file}: uses the crate {name}"));
        }
    }
    for word in PRINTING {
        if room != "cli" && text.contains(word) {
            wrong.push(format!("{file}: prints with {word}"));
        }
    }
    wrong
}

/// The module of a file: `a/b/mod.rs` and `a/b.rs` are `a::b`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|p| *p != "lib" && *p != "main").map(str::to_owned).collect()
}

/// Without comments and without what stands in strings.
fn strip(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if rest.starts_with("r#\"") {
            rest = rest[3..].find("\"#").map_or("", |end| &rest[end + 5..]);
        } else if c == '"' {
            let mut end = 1;
            while end < rest.len() && rest.as_bytes()[end] != b'"' {
                end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            rest = rest.get(end + 1..).unwrap_or("");
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest = &rest[rest.find("\"'").map_or(1, |end| end + 2)..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Without what is compiled for tests only: an item after `#[cfg(test)]`, to its brace or semicolon.
fn without_tests(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at + "#[cfg(test)]".len()..];
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && (*c == '}' || *c == ';')
        });
        rest = end.map_or("", |(end, _)| &rest[end + 1..]);
    }
    out.push_str(rest);
    out
}

/// Every path below the crate that a text names, whether in `use` or inline, braces multiplied out.
fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = (tokens[at] == "crate" || tokens[at] == "super")
            && tokens.get(at + 1).is_some_and(|t| t == "::")
            && (at == 0 || tokens[at - 1] != "::");
        if !starts {
            at += 1;
            continue;
        }
        let mut base = if tokens[at] == "crate" { Vec::new() } else { module.to_vec() };
        while tokens.get(at).is_some_and(|t| t == "super") && tokens.get(at + 1).is_some_and(|t| t == "::") {
            base.pop();
            at += 2;
        }
        if tokens.get(at).is_some_and(|t| t == "crate") {
            at += 2;
        }
        at = tree(&tokens, at, &base, &mut found);
    }
    found
}

/// Reads `a::b`, `a::{b, c::d}`, `*`; answers where it ends.
fn tree(tokens: &[String], mut at: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|t| t != "}") {
                at = tree(tokens, at, &path, found).max(at + 1);
                while tokens.get(at).is_some_and(|t| t != "," && t != "}") {
                    at += 1;
                }
                at += usize::from(tokens.get(at).is_some_and(|t| t == ","));
            }
            return at + 1;
        }
        if token != "self" && token != "*" {
            path.push(token.clone());
        }
        at += 1;
        if tokens.get(at).is_none_or(|t| t != "::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

/// Words, `::`, and single other characters.
fn tokens(text: &str) -> Vec<String> {
    let (mut found, mut word) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            found.push("::".to_owned());
        } else if !c.is_whitespace() {
            found.push(c.to_string());
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

pub(crate) fn each_file(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            each_file(&path, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            visit(&path);
        }
    }
}
