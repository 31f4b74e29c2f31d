//! Credentials that stand inside JSON: the live database and every dump of it mean the same.

use super::server::Server;
use super::world::{World, encrypted};

fn profile(column: &str) -> String {
    format!(
        "app = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
         [[credential]]\ntable = \"settings\"\ncolumn = \"{column}\"\nprimary_key = [\"id\"]\nplaintext = [\"none\"]\n"
    )
}

#[test]
fn a_place_in_json_is_found_live_and_in_every_dump() {
    let Some(server) = Server::start(15) else { return };
    let value = encrypted("{}");
    let world = World::new(&server.programs);
    for of in ["jsonb", "json", "text", "bytea"] {
        let cast = |json: &str| match of {
            "bytea" => format!("convert_to('{json}', 'UTF8')"),
            _ => format!("'{json}'::{of}"),
        };
        let rows = [
            format!(r#"{{"smtp": [{{"password": "{value}"}}], "note": "a\\tb"}}"#),
            format!(r#"{{"smtp": [{{"password": "{value}"}}, {{"password": "x"}}]}}"#),
            r#"{"smtp": [{"password": "none"}]}"#.to_owned(),
            r#"{"smtp": [{"password": null}]}"#.to_owned(),
            r#"{"smtp": {"0": {"password": "x"}}}"#.to_owned(),
            "[]".to_owned(),
        ];
        let values: Vec<_> = rows.iter().enumerate().map(|(n, row)| format!("({n}, {})", cast(row))).collect();
        server.sql(
            "app",
            "app",
            &format!(
                "DROP TABLE IF EXISTS settings; CREATE TABLE settings (id int PRIMARY KEY, data {of}); \
                 INSERT INTO settings VALUES {}, (100, NULL)",
                values.join(", ")
            ),
        );
        std::fs::write(world.path("place.toml"), profile("data->'smtp'->0->>'password'")).expect("written");
        let mut targets = vec![server.url("app", "app")];
        for (name, arguments) in
            [("custom", &["-Fc"][..]), ("tar", &["-Ft"]), ("script", &[]), ("inserts", &["--inserts"])]
        {
            let mut command = server.command("pg_dump", "app", "app");
            assert!(command.args(arguments).arg("-f").arg(world.path(name)).status().expect("it runs").success());
            targets.push(name.to_owned());
        }
        for target in &targets {
            let (code, proof) = world.json(&format!("prove {target} --key env:KEY --app place.toml"));
            assert_eq!((code, &proof["credentials"]["proved"]), (0, &2.into()), "{of} {target} {proof}");
            assert_eq!((&proof["credentials"]["plaintext"], &proof["total"]), (&1.into(), &3.into()), "{of} {target}");
            let (code, proof) = world.json(&format!("prove {target} --key env:WRONG --app place.toml"));
            assert_eq!((code, proof["failures"].as_array().map(Vec::len)), (12, Some(2)), "{of} {target}");
            assert_eq!(proof["failures"][0]["column"], "data->'smtp'->0->>'password'");
        }
    }

    // What is no JSON hides nothing: it counts as a value that fails.
    server.sql("app", "app", "DROP TABLE settings; CREATE TABLE settings (id int PRIMARY KEY, data text); INSERT INTO settings VALUES (1, 'broken {'), (2, repeat(' ', 70000))");
    let (code, proof) = world.json(&format!("prove {} --key env:KEY --app place.toml", server.url("app", "app")));
    assert_eq!((code, &proof["credentials"]["failed"]), (12, &2.into()), "{proof}");
    for wrong in ["data->'smtp'", "->>'x'", "data->>smtp"] {
        std::fs::write(world.path("place.toml"), profile(wrong)).expect("written");
        let told = world.ends(&format!("prove {} --key env:KEY --app place.toml", server.url("app", "app")), 2);
        assert!(told.contains("place.toml line 4") && told.contains("column"), "{told}");
    }

    // A backup, the verification of its dump, and a restore.
    server.sql("app", "app", &format!("DROP TABLE settings; CREATE TABLE settings (id int PRIMARY KEY, data jsonb); INSERT INTO settings VALUES (1, '{{\"p\": \"{value}\"}}'), (2, '{{}}')"));
    std::fs::create_dir_all(world.path("policies/apps")).expect("made");
    std::fs::write(world.path("policies/apps/package-broker.toml"), profile("data->>'p'")).expect("written");
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    let (code, deep) = world.json("verify --deep -i recovery-identity.txt");
    assert_eq!((code, &deep["credentials"]["proved"]), (0, &1.into()), "{deep}");
    server.sql("app", "app", "UPDATE settings SET data = '{}'");
    world.ends("restore -i recovery-identity.txt --only database --yes", 0);
    world.ends("prove", 0);
}
