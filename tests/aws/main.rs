//! AWS Secrets Manager: a real moto server, recorded answers of AWS where moto's differ, the built program from outside.

#[expect(dead_code, reason = "shared with another test binary, which uses all of it")]
#[path = "../it/app.rs"]
mod app;
mod escrow;
mod recorded;
mod roles;
mod server;
mod sources;
mod stage;
#[expect(dead_code, reason = "shared with another test binary, which uses all of it")]
#[path = "../it/world.rs"]
mod world;
