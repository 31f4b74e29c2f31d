//! What may stand in a bundle: a closed list of names.

use crate::ground::names::{AppName, ObjectName, Ulid};
use crate::ground::{Error, Result};

/// The base names of what databases dump.
const DUMPS: [&str; 5] = ["database.pgdump", "database.sql", "database.sqlite", "globals.sql", "pgschema"];

/// One object of a bundle, without `SHA256SUMS` and its signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// `bundle.json`, plain.
    Header,
    /// `proof.jsonl.zst.age`.
    Proof,
    /// `files.jsonl.zst.age`.
    Files,
    /// `key.age`: the application keys' records, one a line.
    Key,
    /// `identity.age`: the sealing key, wrapped for its custodians.
    Identity,
    /// `share-<n>.age`: one share of the sealing key, wrapped for its custodian.
    Share(u8),
    /// `config.toml.age`.
    Config,
    /// A file of the database's dump by its base name, such as `database.sqlite` for `database.sqlite.zst.age`.
    Database(String),
}

/// How an object is made of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The content itself.
    Plain,
    /// An age file for the custodians, which is copied as it is.
    Wrapped,
    /// An age file to the sealing key.
    Sealed,
    /// zstd frames in an age file to the sealing key.
    Compressed,
}

impl Member {
    /// The object's name in the bundle's folder.
    pub fn file_name(&self) -> String {
        match self {
            Self::Header => "bundle.json".to_owned(),
            Self::Proof => "proof.jsonl.zst.age".to_owned(),
            Self::Files => "files.jsonl.zst.age".to_owned(),
            Self::Key => "key.age".to_owned(),
            Self::Identity => "identity.age".to_owned(),
            Self::Share(number) => format!("share-{number}.age"),
            Self::Config => "config.toml.age".to_owned(),
            Self::Database(base) => format!("{base}.zst.age"),
        }
    }

    /// The name of its content, as it is once unsealed and decompressed: `database.sqlite`, `config.toml`, `key`.
    pub fn base_name(&self) -> String {
        let name = self.file_name();
        let name = name.strip_suffix(".age").unwrap_or(&name);
        name.strip_suffix(".zst").unwrap_or(name).to_owned()
    }

    /// The member of this name; `None` for a name that no bundle has.
    pub fn parse(file_name: &str) -> Option<Self> {
        let member = match file_name {
            "bundle.json" => Self::Header,
            "proof.jsonl.zst.age" => Self::Proof,
            "files.jsonl.zst.age" => Self::Files,
            "key.age" => Self::Key,
            "identity.age" => Self::Identity,
            "config.toml.age" => Self::Config,
            _ => match file_name.strip_prefix("share-").and_then(|rest| rest.strip_suffix(".age")) {
                Some(number) => Self::Share(number.parse().ok().filter(|n| *n > 0)?),
                None => Self::Database(file_name.strip_suffix(".zst.age")?.to_owned()),
            },
        };
        // The way back tells `share-01.age` and an unknown dump from the real ones.
        (member.is_known() && member.file_name() == file_name).then_some(member)
    }

    /// Whether it is on the closed list; only a dump's base name or a share's number can be off it.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Database(base) => DUMPS.contains(&base.as_str()),
            Self::Share(number) => *number > 0,
            _ => true,
        }
    }

    /// How the object is made of its content.
    pub fn form(&self) -> Form {
        match self {
            Self::Header => Form::Plain,
            Self::Identity | Self::Share(_) => Form::Wrapped,
            Self::Key | Self::Config => Form::Sealed,
            Self::Proof | Self::Files | Self::Database(_) => Form::Compressed,
        }
    }

    /// Whether it is the database itself, and not one of the files beside it.
    pub fn is_database(&self) -> bool {
        matches!(self, Self::Database(base) if base.starts_with("database."))
    }
}

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// `.tar.age`: files as they are.
    Tar,
    /// `.tar.zst.age`: files, compressed.
    TarZst,
    /// `.files.zst.age`: a segment of a file list.
    Files,
}

impl PartKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Tar, Self::TarZst, Self::Files];

    /// How its objects' names end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar.age",
            Self::TarZst => "tar.zst.age",
            Self::Files => "files.zst.age",
        }
    }
}

