//! Secrets and configurations that a container's runtime mounts are read as they are, and refused when others can write to them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::app::{KEY, object, secret_file};
use crate::world::{Call, IDENTITY, PROGRAM, World};

/// Modes that a runtime gives to what it mounts.
const FINE: [u32; 3] = [0o444, 0o644, 0o440];
/// Modes with which others decide what is read.
const WIDE: [u32; 3] = [0o646, 0o664, 0o666];

/// A volume as Kubernetes mounts it: `NAME` -> `..data/NAME`, `..data` -> `..2026_11_25_01_00_00.1`; answers the real file.
fn volume(world: &World, folder: &str, name: &str, text: &str) -> PathBuf {
    let root = world.path(folder);
    let real = root.join("..2026_11_25_01_00_00.1");
    std::fs::create_dir_all(&real).expect("made");
    std::fs::write(real.join(name), text).expect("written");
    symlink("..2026_11_25_01_00_00.1", root.join("..data")).expect("linked");
    symlink(format!("..data/{name}"), root.join(name)).expect("linked");
    // Everybody may make files there, and rename only their own.
    set_mode(&root, 0o1777);
    real.join(name)
}

fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_key_in_a_volume_of_kubernetes_may_be_readable_and_not_writable() {
    let world = World::new();
    let real = volume(&world, "mount", "key", KEY);
    let line = "prove app/database.sqlite --key file:mount/key";
    for mode in FINE {
        set_mode(&real, mode);
        world.run(line, 0);
    }
    for mode in WIDE.into_iter().chain([0o755]) {
        set_mode(&real, mode);
        world.run(line, 15).says("chmod 600").says("mount/key");
    }
    // A variable in a file.
    std::fs::write(&real, format!("ENCRYPTION_KEY={KEY}\n")).expect("written");
    set_mode(&real, 0o444);
    world.run("prove app/database.sqlite --key dotenv:mount/key#ENCRYPTION_KEY", 0);
    // The same file under a name of its own is somebody's oversight.
    std::fs::write(world.path("key"), KEY).expect("written");
    set_mode(&world.path("key"), 0o444);
    world.run("prove app/database.sqlite --key file:key", 15);
}

#[test]
fn a_configuration_in_a_volume_of_kubernetes_is_used() {
    let world = World::ready();
    let config = world.path("strongroom.toml");
    // Relative paths are relative to the place that is named.
    let text = std::fs::read_to_string(&config).expect("read").replace("\"file:", "\"file:../");
    let text = text.replace("sqlite:", "sqlite:../").replace("dotenv:", "dotenv:../");
    let text = text.replace("\"strongroom-signing.key\"", "\"../strongroom-signing.key\"");
    std::fs::remove_file(&config).expect("removed");
    let real = volume(&world, "mount", "strongroom.toml", &text);
    set_mode(&world.path("mount"), 0o755);
    for mode in FINE {
        set_mode(&real, mode);
        world.run("backup --config mount/strongroom.toml", 0);
    }
    for mode in WIDE {
        set_mode(&real, mode);
        world.run("backup --config mount/strongroom.toml", 15).says("chmod go-w").says("mount/strongroom.toml");
    }
}

#[test]
fn an_identity_and_a_signing_key_in_a_volume_of_kubernetes_are_used() {
    let (world, _) = World::backed_up();
    let text = std::fs::read_to_string(world.path(IDENTITY)).expect("read");
    let identity = volume(&world, "identity", "identity.txt", &text);
    let text = std::fs::read_to_string(world.path("strongroom-signing.key")).expect("read");
    let signer = volume(&world, "signer", "signing.key", &text);
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let moved = config.replace("key = \"strongroom-signing.key\"", "key = \"signer/signing.key\"");
    assert_ne!(moved, config);
    secret_file(&world.path("strongroom.toml"), &moved);
    std::fs::remove_file(world.path("strongroom-signing.key")).expect("removed");
    for mode in FINE {
        set_mode(&identity, mode);
        set_mode(&signer, mode);
        world.run("verify -i identity/identity.txt", 0);
        world.run("backup", 0);
    }
    for mode in WIDE {
        set_mode(&identity, mode);
        world.run("verify -i identity/identity.txt", 15).says("chmod 600").says("identity/identity.txt");
        set_mode(&signer, mode);
        world.run("backup", 15).says("chmod 600").says("signer/signing.key");
    }
}

/// Calls the program where `/run/secrets` holds two of the world's files, in a namespace of its own: the machine's is left alone.
fn with_secrets(world: &World, mode: u32, line: &str) -> Call {
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/secrets && install -m {mode:o} key {IDENTITY} /run/secrets/ && exec {PROGRAM} {line}"
    );
    let unshare = "--map-root-user --mount -- /bin/sh -c";
    Call::new("unshare", &world.path(""), unshare).arg(script)
}

