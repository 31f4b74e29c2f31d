//! The examples of `docs/configuration.md` are read by the program, and name every field.

use std::path::Path;

use strongroom::config::Config;

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).expect("the document")
}

fn examples(text: &str) -> Vec<String> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_examples_are_a_configuration() {
    let text = document();
    let [whole, profile] = &examples(&text)[..] else { panic!("two examples") };
    let read =
        |text: &str| Config::parse(text, Path::new("strongroom.toml"), &[]).unwrap_or_else(|e| panic!("{}", e.chain()));
    let config = read(whole);
    assert_eq!((config.escrows.len(), config.hooks.health.is_some(), config.on_result.is_some()), (3, true, true));
    assert_eq!(read(&format!("{whole}\n{profile}")).profile.credentials.len(), 1);
    let short = whole.split("[[escrow]]").next().expect("the beginning");
    assert!(read(short).escrows.is_empty());
}

#[test]
fn every_field_is_there() {
    let text = document();
    let source = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config").join(name))
            .expect("the source")
    };
    // Fields of the structs that are read from TOML.
    for source in [source("file.rs"), source("profile.rs")] {
        for line in source.lines().map(str::trim) {
            let field = line.strip_prefix("pub(super) ").or_else(|| line.strip_prefix("pub ")).unwrap_or_default();
            let Some((name, _)) = field.split_once(": ") else { continue };
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let name = if name == "credentials" { "credential" } else { name };
            assert!(!plain || text.contains(name), "docs/configuration.md lacks {name}");
        }
    }
    // Overrides of the environment.
    let file = source("file.rs");
    let table = file.split("const OVERRIDES").nth(1).and_then(|rest| rest.split("];").next()).expect("the table");
    for pair in table.lines().filter_map(|l| l.trim().strip_prefix("(\"")?.strip_suffix("\"),")) {
        let name = pair.replace("\", \"", ".");
        assert!(text.contains(&format!("`{name}`")), "docs/configuration.md lacks the override {name}");
    }
}
