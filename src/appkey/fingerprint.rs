//! The name of an effective key: a slow hash, safe to print and to store in the clear.

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};

use super::EffectiveKey;
use super::schemes::Scheme;
use crate::ground::names::{Fingerprint, Uuid};
use crate::ground::{Error, Result};

/// KiB of memory: 64 MiB.
const MEMORY: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// The fingerprint of a key in an installation (Argon2id, RFC 9106; parameters in `docs/bundle-format.md`).
///
/// It takes a fraction of a second and 64 MiB on purpose: a weak key must not be given away by its name.
pub fn of(scheme: &dyn Scheme, installation: &Uuid, key: &EffectiveKey) -> Result<Fingerprint> {
    let salt = Sha256::digest(format!("strongroom fingerprint v1:{}:{installation}", scheme.name()));
    let failed = |e: argon2::Error| Error::failed("cannot make a fingerprint").because(e.to_string());
    let params = Params::new(MEMORY, PASSES, LANES, Some(16)).map_err(failed)?;
    let mut out = [0; 16];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(key.expose(), &salt, &mut out)
        .map_err(failed)?;
    Ok(Fingerprint::from_bytes(&out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appkey::KeyText;
    use crate::appkey::schemes;
    use zeroize::Zeroizing;

    fn print(text: &str, installation: &str) -> Fingerprint {
        let scheme = schemes::by_name("package-broker").expect("a scheme");
        let key = scheme.effective_key(&KeyText::new(Zeroizing::new(text.as_bytes().to_vec()))).expect("a key");
        of(scheme, &installation.parse().expect("a uuid"), &key).expect("a fingerprint")
    }

    #[test]
    fn texts_that_are_one_key_have_one_name_and_installations_differ() {
        let (here, there) = ("11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555");
        let name = print("short-key", here);
        assert_eq!(name, print("short-key00000000000000000000000", here));
        assert_eq!(name, print("short-key00000000000000000000000 and more", here));
        assert_ne!(name, print("short-kez", here));
        assert_ne!(name, print("short-key", there));
    }

    #[test]
    fn the_name_is_the_one_of_the_reference_implementation() {
        // argon2-cffi 25.1, low_level.hash_secret_raw(b"short-key" + b"0" * 23, sha256(salt).digest(), 3, 65536, 1, 16, ID)
        assert_eq!(print("short-key", "11111111-2222-4333-8444-555555555555").as_str(), REFERENCE);
    }

    const REFERENCE: &str = "161edcc6405fe61c6cd42a4d70308cc7";
}
