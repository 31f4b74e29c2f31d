//! Damage and malice by the thousand, against the library itself: each case one change to an archive or a dump that was whole,
//! and one verb that must not call it good.
//!
//! Every run tries a part of the cases, the same part each time; `STRONGROOM_TRUST=all` tries all of them and prints the tables
//! that `docs/trust.md` shows:
//!
//! ```sh
//! STRONGROOM_TRUST=all cargo test --features failpoints --test trust -- --nocapture
//! ```

#[path = "../it/app.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod app;
mod bytes;
mod chain;
mod desk;
mod dumps;
mod signed;
mod stage;
mod tally;
mod tars;
#[path = "../it/world.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod world;

use stage::Stage;
use tally::Tally;

#[test]
fn nothing_that_was_damaged_or_forged_is_called_good() {
    let stage = Stage::new("");
    let mut tally = Tally::default();
    signed::unchanged(&stage, &mut tally);
    bytes::classes(&stage, &mut tally);
    chain::classes(&stage, &mut tally);
    signed::classes(&stage, &mut tally);
    dumps::classes(&stage, &mut tally);
    assert!(stage::objects(&stage.world.path("archive")) == stage.objects, "the archive itself was written to");
    tally.close(if stage::all() { 10_000 } else { 250 });
}
