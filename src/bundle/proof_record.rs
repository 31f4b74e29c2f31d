//! `proof.jsonl`: everything that a quick verification needs, whatever the bundle's size.
//!
//! JSON lines: `{"head":…}` with the canary, one `{"credential":…}` for each, and `{"summary":…,"credentials":n}` at the end.
//! Streamed both ways, one line at a time.

use std::io::{BufRead, BufReader, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::appkey::credential::{Credential, KeyPart, MAX_CIPHERTEXT, RowId};
use crate::appkey::proof::{ColumnCounts, Counts, Verdict};
use crate::database::{Facts, Suspect};
use crate::ground::names::{BundleId, Fingerprint, Uuid};
use crate::ground::{Error, Kind, Result, json};

/// How long a line may be in bytes.
const LINE_LIMIT: usize = 16 << 20;

/// How many characters of a row's id are kept where it is so long that its line would be too.
const ID_KEPT: usize = 1000;

/// What stands at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofHead {
    /// The bundle that it is the proof of.
    pub bundle: BundleId,
    /// The installation that the fingerprint is salted with.
    pub installation: Uuid,
    /// The scheme of the credentials.
    pub scheme: String,
    /// The key that was tried; `None` when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// `strongroom canary v1 <bundle id>` under scheme and key; it never counts as a proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
}

/// What stands at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofSummary {
    /// What the proof came to; `None` when none was tried.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Counts of all columns together.
    pub counts: Counts,
    /// Counts of each column.
    pub columns: Vec<ColumnCounts>,
    /// Columns outside the profile that look as if they held credentials.
    #[serde(default)]
    pub suspects: Vec<Suspect>,
    /// What the snapshot says of itself.
    pub facts: Facts,
    /// Objects that the database names and the storage lacks.
    #[serde(default)]
    pub missing: u64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    table: String,
    column: String,
    id: RowId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ciphertext_b64: Option<String>,
    /// Stands instead of a ciphertext that is longer than what is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    too_long: Option<u64>,
}

/// One line: one of the first three, and `credentials` beside the summary. A line with none of them is for newer readers.
#[derive(Default, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<ProofHead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<Row>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summary: Option<Box<ProofSummary>>,
    /// How many credentials stand before the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<u64>,
}

impl Line {
    fn of(row: Row) -> Self {
        Self { credential: Some(row), ..Self::default() }
    }
}

impl From<&Credential> for Row {
    fn from(credential: &Credential) -> Self {
        let bytes = &credential.ciphertext;
        let (mut ciphertext, mut ciphertext_b64, mut too_long) = (None, None, None);
        if bytes.len() > MAX_CIPHERTEXT {
            too_long = Some(bytes.len() as u64);
        } else if let Ok(text) = str::from_utf8(bytes) {
            ciphertext = Some(text.to_owned());
        } else {
            ciphertext_b64 = Some(STANDARD.encode(bytes));
        }
        let (table, column) = (credential.table.clone(), credential.column.clone());
        Self { table, column, id: portable(&credential.id), ciphertext, ciphertext_b64, too_long }
    }
}

impl Row {
    fn into_credential(self) -> Result<Credential, &'static str> {
        let ciphertext = match (self.ciphertext, self.ciphertext_b64, self.too_long) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(base64), None) => STANDARD.decode(base64).map_err(|_| "a ciphertext that is not base64")?,
            // Long enough to be counted as what it was: too long to be tried.
            (None, None, Some(_)) => vec![0; MAX_CIPHERTEXT + 1],
            _ => return Err("a credential without exactly one ciphertext"),
        };
        Ok(Credential { table: self.table, column: self.column, id: self.id, ciphertext })
    }
}

/// An integer that not every JSON reader keeps travels as text.
fn portable(id: &RowId) -> RowId {
    let part = |part: &KeyPart| match part {
        KeyPart::Integer(n) if n.unsigned_abs() > json::MAX_INTEGER => KeyPart::Text(n.to_string()),
        other => other.clone(),
    };
    match id {
        RowId::One(one) => RowId::One(part(one)),
        RowId::Many(many) => RowId::Many(many.iter().map(part).collect()),
    }
}

/// Writes a proof, credential by credential.
pub struct ProofWriter<W: Write> {
    out: W,
    credentials: u64,
}

impl<W: Write> ProofWriter<W> {
    /// Writes the head.
    pub fn begin(out: W, head: &ProofHead) -> Result<Self> {
        let mut writer = Self { out, credentials: 0 };
        writer.put(json::line(&Line { head: Some(head.clone()), ..Line::default() })?)?;
        Ok(writer)
    }

