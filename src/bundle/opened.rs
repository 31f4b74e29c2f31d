//! A bundle that is being read.

use std::io::Read;

use zeroize::Zeroizing;

use super::check::{self, Scope, missing};
use super::content::{MemberContent, Seen, Watched};
use super::digest::DigestReader;
use super::frames::FrameReader;
use super::header::{self, Header};
use super::members::{Form, Listed, Member, PartName};
use super::sums::{self, Sums};
use super::{FOREIGN, SIGNATURE, SUMS, folder, trusted_comment};
use crate::archive::{Archive, Object};
use crate::database::Content;
use crate::ground::beside::Stop;
use crate::ground::names::{AppName, BundleId, ObjectName, Sha256Hex, Uuid};
use crate::ground::progress::Progress;
use crate::ground::{Error, Kind, Result, clock};
use crate::sealing::{SealingKey, stream};
use crate::signer::Trusted;

/// How long a signature may be in bytes; more is no signature.
const SIGNATURE_LIMIT: u64 = 4096;

/// How long a wrapped sealing key may be in bytes.
const WRAPPED_LIMIT: u64 = 1 << 20;

/// A bundle whose list and header are authentic; what it lists is authenticated as it is read.
pub struct Opened<'a> {
    archive: &'a dyn Archive,
    app: AppName,
    folder: ObjectName,
    header: Header,
    sums: Sums,
    digest: Sha256Hex,
}

