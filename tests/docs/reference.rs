//! What is generated: the reference, man pages, completions, the chart of the benchmarks.

use std::path::Path;
use std::process::Command;

use crate::stage::tools;

fn strongroom(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(arguments)
        // A variable that is set must not show in what is generated.
        .env("STRONGROOM_CONFIG", "/somewhere/else.toml")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_generated_documents_are_the_programs_own() {
    let folder = tempfile::tempdir().expect("a folder");
    strongroom(&["reference", folder.path().to_str().expect("text")]);
    for name in ["cli.md", "exit-codes.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        if std::env::var_os("STRONGROOM_BLESS").is_some() {
            std::fs::copy(folder.path().join(name), &path).expect("written");
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("a document");
        let kept = read(&path);
        assert!(
            kept == read(&folder.path().join(name)),
            "docs/{name} is not what the program says: run `cargo run -- reference docs`"
        );
    }
}

#[test]
fn the_chart_of_the_benchmarks_is_drawn_from_their_tables() {
    if !tools(&["python3"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg(root.join("benches/chart")).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = root.join("docs/benchmarks.svg");
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        std::fs::write(&path, &output.stdout).expect("written");
    }
    assert!(
        std::fs::read(&path).expect("a chart") == output.stdout,
        "docs/benchmarks.svg is not what docs/benchmarks.md says: run `benches/chart > docs/benchmarks.svg`"
    );
}

#[test]
fn every_command_has_a_man_page_that_a_formatter_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    strongroom(&["man", folder.path().to_str().expect("text")]);
    let mut pages: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.path()).collect();
    pages.sort();
    for name in ["strongroom.1", "strongroom-prove.1", "strongroom-custody-test.1", "strongroom-key-lint.1"] {
        assert!(pages.iter().any(|p| p.ends_with(name)), "{name} is missing");
    }
    for page in &pages {
        let text = std::fs::read_to_string(page).expect("text");
        assert!(text.is_ascii(), "{} is not ASCII", page.display());
        assert!(text.contains("EXIT STATUS"), "{} says no exit codes", page.display());
    }
    if !tools(&["groff"]) {
        return;
    }
    let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).args(&pages).output().expect("groff");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn completions_are_scripts_that_their_shell_reads() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(strongroom(&["completions", shell]).contains("accept-unproved"), "{shell}");
    }
    if tools(&["bash"]) {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("strongroom.bash");
        std::fs::write(&script, strongroom(&["completions", "bash"])).expect("written");
        let read = Command::new("bash").arg("-n").arg(&script).status().expect("bash");
        assert!(read.success());
    }
}
