//! PostgreSQL as the application's database: real servers of several versions, the built program from outside.
#![expect(clippy::print_stderr, reason = "a skipped test, and a server that does not stop, must be seen")]

mod dumps;
mod faults;
mod in_place;
mod json;
mod live;
mod network;
mod pipes;
mod restore;
mod rotate;
mod server;
mod story;
mod versions;
mod world;
