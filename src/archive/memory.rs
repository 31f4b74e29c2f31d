//! An archive in memory, for the tests of those who use one: quick, and its owner may do anything to it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Archive, Listed, NewObject, Object};
use crate::ground::block::TakeBlocks;
use crate::ground::names::ObjectName;
use crate::ground::{Error, Result};

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Objects by name; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Memory(Objects);

impl Memory {
    /// Everything that is there, to be read and tampered with.
    pub(crate) fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl Archive for Memory {
    fn describe(&self) -> String {
        "memory:".to_owned()
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>> {
        match self.objects().get(name.as_str()) {
            Some(bytes) => Ok(Box::new(Open(Cursor::new(bytes.clone())))),
            None => Err(Error::not_found(format!("there is no {name}"))),
        }
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>> {
        Ok(Box::new(New { bytes: Vec::new(), name: name.to_string(), objects: self.0.clone() }))
    }

    fn length(&self, name: &ObjectName) -> Result<Option<u64>> {
        Ok(self.objects().get(name.as_str()).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, folder: &ObjectName) -> Result<Vec<Listed>> {
        let prefix = format!("{folder}/");
        let objects = self.objects();
        let below = objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        below.map(|(name, bytes)| Ok(Listed { name: name.parse()?, length: bytes.len() as u64 })).collect()
    }

    fn children(&self, folder: &ObjectName) -> Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let objects = self.objects();
        let mut names: Vec<String> = objects
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.objects().insert(name.to_string(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.objects().remove(name.as_str());
        Ok(())
    }

    /// Held by somebody who stays where there is an object of that name.
    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>> {
        if self.objects().contains_key(name.as_str()) {
            return Err(Error::locked(format!("another run holds {name}")));
        }
        Ok(Box::new(()))
    }
}

struct Open(Cursor<Vec<u8>>);

impl Object for Open {
    fn length(&self) -> u64 {
        self.0.get_ref().len() as u64
    }

    fn again(&self) -> Result<Box<dyn Object>> {
        Ok(Box::new(Self(Cursor::new(self.0.get_ref().clone()))))
    }
}

impl Read for Open {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Open {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

struct New {
    bytes: Vec<u8>,
    name: String,
    objects: Objects,
}

impl Write for New {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl TakeBlocks for New {}

impl NewObject for New {
    fn commit(self: Box<Self>) -> Result<bool> {
        let mut objects = self.objects.lock().expect("no test panics while it holds this");
        if objects.contains_key(&self.name) {
            return Ok(false);
        }
        objects.insert(self.name.clone(), self.bytes);
        Ok(true)
    }
}

#[test]
fn memory_keeps_the_contract() {
    super::conformance::run(&|| Box::new(Memory::default()));
}
