//! What `docs/threat-model.md` says of an archive's owner, tried.

use crate::stage::{Stage, tools};

struct Attack {
    stage: Stage,
}

impl Attack {
    fn must(&self, command: &str) {
        let (printed, exit) = self.stage.shell(command);
        assert_eq!(exit, 0, "{command}\n{printed}");
    }

    /// A command ends with a code and says something, after a change to the archive that is undone then.
    fn after(&self, change: &str, command: &str, code: i32, says: &str) {
        self.must(change);
        let (printed, exit) = self.stage.shell(command);
        assert_eq!(exit, code, "{change}\n{command}\n{printed}");
        assert!(printed.contains(says), "{change}\n{command}\n{printed}");
        self.must("rm -rf /backups && cp -a /safe/copy /backups");
    }
}

#[test]
fn an_archives_owner_cannot_make_us_believe_a_change() {
    if !tools(&["bash", "age", "age-keygen", "jq", "sqlite3"]) {
        return;
    }
    let attack = Attack { stage: Stage::new() };
    attack.must("strongroom demo --app-only /data && mkdir -p /etc/strongroom && cd /etc/strongroom");
    attack.must("strongroom init --yes --database sqlite:/data/database.sqlite --storage file:/data/storage --archive file:/backups --key-source dotenv:/data/.env#ENCRYPTION_KEY && mv recovery-* /safe");
    // Ids are sorted by their second: what is taken below as the last must be the latest.
    attack.must("strongroom backup && sleep 1 && strongroom backup && cp -a /backups /safe/copy");
    attack.must("recipient=$(age-keygen -y /safe/recovery-identity.txt)");
    let verify = "strongroom verify -i /safe/recovery-identity.txt";

    // The wrapped sealing key: spoiled, gone, for somebody else, or another key for us. Signed bundles have their own copy.
    let custody = "/backups/custody/*/identity.age";
    attack.after(&format!("echo spoiled >$(echo {custody})"), verify, 0, "proved");
    attack.after(&format!("rm {custody}"), verify, 0, "proved");
    attack.after(
        &format!("age-keygen 2>/dev/null | age -r $(age-keygen 2>/dev/null | age-keygen -y) >$(echo {custody})"),
        verify,
        0,
        "proved",
    );
    attack.after(&format!("age-keygen 2>/dev/null | age -r $recipient >$(echo {custody})"), verify, 0, "proved");
    attack.after("sed -i 's/recovery/mallory/' /backups/custody/*/custody.json", verify, 14, "custody.json");

    // What is signed: headers, verdicts, the order of bundles, the end of the ledger.
    let last = "$(ls -d /backups/bundles/*/* | tail -n 1)";
    attack.after(&format!("sed -i 's/proved/mixed/' {last}/bundle.json"), "strongroom show", 13, "bundle.json");
    attack.after(&format!("sed -i 's/0/1/' {last}/SHA256SUMS"), "strongroom check", 14, "SHA256SUMS");
    attack.after(
        "sed -i 's/proved/no-key/' /backups/ledger/*/0000000003.json",
        "strongroom list",
        14,
        "0000000003.json",
    );
    attack.after(
        "cd /backups/bundles/* && set -- * && rm -r $2 && cp -a $1 $2; cd /etc/strongroom",
        "strongroom check",
        14,
        "SHA256SUMS",
    );
    attack.after(
        "rm /backups/ledger/*/0000000001.json*",
        "strongroom list --card /safe/recovery-card.txt",
        14,
        "0000000001.json",
    );
    attack.after("rm /backups/ledger/*/*", "strongroom list --card /safe/recovery-card.txt", 14, "remembered");

    // Nobody is trusted because the archive says so.
    attack.after(
        "true",
        "cd /elsewhere; strongroom list --archive file:/backups; code=$?; cd /etc/strongroom; (exit $code)",
        14,
        "--signer",
    );
}
