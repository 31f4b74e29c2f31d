//! A bundle that is being written.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::digest::DigestWriter;
use super::frames::{FrameWriter, Frames, ParallelWriter};
use super::header::Header;
use super::members::{Form, Listed, Member, PartName};
use super::sums::Sums;
use super::{SIGNATURE, SUMS, folder, trusted_comment};
use crate::archive::{Archive, NewObject};
use crate::ground::names::{AppName, BundleId, ObjectName, Sha256Hex, Uuid};
use crate::ground::{Error, Kind, Result, clock};
use crate::sealing::Recipient;
use crate::sealing::stream::{self, SealedWriter};
use crate::signer::{Signer, Trusted};

/// A bundle that is being written; several threads may write members of it at once.
///
/// Nothing of it exists for readers before [`Draft::close`] and the ledger entry that names its digest. Dropped before, it
/// leaves objects behind that no list names.
pub struct Draft<'a> {
    archive: &'a dyn Archive,
    archive_id: Uuid,
    app: AppName,
    id: BundleId,
    recipient: Recipient,
    written: Mutex<Written>,
}

struct Written {
    sums: Sums,
    bytes: u64,
}

impl<'a> Draft<'a> {
    /// Begins a bundle; writes nothing yet.
    pub fn begin(
        archive: &'a dyn Archive,
        archive_id: &Uuid,
        app: &AppName,
        id: &BundleId,
        recipient: &Recipient,
    ) -> Self {
        Self {
            archive,
            archive_id: archive_id.clone(),
            app: app.clone(),
            id: id.clone(),
            recipient: recipient.clone(),
            written: Mutex::new(Written { sums: Sums::new(app), bytes: 0 }),
        }
    }

    /// The bundle's name.
    pub fn id(&self) -> &BundleId {
        &self.id
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // Every change is one statement, so what a panicking thread left behind is whole.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, member: &Member) -> Result<ObjectName> {
        Listed::Member(member.clone()).object(&self.app, &folder(&self.app, &self.id)?)
    }

    /// Begins a member, which takes content and stores it compressed and sealed as the member's form has it.
    ///
    /// Without [`MemberWriter::finish`] there is no such member.
    pub fn member(&self, member: Member) -> Result<MemberWriter<'_>> {
        let base = self.create(&member)?;
        let stage = match member.form() {
            Form::Plain | Form::Wrapped => Stage::Raw(Box::new(base)),
            Form::Sealed => Stage::Sealed(Box::new(stream::seal(&self.recipient, base)?)),
            // The one member that is long, written while nothing else is to be done.
            Form::Compressed if member.is_database() => {
                Stage::Parallel(Box::new(ParallelWriter::new(stream::seal(&self.recipient, base)?)))
            }
            Form::Compressed => Stage::Compressed(Box::new(FrameWriter::new(stream::seal(&self.recipient, base)?)?)),
        };
        Ok(MemberWriter { written: &self.written, member, stage })
    }

    fn create(&self, member: &Member) -> Result<Base> {
        Ok(DigestWriter::new(self.archive.create(&self.object(member)?)?))
    }

    /// Writes a small member from its content; answers how many bytes were stored.
    pub fn put(&self, member: Member, content: &[u8]) -> Result<u64> {
        write_all(self.member(member)?, content)
    }

    /// Writes a small member that has its stored form already, such as the `identity.age` of the archive.
    pub fn put_raw(&self, member: Member, stored: &[u8]) -> Result<u64> {
        let stage = Stage::Raw(Box::new(self.create(&member)?));
        write_all(MemberWriter { written: &self.written, member, stage }, stored)
    }

    /// Refers to a part or segment that is in the archive already, by its name in `SHA256SUMS` (`../../../parts/…`).
    pub fn refer(&self, name: &str, sha256: &Sha256Hex) -> Result<()> {
        if PartName::from_relative(name, &self.app).is_none() {
            return Err(Error::failed(format!("{name:?} is no part of {}", self.app)));
        }
        self.written().sums.add(name, sha256)
    }

    /// Refers to a part or segment that was stored for this bundle, and counts its bytes.
    pub fn stored(&self, part: &PartName, sha256: &Sha256Hex, bytes: u64) -> Result<()> {
        let mut written = self.written();
        written.sums.add(&part.relative(&self.app), sha256)?;
        written.bytes += bytes;
        Ok(())
    }

    /// How many bytes were stored for this bundle so far: its finished members, and what [`Draft::stored`] counted.
    pub fn bytes(&self) -> u64 {
        self.written().bytes
    }

    /// Writes header, signature and `SHA256SUMS`, in this order; answers the digest of `SHA256SUMS`, which the ledger needs.
    ///
    /// A header that is not about this bundle, and a bundle that lacks what its header or the format asks for, is an error
    /// before anything is written.
    pub fn close(self, header: &Header, signer: &Signer) -> Result<Sha256Hex> {
        header.belongs(&self.archive_id, &self.app, &self.id, signer.public(), clock::now())?;
        if header.sealing != *self.recipient.id() {
            return Err(Error::failed(format!("the header of bundle {} names another sealing key", self.id)));
        }
        let bytes = header.to_bytes()?;
        Header::parse(&bytes, "the new header")?;
        let refused = |why: String| Error::failed(format!("bundle {} cannot be closed: {why}", self.id));
        {
            let sums = &self.written().sums;
            if let Some(member) = [Member::Proof, Member::Files].iter().find(|member| !sums.has(member)) {
                return Err(refused(format!("it has no {}", member.file_name())));
            }
            header.agrees(sums).map_err(|why| refused(format!("its header {why}")))?;
        }
        self.put_raw(Member::Header, &bytes)?;
        let sums = self.written().sums.to_bytes();
        Sums::parse(&sums, &self.app, "the new SHA256SUMS")?;
        let comment = trusted_comment(&self.archive_id, &self.app, &self.id);
        let signature = signer.sign(&sums, &comment)?;
        // A signature that does not verify would be noticed at the restore.
        Trusted::new(vec![*signer.public()]).verify(&sums, &signature, &comment, "the new SHA256SUMS")?;
        let folder = folder(&self.app, &self.id)?;
        for (name, bytes) in [(SIGNATURE, &signature), (SUMS, &sums)] {
            let name = folder.join(name)?;
            if !self.archive.put_new(&name, bytes)? {
                return Err(taken(&name));
            }
        }
        Ok(Sha256Hex::of(&sums))
    }
}

