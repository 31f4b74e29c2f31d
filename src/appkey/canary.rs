//! A known text under the application's key: lets any candidate be tried against a bundle that has no credentials.

use super::EffectiveKey;
use super::schemes::{Outcome, Scheme};
use crate::ground::names::BundleId;
use crate::ground::{Error, Result};

fn text(bundle: &BundleId) -> String {
    format!("strongroom canary v1 {bundle}")
}

/// Makes a bundle's canary.
pub fn make(scheme: &dyn Scheme, key: &EffectiveKey, bundle: &BundleId) -> Result<String> {
    String::from_utf8(scheme.encrypt(key, text(bundle).as_bytes())?)
        .map_err(|_| Error::failed(format!("the scheme {} makes a canary that is no text", scheme.name())))
}

/// Whether a key opens a bundle's canary, and finds in it what should be there.
pub fn opens(scheme: &dyn Scheme, key: &EffectiveKey, bundle: &BundleId, canary: &str) -> bool {
    match scheme.decrypt(key, canary.as_bytes()) {
        Outcome::Proved(plain) | Outcome::Plausible(plain) => *plain == text(bundle).as_bytes(),
        Outcome::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appkey::{KeyText, schemes};

    #[test]
    fn a_canary_opens_with_its_key_and_for_its_bundle_only() {
        let scheme = schemes::by_name("package-broker").expect("a scheme");
        let key = |t: &str| scheme.effective_key(&KeyText::new(t.as_bytes().to_vec().into())).expect("a key");
        let id: BundleId = "20261123T020000Z-1a2b3c4d".parse().expect("an id");
        let other: BundleId = "20261123T020000Z-1a2b3c4e".parse().expect("an id");
        let canary = make(scheme, &key("right"), &id).expect("made");
        assert!(opens(scheme, &key("right"), &id, &canary));
        assert!(!opens(scheme, &key("wrong"), &id, &canary));
        assert!(!opens(scheme, &key("right"), &other, &canary));
    }
}
