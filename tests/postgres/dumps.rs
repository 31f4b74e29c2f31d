//! Dumps that anybody made with PostgreSQL's own tools, read without a server.

use std::io::Write as _;

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
        drop(server);

        for name in [
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

/// A dump that is cut anywhere, or with a byte changed in its compressed data, is never proved.
fn cut(world: &World, version: u32) {
    for name in ["packed", "plain", "script.sql"] {
        let whole = std::fs::read(world.path(name)).expect("read");
        // What stands behind the last rows is repeated or is no data; everything before must be there.
        let marker: &[u8] = if name == "plain" { b"\\.\n" } else { b"\x00" };
        let end = whole.windows(marker.len()).rposition(|w| w == marker).unwrap_or(whole.len());
        for share in [1, 3, 5, 7] {
            let length =
                if name == "script.sql" { whole.len() * share / 8 } else { end.min(whole.len() / 2) * share / 8 };
            std::fs::write(world.path("cut"), &whole[..length]).expect("written");
            let out = world.run("prove cut --key env:KEY");
            let code = out.status.code().expect("it ends");
            assert!([2, 13].contains(&code), "{version} {name} at {length}: {}", super::world::said(&out));
        }
    }
}