    /// Writes one credential; of a ciphertext longer than [`MAX_CIPHERTEXT`] its length only.
    pub fn credential(&mut self, credential: &Credential) -> Result<()> {
        let mut line = json::line(&Line::of(Row::from(credential)))?;
        if line.len() >= LINE_LIMIT {
            let mut row = Row::from(credential);
            row.id = RowId::One(KeyPart::Text(row.id.to_string().chars().take(ID_KEPT).chain(['…']).collect()));
            line = json::line(&Line::of(row))?;
        }
        self.credentials += 1;
        self.put(line)
    }

    /// Writes the summary, and gives back what was written to.
    pub fn finish(mut self, summary: &ProofSummary) -> Result<W> {
        let summary = Some(Box::new(summary.clone()));
        self.put(json::line(&Line { summary, credentials: Some(self.credentials), ..Line::default() })?)?;
        Ok(self.out)
    }

    fn put(&mut self, mut line: Vec<u8>) -> Result<()> {
        if line.len() >= LINE_LIMIT {
            return Err(Error::failed(format!("a line of the proof would have {} bytes", line.len())));
        }
        line.push(b'\n');
        self.out.write_all(&line).map_err(|e| Error::from_io(Kind::Failed, "cannot write the proof", e))
    }
}

/// Reads a proof, credential by credential.
pub struct ProofReader<R> {
    input: BufReader<R>,
    head: ProofHead,
    line: Vec<u8>,
    credentials: u64,
    summary: Option<ProofSummary>,
}

impl<R: Read> ProofReader<R> {
    /// Reads the head.
    pub fn begin(input: R) -> Result<Self> {
        let mut input = BufReader::with_capacity(64 << 10, input);
        let mut line = Vec::new();
        let first = next(&mut input, &mut line)?.unwrap_or_default();
        match first {
            Line { head: Some(head), credential: None, summary: None, .. } => {
                Ok(Self { input, head, line, credentials: 0, summary: None })
            }
            _ => Err(damaged("it does not begin with its head")),
        }
    }

    /// What stands at the beginning.
    pub fn head(&self) -> &ProofHead {
        &self.head
    }

    /// The next credential; `None` after the last.
    pub fn next_credential(&mut self) -> Result<Option<Credential>> {
        if self.summary.is_some() {
            return Ok(None);
        }
        loop {
            let line = next(&mut self.input, &mut self.line)?.ok_or_else(|| damaged("it ends before its summary"))?;
            match line {
                Line { head: None, credential: Some(row), summary: None, .. } => {
                    self.credentials += 1;
                    return row.into_credential().map(Some).map_err(damaged);
                }
                Line { head: None, credential: None, summary: Some(summary), credentials } => {
                    if credentials != Some(self.credentials) {
                        return Err(damaged("it does not hold as many credentials as it says"));
                    }
                    // The end is reached here, so that the digest of the whole is compared.
                    if next(&mut self.input, &mut self.line)?.is_some() {
                        return Err(damaged("something stands after its summary"));
                    }
                    self.summary = Some(*summary);
                    return Ok(None);
                }
                Line { head: None, credential: None, summary: None, .. } => {}
                Line { .. } => return Err(damaged("a line is several things, or a second head")),
            }
        }
    }

    /// Reads on to the end, and answers the summary.
    pub fn finish(mut self) -> Result<ProofSummary> {
        while self.next_credential()?.is_some() {}
        self.summary.ok_or_else(|| damaged("it ends before its summary"))
    }
}

fn damaged(why: &str) -> Error {
    Error::damaged(format!("the proof is not as it should be: {why}"))
}