fn write_all(mut writer: MemberWriter<'_>, bytes: &[u8]) -> Result<u64> {
    let name = writer.member.file_name();
    writer.write_all(bytes).map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {name}"), e))?;
    writer.finish().map(|stored| stored.bytes)
}

fn taken(name: &(impl std::fmt::Display + ?Sized)) -> Error {
    Error::failed(format!("{name} is there already, and a bundle is written once"))
}

type Base = DigestWriter<Box<dyn NewObject>>;

enum Stage {
    Raw(Box<Base>),
    Sealed(Box<SealedWriter<Base>>),
    Compressed(Box<FrameWriter<SealedWriter<Base>>>),
    Parallel(Box<ParallelWriter<SealedWriter<Base>>>),
}

/// A member that is being written.
pub struct MemberWriter<'a> {
    written: &'a Mutex<Written>,
    member: Member,
    stage: Stage,
}

/// A member that was stored.
pub struct StoredMember {
    /// Its bytes as they are stored.
    pub bytes: u64,
    /// Where its frames are; of the database alone.
    pub frames: Frames,
}

impl MemberWriter<'_> {
    /// Makes the member durable and lists it.
    pub fn finish(self) -> Result<StoredMember> {
        let (name, mut located) = (self.member.file_name(), Frames::default());
        let base = match self.stage {
            Stage::Raw(base) => *base,
            Stage::Sealed(sealed) => sealed.finish()?,
            Stage::Compressed(frames) => frames.finish()?.finish()?,
            Stage::Parallel(frames) => {
                let (sealed, frames) = frames.finish()?;
                located = frames;
                sealed.finish()?
            }
        };
        let (object, digest, bytes) = base.finish()?;
        if !object.commit()? {
            return Err(taken(&name));
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.sums.add(&name, &digest)?;
        written.bytes += if self.member == Member::Header { 0 } else { bytes };
        Ok(StoredMember { bytes, frames: located })
    }
}

impl Write for MemberWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Raw(base) => base.write(bytes),
            Stage::Sealed(sealed) => sealed.write(bytes),
            Stage::Compressed(frames) => frames.write(bytes),
            Stage::Parallel(frames) => frames.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
