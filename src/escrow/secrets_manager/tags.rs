//! The readable record and its signature as tags of the secret, in base64, cut to the length that a tag may have.
//!
//! Their number and names are fixed: the policies of the roles name each of them, so that who may create a deposit may not
//! change the tags of one.

use aws_sdk_secretsmanager::types::Tag;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ground::{Error, Result};

/// The names, in the order of their pieces.
const RECORD: [&str; 2] = ["strongroom-record-1", "strongroom-record-2"];
const SIGNATURE: [&str; 3] = ["strongroom-signature-1", "strongroom-signature-2", "strongroom-signature-3"];

/// How long a tag's value may be (AWS Secrets Manager, `Tag`).
const LENGTH: usize = 256;

/// Every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RECORD.into_iter().chain(SIGNATURE)
}

/// The tags of a deposit.
pub(super) fn write(record: &[u8], minisig: &[u8]) -> Result<Vec<Tag>> {
    let mut tags = cut(&RECORD, record)?;
    tags.extend(cut(&SIGNATURE, minisig)?);
    Ok(tags)
}

fn cut(names: &[&str], bytes: &[u8]) -> Result<Vec<Tag>> {
    let text = STANDARD.encode(bytes);
    if text.len() > names.len() * LENGTH {
        return Err(Error::failed("the public record or its signature is too long for the tags of a secret"));
    }
    let pieces = text.as_bytes().chunks(LENGTH).chain(std::iter::repeat(&[][..]));
    let tag = |(name, piece): (&&str, &[u8])| Tag::builder().key(*name).value(String::from_utf8_lossy(piece)).build();
    Ok(names.iter().zip(pieces).map(tag).collect())
}

/// The record and its signature; nothing when some of it is missing or no base64.
pub(super) fn read(tags: &[Tag]) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((join(&RECORD, tags)?, join(&SIGNATURE, tags)?))
}

fn join(names: &[&str], tags: &[Tag]) -> Option<Vec<u8>> {
    let mut text = String::with_capacity(names.len() * LENGTH);
    for name in names {
        text.push_str(tags.iter().find(|tag| tag.key() == Some(name))?.value()?);
    }
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::conformance::{record, signer};
    use super::super::super::prepare;
    use super::*;
    use crate::sealing::SealingKey;

    #[test]
    fn the_longest_record_fits_and_every_tag_has_a_value() {
        let (signer, _) = signer();
        for app in ["a".to_owned(), "a".repeat(63)] {
            let mut longest = record(1);
            longest.app = app.parse().expect("a name");
            let prepared = prepare(&longest, SealingKey::generate().recipient(), &signer).expect("prepared");
            let bytes = prepared.public.to_bytes().expect("bytes");
            let tags = write(&bytes, &prepared.minisig).expect("they fit");
            assert_eq!(tags.iter().filter_map(Tag::key).collect::<Vec<_>>(), names().collect::<Vec<_>>());
            // A policy cannot compare what is not there.
            assert!(tags.iter().all(|tag| (1..=LENGTH).contains(&tag.value().unwrap_or_default().len())), "{tags:?}");
            assert_eq!(read(&tags), Some((bytes, prepared.minisig)));
        }
    }

    #[test]
    fn what_is_incomplete_is_no_record() {
        let tags = write(&[1; 300], &[2; 500]).expect("they fit");
        for gone in 0..tags.len() {
            let mut fewer = tags.clone();
            fewer.remove(gone);
            assert_eq!(read(&fewer), None);
        }
        assert!(write(&[1; 400], &[2; 500]).is_err());
        let mut wrong = tags;
        wrong[0] = Tag::builder().key(RECORD[0]).value("???").build();
        assert_eq!(read(&wrong), None);
    }
}
