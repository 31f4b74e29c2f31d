//! The built program, from outside: a file per verb, each test in a world of its own.

mod app;
mod architecture;
mod backup;
mod check;
mod cron;
mod custody;
mod guard;
mod init;
mod keys;
#[cfg(feature = "failpoints")]
mod kills;
#[cfg(feature = "failpoints")]
mod kills_keys;
mod life;
mod look;
mod prove;
mod restore;
mod restore_live;
mod verify;
mod world;
mod writers;
