//! The built program, from outside: a file per verb, each test in a world of its own.

mod app;
mod architecture;
mod backup;
mod check;
mod cleanup;
mod clocks;
mod codes;
mod cron;
mod custody;
mod defects;
mod forge;
mod frozen;
mod gpg;
mod guard;
mod hands_off;
mod hints;
mod hostile;
mod hosts;
mod hygiene;
mod init;
mod inside_json;
mod keyring;
mod keys;
#[cfg(feature = "failpoints")]
mod killing;
#[cfg(feature = "failpoints")]
mod kills;
#[cfg(feature = "failpoints")]
mod kills_keys;
mod life;
mod look;
mod lost;
mod mounted;
mod newcomer;
mod places;
mod prove;
mod resealed;
mod restore;
mod restore_live;
mod rotate_abort;
mod traced;
mod unended;
mod unread;
mod verify;
mod world;
mod writers;
