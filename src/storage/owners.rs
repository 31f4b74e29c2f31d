//! Names of users and groups, as this machine has them.

use std::collections::HashMap;

/// Numbers to names, from `/etc/passwd` and `/etc/group`; a number that is not there has none.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Reads this machine's files; without them nobody has a name.
    pub fn of_this_machine() -> Self {
        let read = |path| std::fs::read_to_string(path).map(|text| parse(&text)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// A user's name.
    pub fn user(&self, id: u32) -> Option<&str> {
        self.users.get(&id).map(String::as_str)
    }

    /// A group's name.
    pub fn group(&self, id: u32) -> Option<&str> {
        self.groups.get(&id).map(String::as_str)
    }
}

fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) {
            // The first name of a number is the one that `ls` shows.
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbad line\nx:x:y:0\n");
        assert_eq!(names.len(), 1);
        assert_eq!(names[&0], "root");
    }
}