/// The name of a part, or of a segment of a file list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// Its own name.
    pub ulid: Ulid,
    /// What it holds.
    pub kind: PartKind,
}

impl PartName {
    /// The object's path in the archive: `parts/<app>/<last two of ulid>/<ulid>.tar.age`.
    pub fn object(&self, app: &AppName) -> Result<ObjectName> {
        format!("parts/{app}/{}/{}", self.ulid.shelf(), self.file_name()).parse()
    }

    /// Its path as `SHA256SUMS` has it, relative to the bundle's folder.
    pub fn relative(&self, app: &AppName) -> String {
        format!("../../../parts/{app}/{}/{}", self.ulid.shelf(), self.file_name())
    }

    /// The last component of its path.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.ulid, self.kind.extension())
    }

    /// The part of this file name; `None` for what is none.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (ulid, extension) = file_name.split_once('.')?;
        let kind = PartKind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        Some(Self { ulid: ulid.parse().ok()?, kind })
    }

    /// The part that `SHA256SUMS` refers to so; `None` for a path that is not exactly one of this application's parts.
    pub fn from_relative(path: &str, app: &AppName) -> Option<Self> {
        let part = Self::parse(path.rsplit('/').next()?)?;
        (part.relative(app) == path).then_some(part)
    }
}

/// The name of one line of `SHA256SUMS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listed {
    /// An object of the bundle itself.
    Member(Member),
    /// A part or a segment, which other bundles may list too.
    Part(PartName),
}

impl Listed {
    /// Reads a name; `None` for one that is not on the closed list.
    pub fn parse(name: &str, app: &AppName) -> Option<Self> {
        if name.starts_with("..") {
            PartName::from_relative(name, app).map(Self::Part)
        } else {
            Member::parse(name).map(Self::Member)
        }
    }

    /// The object's path in the archive, of a bundle in this folder.
    pub fn object(&self, app: &AppName, folder: &ObjectName) -> Result<ObjectName> {
        match self {
            Self::Member(member) if member.is_known() => folder.join(&member.file_name()),
            Self::Member(member) => Err(Error::failed(format!("no bundle has a member {:?}", member.file_name()))),
            Self::Part(part) => part.object(app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_no_other_does() {
        let dumps = DUMPS.iter().map(|base| Member::Database((*base).to_owned()));
        let others = [
            Member::Header,
            Member::Proof,
            Member::Files,
            Member::Key,
            Member::Identity,
            Member::Share(1),
            Member::Share(255),
            Member::Config,
        ];
        for member in dumps.chain(others) {
            assert_eq!(Member::parse(&member.file_name()), Some(member.clone()), "{member:?}");
        }
        for bad in [
            "",
            "SHA256SUMS",
            "SHA256SUMS.minisig",
            "share-0.age",
            "share-01.age",
            "share-256.age",
            "share-+1.age",
            "share-.age",
            "database.zst.age",
            ".zst.age",
            "other.zst.age",
            "key.age.zst.age",
            "Key.age",
            "key.age ",
            "./key.age",
        ] {
            assert_eq!(Member::parse(bad), None, "{bad}");
        }
        assert_eq!(Member::Config.base_name(), "config.toml");
        assert_eq!(Member::Database("database.sqlite".to_owned()).base_name(), "database.sqlite");
    }

    #[test]
    fn a_part_is_referred_to_by_exactly_one_path() {
        let app: AppName = "shop".parse().expect("a name");
        let ulid: Ulid = "01JDQ8ZK3V9W5X6Y7Z8A9BCDEF".parse().expect("a ULID");
        for kind in PartKind::ALL {
            let part = PartName { ulid: ulid.clone(), kind };
            let relative = part.relative(&app);
            assert_eq!(PartName::from_relative(&relative, &app), Some(part.clone()));
            assert_eq!(format!("../../../{}", part.object(&app).expect("a name")), relative);
        }
        for bad in [
            "../../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF",
            "../../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar",
            "../../../parts/shop/EE/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../parts/shop/ef/01jdq8zk3v9w5x6y7z8a9bcdef.tar.age",
            "../../../parts/blog/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../parts/shop/EF/../EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../parts/shop//EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../bundles/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age",
            "../../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age/",
        ] {
            assert_eq!(Listed::parse(bad, &app), None, "{bad}");
        }
    }
}