#[test]
fn secrets_that_docker_mounts_may_be_readable_and_not_writable() {
    let (world, _) = World::backed_up();
    secret_file(&world.path("key"), KEY);
    if with_secrets(&world, 0o400, "--version").run().code != Some(0) {
        let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
        assert!(!required, "unshare makes no namespace here");
        return;
    }
    let prove = "prove app/database.sqlite --key file:/run/secrets/key";
    let verify = "verify -i /run/secrets/recovery-identity.txt";
    for mode in FINE {
        with_secrets(&world, mode, prove).ends(0);
        with_secrets(&world, mode, verify).ends(0);
    }
    for mode in WIDE {
        with_secrets(&world, mode, prove).ends(15).says("chmod 600").says("/run/secrets/key");
        with_secrets(&world, mode, verify).ends(15).says("chmod 600");
    }
}

#[test]
fn what_is_mounted_below_a_storage_is_made_to_last_too() {
    let (world, _) = World::backed_up();
    let inner = world.app.storage().join("private");
    let script = format!(
        "mount -t tmpfs tmpfs {} && exec strace -f -qq -y -e trace=syncfs,renameat -o trace {PROGRAM} restore --yes --only storage -i {IDENTITY}",
        inner.display()
    );
    let ran = Call::new("unshare", &world.path(""), "--map-root-user --mount -- /bin/sh -c").arg(script).run();
    if ran.code != Some(0) {
        let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
        assert!(!required, "{}", ran.stderr);
        return;
    }
    let trace = std::fs::read_to_string(world.path("trace")).expect("a trace");
    let inner = inner.canonicalize().expect("there").display().to_string();
    // After everything was written, and after everything has its name.
    let last_rename = trace.rfind("renameat(").expect("a file of its own");
    let synced: Vec<_> = trace.match_indices("syncfs(").map(|(at, call)| (at, &trace[at + call.len()..])).collect();
    let of_inner = |(_, call): &&(usize, &str)| call.contains(&inner) && call.find(&inner) < call.find('\n');
    let of_inner: Vec<_> = synced.iter().filter(of_inner).map(|(at, _)| *at).collect();
    assert!(of_inner.len() >= 2 && of_inner.iter().any(|at| *at > last_rename), "{trace}");
    assert!(synced.len() > of_inner.len(), "{trace}");
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_is_touched() {
    let (world, _) = World::backed_up();
    let inner = world.app.storage().join("private");
    // The same file system, and yet nothing can be renamed from one to the other.
    let bound = |line: &str| {
        let script = format!("mount --bind {0} {0} && exec {PROGRAM} {line} -i {IDENTITY}", inner.display());
        Call::new("unshare", &world.path(""), "--map-root-user --mount -- /bin/sh -c").arg(script).run()
    };
    if bound("verify").code != Some(0) {
        let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
        assert!(!required, "unshare makes no namespace here");
        return;
    }
    world.app.store("private/extra.zip", b"made since");
    let restore = "restore --yes --only storage";
    assert_eq!(bound(restore).code, Some(0), "nothing is replaced");
    let extra = bound(&format!("{restore} --delete-extra"));
    assert_eq!(extra.code, Some(15), "{}", extra.stderr);
    assert!(extra.stderr.contains("private/extra.zip"), "{}", extra.stderr);
    world.app.store(&object("manual", "acme/tools", "1.0.0"), b"newer");
    let before = world.state_of("app");
    for line in [restore, "restore --dry-run --only storage"] {
        let refused = bound(line);
        assert_eq!(refused.code, Some(15), "{}", refused.stderr);
        assert!(refused.stderr.contains("1.0.0.zip") && refused.stderr.contains("--target"), "{}", refused.stderr);
    }
    assert_eq!(world.state_of("app"), before);
    // A single file may be what is mounted, and where replaced files would go may be, too.
    let file = world.app.storage().join(object("manual", "acme/tools", "1.0.0"));
    let own = world.app.storage().join(".strongroom");
    std::fs::create_dir(&own).expect("made");
    for (place, says) in [(&file, "1.0.0.zip"), (&own, ".strongroom")] {
        let script = format!("mount --bind {0} {0} && exec {PROGRAM} {restore} -i {IDENTITY}", place.display());
        let ran = Call::new("unshare", &world.path(""), "--map-root-user --mount -- /bin/sh -c").arg(script).ends(15);
        ran.says(says);
    }
    std::fs::remove_dir(&own).expect("removed");
    assert_eq!(world.state_of("app"), before);
    world.run(&format!("{restore} -i {IDENTITY}"), 0);
}