impl<'a> Opened<'a> {
    /// Authenticates a bundle: signature, digest in the ledger (`sums`), strict list, header, place and time.
    ///
    /// [`Kind::NotFound`] when there is no such bundle, and none is expected (`sums` is `None`); where one is expected, that is
    /// [`Kind::NotAuthentic`], as is what is signed by nobody trusted, or says that it belongs elsewhere.
    pub fn open(
        archive: &'a dyn Archive,
        archive_id: &Uuid,
        app: &AppName,
        id: &BundleId,
        sums: Option<&Sha256Hex>,
        trusted: &Trusted,
    ) -> Result<Self> {
        let folder = folder(app, id)?;
        let (list_name, signature_name) = (folder.join(SUMS)?, folder.join(SIGNATURE)?);
        let bytes = archive.get(&list_name, sums::LIMIT).map_err(|e| match (e.kind(), sums) {
            (Kind::NotFound, None) => Error::not_found(format!("there is no bundle {id} of {app}")).because(e),
            (Kind::NotFound, Some(_)) => Error::not_authentic(format!(
                "the ledger names bundle {id}, {list_name} is gone, and no signed entry says that it was pruned"
            ))
            .hint("Take the bundle from another copy of the archive."),
            _ => missing(e, &list_name),
        })?;
        let signature = archive.get(&signature_name, SIGNATURE_LIMIT).map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_authentic(format!("{list_name} has no signature"))
                .because(e)
                .hint(format!("Take {signature_name} from another copy of the archive.")),
            _ => e,
        })?;
        let comment = trusted_comment(archive_id, app, id);
        let signer = trusted.verify(&bytes, &signature, &comment, list_name.as_str())?;
        let digest = Sha256Hex::of(&bytes);
        if let Some(expected) = sums.filter(|expected| **expected != digest) {
            return Err(Error::not_authentic(format!(
                "{list_name} is signed, and it is not the one in the ledger: its SHA-256 is {digest}, not {expected}"
            ))
            .hint(FOREIGN));
        }
        let list = Sums::parse(&bytes, app, list_name.as_str())?;
        let header_name = folder.join(&Member::Header.file_name())?;
        let bytes = get_listed(archive, &header_name, list.member(&Member::Header), header::LIMIT)?;
        let header = Header::parse(&bytes, header_name.as_str())?;
        header.belongs(archive_id, app, id, &signer, clock::now())?;
        header.agrees(&list).map_err(|why| {
            Error::damaged(format!("the header of bundle {id} {why} in {list_name}"))
                .hint("The host that signed it made it so: take another bundle, and find out who has that host's signing key.")
        })?;
        Ok(Self { archive, app: app.clone(), folder, header, sums: list, digest })
    }

    /// What everybody may know of it.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it lists.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The SHA-256 of its `SHA256SUMS`, as the ledger has it.
    pub fn digest(&self) -> &Sha256Hex {
        &self.digest
    }

    /// The application that it belongs to.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// The archive that it lies in.
    pub fn archive(&self) -> &'a dyn Archive {
        self.archive
    }

    /// The object of a member.
    pub fn name(&self, member: &Member) -> Result<ObjectName> {
        Listed::Member(member.clone()).object(&self.app, &self.folder)
    }

    /// Whether it has this member.
    pub fn has(&self, member: &Member) -> bool {
        self.sums.has(member)
    }

    /// The member that holds the database; `None` when it has no database.
    pub fn database_member(&self) -> Option<Member> {
        self.sums.members().map(|(member, _)| member).find(Member::is_database)
    }

    /// A file of the database's dump by its base name.
    pub fn member_named(&self, base: &str) -> Result<Member> {
        let member = Member::Database(base.to_owned());
        if member.is_known() && self.has(&member) {
            return Ok(member);
        }
        Err(Error::not_found(format!("bundle {} holds no {base}", self.header.id))
            .hint(format!("`strongroom show {}` says what it contains.", self.header.id)))
    }

    /// Compares the digests of the objects in scope, one worker a core; answers how many bytes were read.
    ///
    /// [`Kind::Damaged`] names what is damaged or missing.
    pub fn check(&self, scope: Scope<'_>, progress: &dyn Progress) -> Result<u64> {
        self.check_unless(&Stop::default(), scope, progress)
    }

    /// The same; told to `stop` before the end it is an error.
    pub fn check_unless(&self, stop: &Stop, mut scope: Scope<'_>, progress: &dyn Progress) -> Result<u64> {
        let mut objects = Vec::new();
        for (listed, digest) in self.sums.iter() {
            let name = listed.object(&self.app, &self.folder)?;
            if scope.takes(&listed, &name, &digest) {
                objects.push((name, digest));
            }
        }
        let bytes = check::objects(self.archive, &objects, stop, progress)?;
        if let Scope::EverythingBut(seen) = &mut scope {
            seen.extend(objects);
        }
        Ok(bytes)
    }

    fn listed(&self, member: &Member) -> Result<Sha256Hex> {
        self.sums
            .member(member)
            .ok_or_else(|| Error::not_found(format!("bundle {} has no {}", self.header.id, member.file_name())))
    }

    fn open_object(&self, name: ObjectName, digest: Sha256Hex) -> Result<DigestReader<Box<dyn Object>>> {
        let object = self.archive.open(&name).map_err(|e| missing(e, &name))?;
        Ok(DigestReader::new(object, digest, name))
    }

    /// A member's content, unsealed and decompressed on the way.
    ///
    /// The digest is taken again from the bytes that are used: a difference is an error at the end, so nothing that was read
    /// may be acted upon before the end was reached. Age authenticates each chunk before it is given out.
    pub fn read(&self, member: &Member, key: &SealingKey) -> Result<Box<dyn Read + Send>> {
        let name = self.name(member)?;
        let object = self.open_object(name.clone(), self.listed(member)?)?;
        match member.form() {
            Form::Plain | Form::Wrapped => Ok(Box::new(object)),
            Form::Sealed => Ok(Box::new(self.unseal(key, object, &name)?)),
            Form::Compressed => Ok(Box::new(FrameReader::new(self.unseal(key, object, &name)?, name)?)),
        }
    }

    /// A compressed member's content as [`Opened::read`] gives it, and what is `seen` on the way.
    pub fn watch(&self, member: &Member, key: &SealingKey, seen: &Seen) -> Result<Box<dyn Read + Send>> {
        let name = self.name(member)?;
        let object = self.open_object(name.clone(), self.listed(member)?)?;
        Ok(Box::new(Watched::new(self.unseal(key, object, &name)?, name.as_str(), seen)?))
    }

    /// A compressed member that is read at several places at once.
    pub fn content(&self, member: &Member, key: &SealingKey) -> Result<Box<dyn Content>> {
        let name = self.name(member)?;
        if member.form() != Form::Compressed {
            return Err(Error::failed(format!("{name} is not compressed")));
        }
        let object = self.open_object(name.clone(), self.listed(member)?)?;
        Ok(Box::new(MemberContent::new(self.unseal(key, object, &name)?, name.as_str())?))
    }

    fn unseal<R: Read>(&self, key: &SealingKey, input: R, name: &ObjectName) -> Result<stream::SealedReader<R>> {
        if self.header.sealing != *key.id() {
            return Err(Error::sealed(format!(
                "bundle {} is sealed to key {}, and this is key {}",
                self.header.id,
                self.header.sealing,
                key.id()
            )));
        }
        super::unseal(key, input, name.as_str())
    }

    /// A small member's content, wiped when dropped; more than `limit` bytes are [`Kind::Damaged`].
    pub fn read_secret(&self, member: &Member, key: &SealingKey, limit: u64) -> Result<Zeroizing<Vec<u8>>> {
        let name = self.name(member)?;
        let most = usize::try_from(limit).ok().and_then(|n| n.checked_add(1)).unwrap_or(usize::MAX);
        // All the room at once: a vector that grows leaves its old bytes behind.
        let mut bytes = Zeroizing::new(Vec::new());
        bytes.try_reserve_exact(most).map_err(|e| Error::failed(format!("cannot read {name}")).because(e))?;
        let mut reader = self.read(member, key)?.take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|e| Error::from_io(Kind::Failed, format!("cannot read {name}"), e))?;
        if bytes.len() == most {
            return Err(Error::damaged(format!("{name} holds more than the {limit} bytes that it may")));
        }
        Ok(bytes)
    }

    /// A small member's stored bytes, whose digest was compared.
    pub fn read_raw(&self, member: &Member, limit: u64) -> Result<Vec<u8>> {
        get_listed(self.archive, &self.name(member)?, Some(self.listed(member)?), limit)
    }

    /// The sealing key as it was wrapped when the bundle was made; `None` when the bundle has none.
    pub fn wrapped_identity(&self) -> Result<Option<Vec<u8>>> {
        if self.has(&Member::Identity) { self.read_raw(&Member::Identity, WRAPPED_LIMIT).map(Some) } else { Ok(None) }
    }

    /// A part's stored bytes from the first to the last; the digest is compared at the end.
    pub fn read_part(&self, part: &PartName) -> Result<DigestReader<Box<dyn Object>>> {
        self.open_object(part.object(&self.app)?, self.listed_part(part)?)
    }

    /// A part's object, to read in it here and there; only age's tags authenticate what comes from it.
    ///
    /// Those tell that nobody changed a chunk, and not who wrote it: compare the digest first ([`Opened::check`]), or what is
    /// read with the signed file list.
    pub fn open_part(&self, part: &PartName) -> Result<Box<dyn Object>> {
        let name = part.object(&self.app)?;
        self.listed_part(part)?;
        self.archive.open(&name).map_err(|e| missing(e, &name))
    }

    fn listed_part(&self, part: &PartName) -> Result<Sha256Hex> {
        self.sums.part(part).ok_or_else(|| {
            Error::damaged(format!("bundle {} does not list the part {}", self.header.id, part.file_name()))
        })
    }
}

/// Reads a small object whose digest is listed.
fn get_listed(archive: &dyn Archive, name: &ObjectName, digest: Option<Sha256Hex>, limit: u64) -> Result<Vec<u8>> {
    let bytes = archive.get(name, limit).map_err(|e| missing(e, name))?;
    if digest.is_some_and(|digest| digest == Sha256Hex::of(&bytes)) {
        return Ok(bytes);
    }
    Err(Error::damaged(format!("{name} does not have the SHA-256 that its bundle lists"))
        .hint("Take this object from another copy of the archive."))
}
