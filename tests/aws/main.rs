//! AWS Secrets Manager: a real moto server, recorded answers of AWS where moto's differ, the built program from outside.

#[expect(dead_code, reason = "shared with another test binary, which uses all of it")]
#[path = "../it/app.rs"]
mod app;
mod escrow;
#[cfg(feature = "failpoints")]
#[path = "../it/keyring.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod keyring;
#[cfg(feature = "failpoints")]
#[path = "../it/killing.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod killing;
#[cfg(feature = "failpoints")]
mod kills;
#[cfg(feature = "failpoints")]
#[path = "../it/kills_outside.rs"]
mod kills_outside;
mod recorded;
mod roles;
mod server;
mod sources;
mod stage;
#[cfg(feature = "failpoints")]
mod window;
#[expect(dead_code, reason = "shared with another test binary, which uses all of it")]
#[path = "../it/world.rs"]
mod world;