/// Reads a line into the buffer and parses it; `None` at the end.
fn next<R: Read>(input: &mut BufReader<R>, line: &mut Vec<u8>) -> Result<Option<Line>> {
    line.clear();
    let read = input
        .by_ref()
        .take(LINE_LIMIT as u64)
        .read_until(b'\n', line)
        .map_err(|e| Error::from_io(Kind::Failed, "cannot read the proof", e))?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(damaged("a line is cut, or too long"));
    }
    json::parse(line, "a line of the proof").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ProofHead {
        ProofHead {
            bundle: "20261123T020000Z-1a2b3c4d".parse().expect("an id"),
            installation: "7b1c8f10-3c1e-4f6a-9d57-0a4a5d1e2f30".parse().expect("a UUID"),
            scheme: "package-broker".to_owned(),
            fingerprint: Some(Fingerprint::from_bytes(&[7; 16])),
            canary: Some("canary".to_owned()),
        }
    }

    fn credential(id: RowId, ciphertext: &[u8]) -> Credential {
        Credential { table: "tokens".to_owned(), column: "value".to_owned(), id, ciphertext: ciphertext.to_vec() }
    }

    fn text(id: &str) -> RowId {
        RowId::One(KeyPart::Text(id.to_owned()))
    }

    fn written(credentials: &[Credential], summary: &ProofSummary) -> Vec<u8> {
        let mut writer = ProofWriter::begin(Vec::new(), &head()).expect("begun");
        for credential in credentials {
            writer.credential(credential).expect("written");
        }
        writer.finish(summary).expect("finished")
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Credential>, ProofSummary)> {
        let mut reader = ProofReader::begin(bytes)?;
        let mut credentials = Vec::new();
        while let Some(credential) = reader.next_credential()? {
            credentials.push(credential);
        }
        Ok((credentials, reader.finish()?))
    }

    fn summary() -> ProofSummary {
        let counts = Counts { proved: 3, ..Counts::default() };
        ProofSummary {
            verdict: Some(Verdict::Proved),
            counts,
            columns: vec![ColumnCounts { table: "tokens".to_owned(), column: "value".to_owned(), counts }],
            suspects: vec![Suspect { table: "t".to_owned(), column: "c".to_owned(), values: 4 }],
            facts: Facts { system: "sqlite".to_owned(), bytes: 5, ..Facts::default() },
            missing: 2,
        }
    }

    #[test]
    fn credentials_of_every_sort_read_back() {
        let bytes = KeyPart::Bytes { base64: "AAE=".to_owned() };
        let all = [
            credential(RowId::One(KeyPart::Integer(-7)), b"text"),
            credential(text("a\nb\u{2028}\"\0"), "ünï\ncode\0".as_bytes()),
            credential(RowId::Many(vec![KeyPart::Integer(1), bytes.clone()]), &[0xff, 0, 0xfe]),
            credential(RowId::One(bytes), b""),
            credential(text(""), &vec![b'\n'; MAX_CIPHERTEXT]),
        ];
        let (credentials, found) = read(&written(&all, &summary())).expect("read");
        assert!(credentials == all);
        assert_eq!(found, summary());
        assert_eq!(*ProofReader::begin(written(&[], &summary()).as_slice()).expect("begun").head(), head());
    }

    #[test]
    fn what_is_too_long_to_be_tried_is_not_stored_and_still_counts() {
        let long = credential(text("1"), &vec![b'x'; 10 << 20]);
        let bytes = written(&[long], &summary());
        assert!(bytes.len() < 4096);
        let (credentials, _) = read(&bytes).expect("read");
        assert_eq!(credentials[0].ciphertext.len(), MAX_CIPHERTEXT + 1);
    }

    #[test]
    fn ids_that_json_readers_or_lines_cannot_hold_do_not_stop_a_proof() {
        let big = credential(RowId::One(KeyPart::Integer(i64::MIN)), b"x");
        let huge = credential(text(&"y".repeat(17 << 20)), b"x");
        let (credentials, _) = read(&written(&[big, huge], &summary())).expect("read");
        assert_eq!(credentials[0].id, text("-9223372036854775808"));
        assert!(credentials[1].id.to_string().len() < 2 * ID_KEPT);
    }

    #[test]
    fn a_proof_that_lacks_lines_or_has_others_is_damaged() {
        let all = [credential(text("1"), b"x"), credential(text("2"), b"y")];
        let good = String::from_utf8(written(&all, &summary())).expect("text");
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 4);
        let bad = |lines: &[&str]| read(lines.concat().as_bytes()).err().map(|e| e.kind()) == Some(Kind::Damaged);
        assert!(bad(&[]));
        assert!(bad(&lines[1..]), "no head");
        assert!(bad(&lines[..3]), "no summary");
        assert!(bad(&[lines[0], lines[1], lines[3]]), "a credential less");
        assert!(bad(&[lines[0], lines[1], lines[1], lines[2], lines[3]]), "one more");
        assert!(bad(&[lines[0], lines[0], lines[1], lines[2], lines[3]]), "two heads");
        assert!(bad(&[lines[0], lines[1], lines[2], lines[3], lines[3]]), "two summaries");
        assert!(bad(&[good.trim_end()]), "the last line is cut");
        assert!(bad(&[lines[0], "{\"credential\":1}\n", lines[1], lines[2], lines[3]]));
        assert!(bad(&[lines[0], "not json\n", lines[1], lines[2], lines[3]]));
        let both = lines[1].replacen("\"ciphertext\"", "\"ciphertext_b64\":\"AA==\",\"ciphertext\"", 1);
        assert!(bad(&[lines[0], &both, lines[2], lines[3]]), "two ciphertexts");
        let newer = [lines[0], "{\"remark\":1}\n", lines[1], lines[2], lines[3]].concat();
        assert_eq!(read(newer.as_bytes()).expect("an unknown line is left out").0.len(), 2);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let head = json::line(&Line { head: Some(head()), ..Line::default() }).expect("a line");
        let endless = head.as_slice().chain(b"\n".as_slice()).chain(std::io::repeat(b'x'));
        let mut reader = ProofReader::begin(endless).expect("begun");
        assert_eq!(reader.next_credential().err().map(|e| e.kind()), Some(Kind::Damaged));
        assert!(reader.line.capacity() <= 2 * LINE_LIMIT);
    }
}
