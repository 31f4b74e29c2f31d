//! One database with everything that PostgreSQL knows, through backup, damage, restore, swap and the way back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::restore::{Pool, RICH, alike, damage, databases, portrait};
use super::server::Server;
use super::world::{World, encrypted, fill, prefix};

/// Rows of credentials: each proof of one takes milliseconds. `STRONGROOM_TEST_CREDENTIALS=10000` for the whole.
fn credentials() -> usize {
    std::env::var("STRONGROOM_TEST_CREDENTIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

fn told(server: &Server, world: &World) {
    // Backed up while somebody writes, in the one place that is compared apart.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                server.sql("app", "app", "INSERT INTO counters (v) VALUES ('w')");
            }
        });
        let out = world.run("backup --only database");
        stop.store(true, Ordering::Relaxed);
        // Its last row may still be on its way.
        writer.join().expect("it wrote");
        assert_eq!(out.status.code(), Some(0), "{}", super::world::said(&out));
    });
    let without_the_writer = "DELETE FROM counters WHERE v = 'w'; SELECT setval('counters_n_seq', 12345)";
    server.sql("app", "app", without_the_writer);
    let before = portrait(server);
    let (_, deep) = world.json("verify --deep -i recovery-identity.txt");
    assert_eq!(deep["credentials"]["proved"].as_u64(), Some(credentials() as u64 + 1), "{deep}");
    damage(server);
    let pool = Pool::busy(server);
    world.ends("restore -i recovery-identity.txt --only database --yes", 0);
    drop(pool);
    // What the writer had written when the snapshot was taken came back, too.
    server.sql("app", "app", without_the_writer);
    alike(&portrait(server), &before);
    assert_eq!(server.sql("app", "app", "SELECT similarity('word', 'words') > 0.4"), "t");

    server.sql("app", "app", "UPDATE repositories SET note = 'newer'");
    let newer = portrait(server);
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text + "health = { url = \"http://127.0.0.1:1/health\", within_seconds = 1 }\n")
        .expect("written");
    let pool = Pool::busy(server);
    let said = world.ends("restore -i recovery-identity.txt --only database --yes", 20);
    drop(pool);
    assert!(said.contains("put back as it was"), "{said}");
    alike(&portrait(server), &newer);
    world.ends("restore --cleanup --yes", 0);
    assert_eq!(databases(server), ["app"]);
}

fn prepared() -> Option<(Server, World)> {
    let server = Server::start(15)?;
    server.sql("postgres", "postgres", "CREATE ROLE reader LOGIN; CREATE ROLE writers; GRANT writers TO app");
    fill(&server, "app", 1);
    server.sql("app", "app", RICH);
    server.sql("app", "app", "CREATE EXTENSION pg_trgm; CREATE INDEX ON repositories USING gin (note gin_trgm_ops); GRANT INSERT ON counters TO writers");
    // The plaintext row stands for itself; the others share some values, and each is proved.
    let values: Vec<_> = (0..10).map(|n| format!("'{}'", encrypted(&format!("{{\"token\":\"{n}\"}}")))).collect();
    server.sql(
        "app",
        "app",
        &format!(
            "INSERT INTO repositories SELECT 'x' || g, 'git', (ARRAY[{}])[1 + g % 10], 'note ' || g FROM generate_series(1, {}) g",
            values.join(","),
            credentials()
        ),
    );
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    Some((server, world))
}

#[test]
fn everything_at_once_by_url() {
    let Some((server, world)) = prepared() else { return };
    told(&server, &world);
}

#[test]
fn everything_at_once_behind_a_prefix() {
    let Some((server, world)) = prepared() else { return };
    world.configure(&prefix(&server));
    told(&server, &world);
}
