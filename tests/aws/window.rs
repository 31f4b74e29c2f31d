//! A key that is destroyed with a recovery window.

use crate::keyring::outlive;
use crate::kills::host;
use crate::server::Moto;
use crate::world::IDENTITY;

#[test]
fn a_destroyed_key_can_be_brought_back_within_the_window_that_is_configured() {
    let moto = Moto::start();
    let world = host(&moto);
    let path = world.path("strongroom.toml");
    let with = |days: &str| {
        let text = std::fs::read_to_string(&path).expect("read");
        let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("recovery_window")).collect();
        let window = format!("kind = \"aws-secrets-manager\"\nrecovery_window_days = {days}\n");
        crate::app::secret_file(&path, &text.replace("kind = \"aws-secrets-manager\"\n", &window));
    };
    for days in ["6", "31"] {
        with(days);
        world.run("config check", 2).says("recovery_window_days is from 7 to 30");
    }
    with("7");
    let old = outlive(&world);
    let line = format!("key destroy {old} --yes");
    for _ in 0..2 {
        world.run(&line, 0).says("restore-secret --secret-id").says("brings it back until 20");
    }
    let admin = format!(
        "n=[s for s in sm.list_secrets(IncludePlannedDeletion=True)['SecretList'] if '{old}' in s['Name']][0]\n"
    );
    let days = moto.admin(&format!(
        "{admin}import datetime\nprint(round((n['DeletedDate']-datetime.datetime.now(n['DeletedDate'].tzinfo)).total_seconds()/86400))"
    ));
    assert_eq!(days.trim(), "7");
    // On its way out: nothing that a person has to look at.
    world.run("key status", 0).says("destroyed");
    moto.admin(&format!("{admin}sm.restore_secret(SecretId=n['Name'])"));
    world.run("key status", 3).says("was to be destroyed");
    world.run(&format!("key fetch {old} -i {IDENTITY} -o fetched"), 0);
}
