//! Disks that are full, that fail at one call, and that do not give back what they hold: each case one fault in one run of the
//! program, and a look at what is left.
//!
//! Every run tries a part of the cases, the same part each time; `STRONGROOM_TRUST=all` tries all of them and prints the tables
//! that `docs/trust.md` shows:
//!
//! ```sh
//! STRONGROOM_TRUST=all cargo test --features failpoints --test disks -- --nocapture
//! ```

#[path = "../it/app.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod app;
mod full;
mod look;
mod reads;
mod stage;
mod strace;
#[path = "../trust/tally.rs"]
#[allow(dead_code, reason = "shared with tests/trust, which uses all of it")]
mod tally;
#[path = "../it/world.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod world;
mod writes;
