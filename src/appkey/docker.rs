//! Keys in the environment that a container is configured with.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::ground::child::{self, Environment};
use crate::ground::{Error, Kind, Result};

/// How long `docker` may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The value of a variable that a container is configured with, whether it runs or not.
///
/// Container and name are checked when the reference is parsed, so neither can be an option. Docker is asked for the container's
/// configuration and not for the environment of its process: that works while it is stopped, and needs no program in it.
pub fn variable(container: &str, name: &str, environment: &Environment) -> Result<Zeroizing<Vec<u8>>> {
    let argv = ["docker", "container", "inspect", "--format", "{{json .Config.Env}}", container].map(str::to_owned);
    let said = child::run(&argv, environment, b"", LIMIT).map(Zeroizing::new).map_err(|error| {
        let (kind, hint) = meaning(&error);
        error
            .context(format!("docker does not show the configuration of container {container}"))
            .with_kind(kind)
            .hint(hint)
    })?;
    let lines = lines(&said)
        .ok_or_else(|| Error::failed(format!("docker's answer about container {container} is no list of variables")))?;
    find(&lines, name).ok_or_else(|| {
        Error::not_found(format!("container {container} is configured with no variable {name}")).hint(
            "A variable that a program inside sets itself, or reads from a file, is not part of the configuration.",
        )
    })
}

/// What it means that docker failed, by what it said, and what helps.
fn meaning(error: &Error) -> (Kind, &'static str) {
    let said = error.chain().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["no such container"]) {
        (Kind::NotFound, "`docker ps --all` lists the containers that there are.")
    } else if has(&["permission denied"]) {
        (Kind::Denied, "The user that runs this must be allowed to use docker.")
    } else if has(&child::DOCKER_IS_AWAY) {
        (Kind::Unreachable, "Is docker running? [env] pass names DOCKER_HOST and the like, where it is elsewhere.")
    } else {
        (
            error.kind(),
            "The user that runs this must be allowed to use docker; [env] pass names DOCKER_HOST and the like.",
        )
    }
}

/// One `NAME=value`; wiped when dropped.
struct Line(Zeroizing<String>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(|line| Self(Zeroizing::new(line)))
    }
}

/// `None` when it is not docker's answer.
fn lines(said: &[u8]) -> Option<Vec<Line>> {
    serde_json::from_slice::<Option<_>>(said).ok().map(Option::unwrap_or_default)
}

/// The last of two with one name wins, as in the container.
fn find(lines: &[Line], name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let value = |line: &Line| {
        let value = line.0.strip_prefix(name)?.strip_prefix('=')?;
        Some(Zeroizing::new(value.as_bytes().to_vec()))
    };
    lines.iter().rev().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_says_tells_who_has_to_do_something() {
        for (said, kind) in [
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", Kind::Unreachable),
            ("failed to connect to the docker API at unix:///x.sock; check if the path is correct", Kind::Unreachable),
            ("error during connect: Get \"http://elsewhere:2375/_ping\": dial tcp", Kind::Unreachable),
            ("permission denied while trying to connect to the docker API at unix:///x.sock", Kind::Denied),
            ("Error response from daemon: No such container: x", Kind::NotFound),
            ("unknown flag: --format", Kind::Failed),
        ] {
            assert_eq!(meaning(&Error::failed("docker failed").because(said.to_owned())).0, kind, "{said}");
        }
    }

    #[test]
    fn dockers_answer_is_read_exactly() {
        let said = br#"["PATH=/bin","KEY=a=b\nc\u00e9","KEY2=x","EMPTY="]"#;
        let read =
            |name: &str| find(&lines(said).expect("an answer"), name).map(|v| String::from_utf8_lossy(&v).into_owned());
        let read_all = |said: &[u8], name: &str| find(&lines(said).expect("an answer"), name);
        assert_eq!(read("KEY").as_deref(), Some("a=b\nc\u{e9}"));
        assert_eq!(read("EMPTY").as_deref(), Some(""));
        assert_eq!(read("KE"), None);
        assert_eq!(read_all(br#"["K=1","K=2"]"#, "K").as_deref().map(Vec::as_slice), Some(b"2".as_slice()));
        assert!(read_all(b"null", "K").is_none());
        assert!(lines(b"Error: no such thing").is_none());
    }
}
