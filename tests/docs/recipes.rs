//! The recipes for containers are ones that their tools take, and every command of strongroom in them is one that the program takes.

use std::path::Path;
use std::process::Command;

use crate::stage::tools;

const RECIPES: [&str; 5] = [
    "docs/containers.md",
    "docs/recipes/Dockerfile",
    "docs/recipes/app.Dockerfile",
    "docs/recipes/compose.yaml",
    "docs/recipes/kubernetes.yaml",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("a recipe")
}

/// The words of a JSON array, as Dockerfiles and the YAML here write commands.
fn array(text: &str) -> Vec<String> {
    let text = text.trim();
    if text.starts_with('[') { serde_json::from_str(text).expect("an array of words") } else { Vec::new() }
}

/// The arguments of every call of strongroom in a recipe.
fn calls(name: &str) -> Vec<Vec<String>> {
    let text = read(name).replace("\\\n", " ");
    let (mut calls, mut other, mut code) = (Vec::new(), false, false);
    for line in text.lines() {
        code ^= line.starts_with("```");
        let line = line.trim().trim_start_matches("# ").trim_start_matches("- ");
        if let Some(words) = line.strip_prefix("ENTRYPOINT ") {
            // What stands behind it is another's command.
            calls.push(array(words).split_off(1));
        } else if let Some(words) = line.strip_prefix("command: ") {
            other = !array(words).is_empty();
        } else if let Some(words) = line.strip_prefix("args: ") {
            if !std::mem::take(&mut other) {
                calls.push(array(words));
            }
        } else if code || Path::new(name).extension().is_none_or(|e| e != "md") {
            calls.extend(in_shell(line));
        }
    }
    calls
}

/// The arguments of a call of strongroom in a line of a shell: itself, in a container, or by a container's entrypoint.
fn in_shell(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "||").collect();
    let from = match words.as_slice() {
        ["strongroom", ..] => 0,
        ["docker", "run", ..] | ["docker", "compose", "run", ..] => words.iter().rposition(|w| *w == "strongroom")?,
        ["kubectl", "exec", ..] => {
            let inner = words.iter().position(|w| *w == "--")? + 1;
            (words[inner] == "strongroom").then_some(inner)?
        }
        // The weekly part of a loop.
        ["[", ..] => words.iter().position(|w| *w == "strongroom")?,
        _ => return None,
    };
    Some(words[from + 1..].iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn the_program_takes_every_call_in_the_recipes() {
    let mut counts = Vec::new();
    for recipe in RECIPES {
        let calls = calls(recipe);
        counts.push(calls.len());
        for mut call in calls {
            // Help is printed when everything before it could be read.
            let end = call.iter().position(|word| word == "--").unwrap_or(call.len());
            call.insert(end, "--help".to_owned());
            let output = Command::new(env!("CARGO_BIN_EXE_strongroom")).args(&call).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{recipe}: strongroom {}: {said}", call.join(" "));
        }
    }
    assert_eq!(counts, [8, 1, 1, 3, 3], "calls are passed over");
}

/// The Python that knows the schemas of Compose and of Kubernetes.
const PYTHON: &str = ".tools/recipes/bin/python";

const SCHEMAS: &str = r#"
import json, sys, yaml, compose_spec, kubernetes_validate
compose, kubernetes = (yaml.safe_load(open(name)) for name in sys.argv[1:])
compose = {k: v for k, v in compose.items() if not k.startswith("x-")}
project = compose_spec.PyCompose.from_json(json.dumps(compose))
project.validate()
assert sorted(project.service_names()) == ["app", "nightly", "strongroom"], project.service_names()
kinds = [item["kind"] for item in kubernetes["items"]]
assert kinds == ["PersistentVolumeClaim", "Deployment", "CronJob", "CronJob", "Pod"], kinds
for item in kubernetes["items"]:
    kubernetes_validate.validate(item, "1.33", strict=True)
"#;

#[test]
fn compose_and_kubernetes_know_every_field() {
    if !root().join(PYTHON).exists() {
        assert!(!tools(&["compose-spec and kubernetes-validate, which tests/run installs"]));
        return;
    }
    let output = Command::new(root().join(PYTHON))
        .args(["-c", SCHEMAS, "docs/recipes/compose.yaml", "docs/recipes/kubernetes.yaml"])
        .current_dir(root())
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_loop_of_the_nightly_service_is_one_that_a_shell_reads_and_waits_until_two() {
    let text = read("docs/recipes/compose.yaml");
    let lines: Vec<String> = text
        .lines()
        .skip_while(|line| line.trim() != "- |")
        .skip(1)
        .take_while(|line| line.starts_with("        "))
        .map(|line| line.replace("$$", "$"))
        .collect();
    let script = lines.join("\n");
    let shell = |script: &str| Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(shell(&format!("sh -n <<'END'\n{script}\nEND\n")).status.success(), "{script}");
    let wait = script.split_once("while sleep ").expect("a loop").1.split_once("; do").expect("its head").0;
    for (now, seconds) in [("2026-11-25 01:59:59", "1"), ("2026-11-25 02:00:00", "0"), ("2026-11-25 02:00:01", "86399")]
    {
        let at = format!("date() {{ command date -u -d '{now}' \"$@\"; }}; echo {wait}");
        let output = shell(&at);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), seconds, "at {now}");
    }
}
