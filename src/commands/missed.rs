//! What failed in several places, as one error.

use crate::ground::{Error, Kind};

/// What failed in several places, as one error: the causes in their order, and each hint once.
pub(super) fn several(kind: Kind, message: String, causes: &[Error]) -> Error {
    let mut error = Error::new(kind, message);
    if !causes.is_empty() {
        error = error.because(causes.iter().map(Error::chain).collect::<Vec<_>>().join("; "));
    }
    for hint in causes.iter().flat_map(Error::hints) {
        if !error.hints().contains(hint) {
            error = error.hint(hint);
        }
    }
    error
}

/// What decides of several copies that did not open: what is forged, then what is spoilt, then what another identity, another right or
/// another time may open.
pub(super) fn gravest(missed: &[Error]) -> Kind {
    const ORDER: [Kind; 6] =
        [Kind::Interrupted, Kind::NotAuthentic, Kind::Damaged, Kind::Sealed, Kind::Denied, Kind::Unreachable];
    let place = |kind: &Kind| match kind {
        // The others are mishaps that say more than that nothing is there.
        Kind::NotFound => ORDER.len() + 1,
        _ => ORDER.iter().position(|known| known == kind).unwrap_or(ORDER.len()),
    };
    missed.iter().map(Error::kind).min_by_key(place).unwrap_or(Kind::NotFound)
}
