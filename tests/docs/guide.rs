//! Every command of the guide and of the README is run, and prints what they say.

use crate::console;
use crate::stage::tools;

/// What the commands of both documents use.
const TOOLS: [&str; 7] = ["bash", "age", "age-keygen", "ssh-keygen", "sqlite3", "jq", "gzip"];

#[test]
fn the_guide_is_true() {
    if tools(&TOOLS) {
        console::run("docs/guide.md");
    }
}

#[test]
fn the_readme_is_true() {
    if tools(&TOOLS) {
        console::run("README.md");
    }
}
