//! Parts whose tar says something else than the signed list of files.

use crate::desk::Verb;
use crate::signed::{LISTED, packed};
use crate::stage::{Case, Stage};

/// A part whose tar was changed: every byte of the headers, and members of other kinds.
pub(crate) fn tars(stage: &Stage) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for kind in [".tar.age", ".tar.zst.age"] {
        let listed = stage.listed();
        let name = listed.iter().find(|l| l.trim_end().ends_with(kind)).expect("a part")[66..].trim_end().to_owned();
        let name = name.as_str();
        let plain = stage.open(&stage.object(name));
        let tar = if kind == ".tar.age" { plain } else { zstd::decode_all(&plain[..]).expect("unpacked") };
        let mut change = |what: String, tar: &[u8]| {
            let (part, content) = (name.to_owned(), if kind == ".tar.age" { tar.to_vec() } else { packed(tar) });
            let puts = move || stage.resigned(&[(&part, stage.seal(&content))]);
            let mut case = stage.case(format!("{name}: {what}"), Verb::Target, puts);
            case.codes = &[13];
            // Padding, and a time in an extended header, which no checksum covers.
            case.may = Some(LISTED);
            cases.push(case);
        };
        for at in (0..tar.len().min(1536)).step_by(37) {
            let mut other = tar.clone();
            other[at] ^= 1 << (at % 8);
            change(format!("byte {at}"), &other);
        }
        let header = (0..tar.len() / 512).map(|n| n * 512).find(|at| tar[at + 156] == b'0').expect("a file");
        for kind in *b"\x001234567ADEFGKLMNSVXIZgx\x7f\xff" {
            let mut other = tar.clone();
            other[header + 156] = kind;
            let sum: u32 = other[header..header + 512]
                .iter()
                .enumerate()
                .map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) })
                .sum();
            other[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            if kind != b'0' {
                change(format!("a member of kind {kind}"), &other);
            }
        }
        for length in (0..tar.len()).step_by(512) {
            change(format!("cut to {length}"), &tar[..length]);
        }
    }
    cases
}
