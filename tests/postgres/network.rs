//! Between us and the server: TLS with certificates on both sides, and a pooler.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::server::{Server, as_server_user, is_root};
use super::world::{World, fill, private};

fn tool(name: &str) -> bool {
    let there = ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists());
    let required = std::env::var("STRONGROOM_TEST_TOOLS").is_ok_and(|v| v == "required");
    assert!(there || !required, "{name} is missing; tests/run installs it");
    if !there {
        eprintln!("SKIPPED: {name} is missing; tests/run installs it");
    }
    there
}

fn openssl(folder: &Path, line: &str) {
    let done = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn owned_by_server(path: &Path) {
    private(path);
    if is_root() {
        assert!(Command::new("chown").arg("nobody").arg(path).status().expect("it runs").success());
    }
}

#[test]
fn certificates_are_checked_on_both_sides() {
    if !tool("openssl") {
        return;
    }
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    let folder = world.folder.path();
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    openssl(
        folder,
        &format!("{new} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout ca.key -out ca.pem"),
    );
    openssl(folder, &format!("{new} -subj /CN=elsewhere -keyout other.key -out other.pem"));
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=app -keyout app.key -out app.csr");
    openssl(folder, "x509 -req -in app.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out app.pem");
    private(&world.path("app.key"));
    let data = server.folder.path().join("data");
    for name in ["ca.key", "ca.pem"] {
        std::fs::copy(world.path(name), data.join(name)).expect("copied");
        owned_by_server(&data.join(name));
    }
    std::fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.1/32 cert\n")
        .expect("written");
    server.down();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    server.port.store(port, std::sync::atomic::Ordering::Relaxed);
    server.up(
        "-c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file=ca.pem -c ssl_key_file=ca.key -c ssl_ca_file=ca.pem",
    );

    let url = |more: &str| format!("postgres://app@127.0.0.1:{port}/app?{more}");
    let own = "&sslcert=app.pem&sslkey=app.key";
    let good = url(&format!("sslmode=verify-full&sslrootcert=ca.pem{own}"));
    world.ends(&format!("prove {good} --key env:KEY"), 0);
    let prove = |url: &str, code| world.ends(&format!("prove {url} --key env:KEY"), code);
    prove(&url(&format!("sslmode=verify-full&sslrootcert=other.pem{own}")), 21);
    prove(&url("sslmode=verify-full&sslrootcert=ca.pem"), 21);
    prove(&url("sslmode=disable"), 21);
    world.init(&good, "");
    world.ends("backup", 0);
    world.ends("restore -i recovery-identity.txt --only database --yes", 0);
    world.ends("prove", 0);
}

struct Bouncer(Child);

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pooler_that_changes_connections_between_transactions_is_no_matter() {
    if !tool("pgbouncer") {
        return;
    }
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 3);
    let folder = server.folder.path();
    let text = format!(
        "[databases]\napp = host={0} port=5432 dbname=app user=app\n[pgbouncer]\nunix_socket_dir = {0}\nlisten_port = 6543\n\
         auth_type = any\npool_mode = transaction\nserver_reset_query_always = 1\nserver_reset_query = DISCARD ALL\nserver_login_retry = 1\nlogfile = {0}/bouncer.log\n",
        folder.display()
    );
    let ini = folder.join("bouncer.ini");
    std::fs::write(&ini, text).expect("written");
    let child =
        as_server_user(Path::new("/usr/sbin/pgbouncer")).arg(&ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let bouncer = Bouncer(child.expect("started"));
    while !folder.join(".s.PGSQL.6543").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let world = World::new(&server.programs);
    let pooled = format!("postgres://app@/app?host={}&port=6543", folder.display());
    world.ends(&format!("prove {pooled} --key env:KEY"), 0);
    world.ends(&format!("prove {pooled} --key env:WRONG"), 12);
    world.init(&pooled, "");
    world.ends("backup", 0);
    world.ends("verify --deep -i recovery-identity.txt", 0);

    // The application stays on the pooler while the database is swapped behind it.
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x'");
    let psql = server.programs.join("psql");
    let client = format!(
        "while :; do {} -X -q -h {} -p 6543 -U app -d app -c 'SELECT count(*) FROM repositories'; done",
        psql.display(),
        folder.display()
    );
    let mut busy = Command::new("setsid")
        .args(["sh", "-c", &client])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let out = world.run(&format!(
        "restore -i recovery-identity.txt --only database --yes --database {}",
        server.url("app", "app")
    ));
    let _ = Command::new("kill").args(["-9", "--", &format!("-{}", busy.id())]).status();
    let _ = busy.wait();
    assert_eq!(out.status.code(), Some(0), "{}", super::world::said(&out));
    // The pooler was turned away during the swap, and tries again after the second that it is told to wait.
    let again = format!("prove {pooled} --key env:KEY");
    let back = (0..20).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        world.run(&again).status.code() == Some(0)
    });
    assert!(back, "{}", super::world::said(&world.run(&again)));
    drop(bouncer);
}
