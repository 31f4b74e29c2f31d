//! One part that is being written: tar → (zstd) → age → SHA-256 → archive.

use std::io::{self, Write};

use crate::archive::{Archive, NewObject};
use crate::bundle::digest::DigestWriter;
use crate::bundle::filelist::Place;
use crate::bundle::frames::FrameWriter;
use crate::bundle::members::{PartKind, PartName};
use crate::ground::names::{AppName, Sha256Hex, Ulid};
use crate::ground::{Error, Kind, Result, clock};
use crate::sealing::Recipient;
use crate::sealing::stream::{self, SealedWriter};

/// Bytes of the two empty blocks that end a tar file.
const END: [u8; 1024] = [0; 1024];

type Sealed = SealedWriter<DigestWriter<Box<dyn NewObject>>>;

enum Out {
    Stored(Sealed),
    Compressed(FrameWriter<Sealed>),
}

/// A part that is being written.
pub(super) struct PartWriter {
    name: PartName,
    out: Out,
    /// Bytes of tar written.
    content: u64,
}

/// A part whose bytes are all written; what is left is to make it last.
pub struct Closing {
    name: PartName,
    object: Box<dyn NewObject>,
    sha256: Sha256Hex,
    stored: u64,
}

/// A part that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub name: PartName,
    /// SHA-256 of the stored bytes.
    pub sha256: Sha256Hex,
    /// Stored bytes.
    pub stored: u64,
}

impl PartWriter {
    /// Begins a part.
    pub(super) fn begin(archive: &dyn Archive, app: &AppName, recipient: &Recipient, compress: bool) -> Result<Self> {
        let kind = if compress { PartKind::TarZst } else { PartKind::Tar };
        let name = PartName { ulid: Ulid::new(clock::now())?, kind };
        let object = archive.create(&name.object(app)?)?;
        let sealed = stream::seal(recipient, DigestWriter::new(object))?;
        let out = if compress { Out::Compressed(FrameWriter::new(sealed)?) } else { Out::Stored(sealed) };
        Ok(Self { name, out, content: 0 })
    }

    /// Where the next member will be.
    pub(super) fn place(&self) -> Place {
        let (frame, skip) = match &self.out {
            Out::Stored(_) => (self.content, 0),
            Out::Compressed(frames) => {
                let position = frames.position();
                (position.frame, position.skip)
            }
        };
        Place { part: self.name.clone(), frame, skip }
    }

    /// Bytes of tar so far.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    /// The rest of the chunk that is being filled, at least a byte, to be read into; `None` where content is compressed first.
    ///
    /// What is put there counts when [`PartWriter::filled`] says so.
    pub(super) fn room(&mut self) -> io::Result<Option<&mut [u8]>> {
        match &mut self.out {
            Out::Stored(sealed) => sealed.room().map(Some),
            Out::Compressed(_) => Ok(None),
        }
    }

    /// So many bytes were put into the room.
    pub(super) fn filled(&mut self, bytes: usize) {
        if let Out::Stored(sealed) = &mut self.out {
            sealed.filled(bytes);
            self.content += bytes as u64;
        }
    }

    /// Ends the tar file and the age stream.
    pub(super) fn close(mut self) -> Result<Closing> {
        let name = self.name.clone();
        self.write_all(&END)
            .map_err(|e| Error::from_io(Kind::Failed, format!("cannot write part {}", name.file_name()), e))?;
        let sealed = match self.out {
            Out::Stored(sealed) => sealed,
            Out::Compressed(frames) => frames.finish()?,
        };
        let (object, sha256, stored) = sealed.finish()?.finish()?;
        Ok(Closing { name, object, sha256, stored })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.out {
            Out::Stored(sealed) => sealed.write(bytes),
            Out::Compressed(frames) => frames.write(bytes),
        }?;
        self.content += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Closing {
    /// Makes the part last under its name.
    pub fn commit(self) -> Result<Finished> {
        if !self.object.commit()? {
            // Eighty random bits do not come twice; somebody put it there.
            return Err(Error::not_authentic(format!("the part {} exists already", self.name.file_name())));
        }
        Ok(Finished { name: self.name, sha256: self.sha256, stored: self.stored })
    }
}
