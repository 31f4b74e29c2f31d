//! Replacing credentials: what every database promises of it, and the look back before the commit.

use std::collections::HashMap;

use crate::appkey::credential::{Credential, RowId};
use crate::ground::names::Sha256Hex;
use crate::ground::{Error, Result};

/// Puts a new value in the place of a credential that was read.
pub type Put<'a> = &'a mut dyn FnMut(&Credential, &[u8]) -> Result<()>;

/// Changes credentials: gets all of them, and puts new values.
pub type Change<'a> = &'a mut dyn FnMut(Vec<Credential>, Put<'_>) -> Result<()>;

/// What becomes of a rewrite when others have the database open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It is refused, where they can be seen.
    Refuse,
    /// They wait until it is done.
    Wait,
}

/// How a rewrite ended that was not refused.
#[derive(Debug)]
#[must_use]
pub enum Rewritten {
    /// The new values are durable.
    Committed,
    /// The answer to the commit was lost: whether the values are new is for a look at the database to tell.
    Unknown(Error),
}

/// What every credential must be when a rewrite ends.
pub(crate) struct Expected {
    rows: HashMap<(String, String, RowId), Row>,
}

struct Row {
    value: Sha256Hex,
    changed: bool,
    seen: bool,
}

fn place(credential: &Credential) -> (String, String, RowId) {
    (credential.table.clone(), credential.column.clone(), credential.id.clone())
}

pub(crate) fn named(credential: &Credential) -> String {
    format!("{}.{} row {}", credential.table, credential.column, credential.id)
}

impl Expected {
    /// Everything as it was read; an error when a key names two rows.
    pub(crate) fn new(credentials: &[Credential]) -> Result<Self> {
        let mut rows = HashMap::with_capacity(credentials.len());
        for credential in credentials {
            let row = Row { value: Sha256Hex::of(&credential.ciphertext), changed: false, seen: false };
            if rows.insert(place(credential), row).is_some() {
                return Err(Error::failed(format!("there are two rows {}", named(credential)))
                    .hint("The profile's primary key does not name a row; correct it before anything is rewritten."));
            }
        }
        Ok(Self { rows })
    }

    /// A new value that was put; each row gets one at most.
    pub(crate) fn put(&mut self, credential: &Credential, value: &[u8]) -> Result<()> {
        match self.rows.get_mut(&place(credential)) {
            Some(row) if !row.changed && row.value == Sha256Hex::of(&credential.ciphertext) => {
                row.value = Sha256Hex::of(value);
                row.changed = true;
                Ok(())
            }
            _ => Err(Error::failed(format!("{} was not read, or was changed twice", named(credential)))),
        }
    }

    /// A row as it is now.
    pub(crate) fn look(&mut self, credential: &Credential) -> Result<()> {
        let Some(row) = self.rows.get_mut(&place(credential)) else {
            return Err(Error::failed(format!("{} was not there before", named(credential))).hint(NOTHING));
        };
        if row.value != Sha256Hex::of(&credential.ciphertext) {
            return Err(Error::failed(format!("{} does not hold what was written there", named(credential)))
                .hint("A trigger or a rule of the database may have changed it.")
                .hint(NOTHING));
        }
        row.seen = true;
        Ok(())
    }

    /// Every row was seen again.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.rows.iter().find(|(_, row)| !row.seen) {
            None => Ok(()),
            Some(((table, column, id), _)) => {
                Err(Error::failed(format!("{table}.{column} row {id} is there no more")).hint(NOTHING))
            }
        }
    }
}

const NOTHING: &str = "Nothing was committed.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appkey::credential::KeyPart;

    fn credential(id: i64, value: &str) -> Credential {
        Credential {
            table: "t".to_owned(),
            column: "c".to_owned(),
            id: RowId::One(KeyPart::Integer(id)),
            ciphertext: value.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_row_that_came_went_or_changed_is_noticed() {
        let before = [credential(1, "a"), credential(2, "b")];
        let expected = || {
            let mut expected = Expected::new(&before).expect("read");
            expected.put(&before[0], b"new").expect("put");
            expected
        };
        let mut good = expected();
        good.look(&credential(1, "new")).expect("as written");
        assert!(good.finish().is_err(), "one went");
        good.look(&credential(2, "b")).expect("as it was");
        good.finish().expect("all are there");
        assert!(expected().look(&credential(1, "a")).is_err(), "not written");
        assert!(expected().look(&credential(2, "new")).is_err(), "written and not put");
        assert!(expected().look(&credential(3, "c")).is_err(), "one came");
        assert!(expected().put(&before[0], b"again").is_err(), "twice");
        assert!(expected().put(&credential(2, "x"), b"new").is_err(), "not what was read");
        assert!(Expected::new(&[credential(1, "a"), credential(1, "b")]).is_err(), "two rows of one key");
    }
}
