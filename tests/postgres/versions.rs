//! Every version from 14 to 18 as a server, and the way from one to the next.

use super::server::{Server, programs};
use super::world::{World, fill, said};

fn restore(world: &World, server: &Server, bundle_of: &World, code: i32) -> String {
    let line =
        format!("restore -i recovery-identity.txt --only database --yes --database {}", server.url("app", "moved"));
    let mut command = bundle_of.command(&line);
    command.env("PATH", format!("{}:/usr/bin:/bin", world.programs.display()));
    let out = command.output().expect("it runs");
    assert_eq!(out.status.code(), Some(code), "{}", said(&out));
    said(&out)
}

#[test]
fn every_version_is_backed_up_restored_and_moved_to_the_next_and_never_back() {
    let mut all = Vec::new();
    for version in [14, 15, 16, 17, 18] {
        let Some(server) = Server::start(version) else { continue };
        fill(&server, "app", 2);
        let world = World::new(&server.programs);
        world.init(&server.url("app", "app"), "");
        world.ends("config check", 0);
        world.ends("backup", 0);
        world.ends("verify --deep -i recovery-identity.txt", 0);
        server.sql("app", "app", "DELETE FROM artifacts; UPDATE repositories SET auth_credentials = 'x'");
        world.ends("restore -i recovery-identity.txt --only database --yes", 0);
        assert_eq!(server.sql("app", "app", "SELECT count(*) FROM artifacts"), "2", "{version}");
        world.ends("prove", 0);
        all.push((version, server, world));
    }
    for pair in all.windows(2) {
        let [(_, old, old_world), (_, new, new_world)] = pair else { continue };
        restore(new_world, new, old_world, 0);
        assert_eq!(new.sql("app", "moved", "SELECT count(*) FROM counters"), "500");
        let told = restore(new_world, old, new_world, 15);
        assert!(told.contains("A newer version's dump does not restore cleanly"), "{told}");
    }
}

/// Since 17 the clients set what older servers do not know: that is said at the backup, and before a restore touches anything.
#[test]
fn clients_that_are_too_new_for_a_restore_are_named() {
    let (Some(server), Some(newer)) = (Server::start(15), programs(18)) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    let restore = "restore -i recovery-identity.txt --only database --yes";
    let path = world.path("strongroom.toml");
    let own = std::fs::read_to_string(&path).expect("read");
    world.configure(&format!("programs = \"{}\"", newer.display()));
    let told = world.ends(restore, 2);
    assert!(told.contains("pg_restore is of version 18") && told.contains("a server of 15"), "{told}");
    let told = world.ends("backup", 3);
    assert!(told.contains("pg_dump is of version 18") && told.contains("and the server of 15:"), "{told}");
    std::fs::write(&path, own).expect("written");
    let told = world.ends(restore, 2);
    assert!(told.contains("pg_restore is of version 15") && told.contains("dump was made by pg_dump 18"), "{told}");
}
