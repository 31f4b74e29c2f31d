//! Dumps that anybody made with PostgreSQL's own tools, read without a server.

use std::io::Write as _;
use std::path::Path;

use super::server::{Server, VERSIONS};
use super::world::{World, fill};

#[test]
fn every_kind_of_dump_of_every_version_is_proved_without_a_server() {
    for version in VERSIONS {
        let Some(server) = Server::start(version) else { continue };
        fill(&server, "app", 3);
        server.sql("app", "app", "SELECT lo_from_bytea(0, 'large'); CREATE TABLE empty (id text); CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $x$ SELECT ';'''$x$");
        let world = World::new(&server.programs);
        let dump = |name: &str, arguments: &[&str]| {
            let mut command = server.command("pg_dump", "app", "app");
            let done = command.args(arguments).arg("-f").arg(world.path(name)).status().expect("it runs");
            assert!(done.success(), "{version} {name}");
        };
        dump("packed", &["-Fc"]);
        dump("plain", &["-Fc", "-Z0"]);
        dump("folder", &["-Fd"]);
        dump("loose", &["-Fd", "-Z0"]);
        dump("tar", &["-Ft"]);
        lz4_directory(&world.path("loose"), &world.path("lz4s"));
        dump("script.sql", &[]);
        dump("inserts.sql", &["--inserts"]);
        dump("columns.sql", &["--column-inserts", "--no-comments"]);
        dump("inserts", &["-Fc", "--rows-per-insert=3"]);
        dump("schema", &["-Fc", "--schema-only"]);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&std::fs::read(world.path("script.sql")).expect("read")).expect("packed");
        std::fs::write(world.path("script.sql.gz"), packer.finish().expect("packed")).expect("written");
        let piped = server.command("pg_dump", "app", "app").arg("-Fc").output().expect("it runs");
        std::fs::write(world.path("piped"), piped.stdout).expect("written");
        server.sql("app", "app", "SELECT lo_unlink(oid) FROM pg_largeobject_metadata; DROP TABLE empty");
        dump("small", &["-Fc", "-Z0"]);
        if version >= 16 {
            let small = std::fs::read(world.path("small")).expect("read");
            let frames = lz4_custom(&small);
            std::fs::write(world.path("lz4"), &frames).expect("written");
            std::fs::write(world.path("lz4cut"), &frames[..frames.len() - 60]).expect("written");
            world.ends("prove lz4cut --key env:KEY", 13);
            world.ends("prove lz4 --key env:KEY", 0);
            world.ends("prove lz4 --key env:WRONG", 12);
        }
        drop(server);

        for name in [
            "tar",
            "lz4s",
            "packed",
            "plain",
            "folder",
            "loose",
            "script.sql",
            "inserts.sql",
            "columns.sql",
            "inserts",
            "script.sql.gz",
            "piped",
        ] {
            let (code, proof) = world.json(&format!("prove {name} --key env:KEY"));
            assert_eq!((code, proof["verdict"].as_str()), (0, Some("proved")), "{version} {name} {proof}");
            assert_eq!(proof["credentials"]["proved"], 3, "{version} {name}");
            world.ends(&format!("prove {name} --key env:WRONG -q"), 12);
            let (_, sample) = world.json(&format!("prove {name} --key env:KEY --sample 2"));
            assert_eq!(sample["sampled"], true, "{version} {name}");
        }
        assert!(world.ends("prove schema --key env:KEY", 2).contains("without its rows"));
        cut(&world, version);
    }
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut packer = lz4_flex::frame::FrameEncoder::new(Vec::new());
    packer.write_all(bytes).expect("packed");
    packer.finish().expect("packed")
}

/// The directory that `pg_dump -Fd --compress=lz4` would have written; the builds at hand cannot.
fn lz4_directory(plain: &Path, packed: &Path) {
    std::fs::create_dir(packed).expect("made");
    for file in std::fs::read_dir(plain).expect("listed").flatten() {
        let (name, bytes) = (file.file_name().into_string().expect("text"), std::fs::read(file.path()).expect("read"));
        if Path::new(&name).extension().is_some_and(|e| e == "dat") && name != "toc.dat" {
            std::fs::write(packed.join(format!("{name}.lz4")), lz4(&bytes)).expect("written");
        } else {
            std::fs::write(packed.join(name), bytes).expect("written");
        }
    }
}

/// A dump without large objects and without compression as `pg_dump -Fc --compress=lz4` would have written it.
fn lz4_custom(plain: &[u8]) -> Vec<u8> {
    let integer = |at: usize| {
        assert_eq!(plain[at], 0);
        u32::from_le_bytes(plain[at + 1..at + 5].try_into().expect("four")) as usize
    };
    // A block is a kind, an entry's number, and chunks with their lengths; the first one holds this.
    let text = plain.windows(10).position(|w| w == b"a1\tmanual\t").expect("the first row");
    let mut at = text - 11;
    let mut packed = plain[..at].to_vec();
    assert_eq!(packed[11], 0, "not compressed");
    packed[11] = 2;
    // Behind the data the table of contents may stand once more; it is not looked at.
    while plain.get(at) == Some(&1) {
        packed.extend(&plain[at..at + 6]);
        at += 6;
        let mut data = Vec::new();
        while integer(at) != 0 {
            let length = integer(at);
            data.extend(&plain[at + 5..at + 5 + length]);
            at += 5 + length;
        }
        at += 5;
        // Two chunks: a frame may be cut anywhere.
        let data = lz4(&data);
        for chunk in [&data[..7], &data[7..]] {
            packed.push(0);
            packed.extend(u32::try_from(chunk.len()).expect("short").to_le_bytes());
            packed.extend(chunk);
        }
        packed.extend([0; 5]);
    }
    packed
}

/// A dump that is cut anywhere, or with a byte changed in its compressed data, is never proved.
fn cut(world: &World, version: u32) {
    for name in ["packed", "plain", "script.sql", "tar"] {
        let whole = std::fs::read(world.path(name)).expect("read");
        // What stands behind the last rows is repeated or is no data; everything before must be there.
        let marker: &[u8] = if name == "plain" || name == "tar" { b"\\.\n" } else { b"\x00" };
        let end = whole.windows(marker.len()).rposition(|w| w == marker).unwrap_or(whole.len());
        for share in [1, 3, 5, 7] {
            let length = if name == "script.sql" {
                whole.len() * share / 8
            } else if name == "tar" {
                end * share / 8
            } else {
                end.min(whole.len() / 2) * share / 8
            };
            std::fs::write(world.path("cut"), &whole[..length]).expect("written");
            let out = world.run("prove cut --key env:KEY");
            let code = out.status.code().expect("it ends");
            assert!([2, 13].contains(&code), "{version} {name} at {length}: {}", super::world::said(&out));
        }
    }
}
