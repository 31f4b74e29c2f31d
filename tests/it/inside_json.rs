//! Credentials inside the JSON of a column, in SQLite and in its dumps.

use std::process::Command;

use crate::app::{KEY, encrypt, secret};
use crate::world::World;

/// The key of the world's `.env`.
const DOTENV: &str = "--key dotenv:app/.env#ENCRYPTION_KEY";

#[test]
fn a_credential_inside_json_is_found_in_a_file_and_in_its_dump() {
    let world = World::new();
    let value = encrypt(KEY, &secret(1));
    let sql = format!(
        "CREATE TABLE settings (id integer primary key, data);\nINSERT INTO settings VALUES\n\
         (1, '{{\"smtp\": [{{\"password\": \"{value}\"}}]}}'), (2, CAST('{{\"smtp\": [{{\"password\": \"{value}\"}}]}}' AS BLOB)),\n\
         (3, '{{\"smtp\": []}}'), (4, NULL), (5, '{{\"smtp\": [{{\"password\": null}}]}}');\n"
    );
    let made = Command::new("sqlite3").arg(world.path("json.sqlite")).arg(&sql).status().expect("sqlite3 runs");
    assert!(made.success());
    let dumped = Command::new("sqlite3").arg(world.path("json.sqlite")).arg(".dump").output().expect("sqlite3 runs");
    std::fs::write(world.path("json.sql"), dumped.stdout).expect("written");
    let profile = "app = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
        [[credential]]\ntable = \"settings\"\ncolumn = \"data->'smtp'->0->>'password'\"\nprimary_key = [\"id\"]\n";
    std::fs::write(world.path("place.toml"), profile).expect("written");
    for target in ["sqlite:json.sqlite", "json.sqlite", "json.sql"] {
        let json = world.json(&format!("prove {target} {DOTENV} --app place.toml"), 0);
        assert_eq!((&json["credentials"]["proved"], &json["total"]), (&2.into(), &2.into()), "{target} {json}");
        let json = world.json(&format!("prove {target} {DOTENV} --app place.toml --sample 1"), 0);
        assert_eq!((&json["credentials"]["proved"], &json["total"]), (&1.into(), &2.into()), "{target} {json}");
    }
    let broken = "UPDATE settings SET data = 'no json' WHERE id = 3";
    assert!(Command::new("sqlite3").arg(world.path("json.sqlite")).arg(broken).status().expect("it runs").success());
    let json = world.json(&format!("prove json.sqlite {DOTENV} --app place.toml"), 12);
    assert_eq!(json["failures"][0]["id"], 3, "{json}");
}
