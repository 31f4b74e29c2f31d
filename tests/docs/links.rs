//! Every relative link and anchor of every document leads somewhere.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's own documents.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [root().to_owned(), root().join("docs"), root().join("benches"), root().join("policies")] {
        let Ok(listing) = std::fs::read_dir(folder) else { continue };
        found.extend(listing.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    found.sort();
    found
}

/// The lines outside of code blocks, without `code`.
fn prose(text: &str) -> Vec<String> {
    let mut code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    lines
}

/// The targets of `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split_once(')').map(|(target, _)| target)).collect()
}

/// Anchors of headings, as they are made of their text.
fn anchors(text: &str) -> HashSet<String> {
    let mut code = false;
    let mut found = HashSet::new();
    for line in text.lines() {
        code ^= line.starts_with("```");
        if code || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
        found.insert(kept.replace(' ', "-"));
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut checked) = (Vec::new(), 0);
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a document");
        for line in prose(&text) {
            for target in targets(&line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                checked += 1;
                let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
                let to =
                    if path.is_empty() { document.clone() } else { document.parent().expect("a folder").join(path) };
                let there = match (to.exists(), anchor) {
                    (true, Some(anchor)) => std::fs::read_to_string(&to).is_ok_and(|t| anchors(&t).contains(anchor)),
                    (there, _) => there,
                };
                if !there {
                    broken.push(format!("{}: {target}", document.display()));
                }
            }
        }
    }
    assert!(checked > 10, "only {checked} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What `guide.rs` runs.
const RUN: [&str; 4] = ["README.md", "docs/guide.md", "docs/secrets-manager.md", "docs/vault.md"];

/// `console` blocks promise that they are run; only the documents that `guide.rs` runs may have some.
#[test]
fn only_documents_that_are_run_have_console_blocks() {
    for document in documents() {
        let run = RUN.iter().any(|run| document == root().join(run));
        let text = std::fs::read_to_string(&document).expect("a document");
        assert!(run || !text.lines().any(|l| l == "```console"), "{} is not run", document.display());
    }
}
