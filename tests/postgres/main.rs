//! PostgreSQL as the application's database: real servers of several versions, the built program from outside.

mod dumps;
mod faults;
mod live;
mod restore;
mod server;
mod world;
