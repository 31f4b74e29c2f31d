//! `aws-sm:` as the source of a key, and how credentials, regions and endpoints are found.

use crate::app::{KEY, WRONG};
use crate::server::{Moto, REGION};
use crate::stage::{call, call_as, host, json};
use crate::world::World;

/// A server with the application's key in several forms.
fn keeping() -> Moto {
    let moto = Moto::start();
    moto.admin(&format!(
        "sm.create_secret(Name='text', SecretString='{KEY}')\n\
         sm.create_secret(Name='bytes', SecretBinary=b'{KEY}')\n\
         sm.create_secret(Name='team/json', SecretString=json.dumps({{'user': 'broker', 'ENCRYPTION_KEY': '{KEY}', 'port': 5432}}))\n\
         sm.create_secret(Name='twice', SecretString='{{\"k\":\"{KEY}\",\"k\":\"x\"}}')\n\
         sm.create_secret(Name='wrong', SecretString='{WRONG}')"
    ));
    moto
}

#[test]
fn the_key_is_read_as_text_as_bytes_as_a_member_and_by_arn() {
    let moto = keeping();
    let world = host(&moto.url());
    let arn = moto.admin("print(sm.describe_secret(SecretId='team/json')['ARN'])");
    for reference in
        ["aws-sm:text", "aws-sm:bytes", "aws-sm:team/json#ENCRYPTION_KEY", &format!("aws-sm:{arn}#ENCRYPTION_KEY")]
    {
        let ran = call(&world, &format!("prove --key {reference}")).ends(0);
        ran.says("proved").keeps_quiet_about(KEY);
    }
    call(&world, "prove --key aws-sm:wrong").ends(12).keeps_quiet_about(WRONG);
    call(&world, "prove --key aws-sm:text#ENCRYPTION_KEY").ends(2).says("is not JSON").keeps_quiet_about(KEY);
    call(&world, "prove --key aws-sm:team/json#port").ends(2).says("port is a text");
    call(&world, "prove --key aws-sm:team/json#none").ends(10).says("has no member none");
    call(&world, "prove --key aws-sm:twice#k").ends(2).keeps_quiet_about(KEY);
    call(&world, "prove --key aws-sm:nowhere").ends(10).says("no secret nowhere").says("region");
}

#[test]
fn a_backup_takes_its_key_from_the_escrows_account() {
    let moto = keeping();
    let world = host(&moto.url());
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    crate::app::secret_file(&path, &text.replace("dotenv:app/.env#ENCRYPTION_KEY", "aws-sm:team/json#ENCRYPTION_KEY"));
    assert_eq!(json(&world, "backup", 0)["verdict"], "proved");
    // Without it there is no key, and a bundle all the same.
    moto.admin("sm.delete_secret(SecretId='team/json', RecoveryWindowInDays=7)");
    let found = json(&world, "backup", 3);
    assert_eq!(found["verdict"], "no-key");
    assert!(found["problems"].to_string().contains("restore-secret --secret-id team/json"), "{found}");
}

#[test]
fn without_an_escrow_the_usual_settings_of_aws_count() {
    let moto = keeping();
    let world = World::ready();
    let prove = |world: &World| call(world, "prove --key aws-sm:text").env("AWS_ENDPOINT_URL", moto.url());
    prove(&world).ends(2).says("no region of AWS is named").says("AWS_REGION");
    prove(&world).env("AWS_REGION", REGION).ends(0);
    // A profile with region, endpoint and keys, as `aws configure` writes it.
    let folder = world.path("home/.aws");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("config"), format!("[profile ops]\nregion = {REGION}\nendpoint_url = {}\n", moto.url()))
        .expect("written");
    std::fs::write(folder.join("credentials"), "[ops]\naws_access_key_id = a\naws_secret_access_key = b\n")
        .expect("written");
    world.call("prove --key aws-sm:text").env("AWS_PROFILE", "ops").ends(0);
    // Credentials that a program gives, as single sign-on does.
    let give = world.script("give", r#"echo '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b"}'"#);
    std::fs::write(folder.join("credentials"), "").expect("written");
    let config = format!(
        "[profile ops]\nregion = {REGION}\nendpoint_url = {}\ncredential_process = {}\n",
        moto.url(),
        give.display()
    );
    std::fs::write(folder.join("config"), config).expect("written");
    world.call("prove --key aws-sm:text").env("AWS_PROFILE", "ops").ends(0);
    let none = world.call("prove --key aws-sm:text").env("AWS_REGION", REGION).env("AWS_EC2_METADATA_DISABLED", "true");
    none.ends(21).says("no credentials for AWS Secrets Manager").says("AWS_ACCESS_KEY_ID");
    let none = world
        .call("prove --key aws-sm:text")
        .env("AWS_REGION", REGION)
        .env("AWS_PROFILE", "missing")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    none.ends(21).says("no credentials");
}

#[test]
fn another_region_has_other_secrets_and_one_that_is_none_does_not_answer() {
    let moto = keeping();
    let world = host(&moto.url());
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    crate::app::secret_file(&path, &text.replace("eu-west-1", "eu-central-1"));
    call(&world, "prove --key aws-sm:text")
        .ends(10)
        .says("AWS Secrets Manager in eu-central-1")
        .says("is it this one?");
    crate::app::secret_file(
        &path,
        &text.replace("eu-west-1", "eu-nowhere-9").replace(&format!("endpoint = \"{}\"", moto.url()), ""),
    );
    call(&world, "prove --key aws-sm:text")
        .ends(20)
        .says("AWS Secrets Manager in eu-nowhere-9 does not answer")
        .says("region");
    crate::app::secret_file(&path, &text.replace("eu-west-1", "Ireland"));
    call(&world, "list").ends(2).says("no region of AWS").says("eu-west-1");
}

#[test]
fn nothing_leaves_this_machine_unencrypted_wherever_the_endpoint_was_named() {
    let world = host("http://127.0.0.1:9");
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    crate::app::secret_file(&path, &text.replace("http://127.0.0.1:9", "http://aws.example"));
    call(&world, "list").ends(2).says("neither encrypted nor on this machine").says("https");
    let world = World::ready();
    let named = call(&world, "prove --key aws-sm:text").env("AWS_REGION", REGION);
    named
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://aws.example")
        .ends(2)
        .says("neither encrypted nor on this machine");
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "key",
            "-out",
            "cert",
        ])
        .current_dir(folder.path())
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut server = std::process::Command::new("openssl")
        .args(["s_server", "-accept", &port.to_string(), "-cert", "cert", "-key", "key", "-quiet"])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl runs");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let world = host(&format!("https://localhost:{port}"));
    let ran = call_as(&world, ("a", "b"), "prove --key aws-sm:text").run();
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!(ran.code, Some(20), "{}", ran.stderr);
    ran.says("certificate");
}
