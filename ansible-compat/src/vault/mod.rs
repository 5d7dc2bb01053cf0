//! Ansible Vault: opening files that are encrypted as a whole.
//!
//! Single values (`!vault`) are never opened: `ansible-inventory` shows them encrypted whoever knows the password, and
//! so does this crate. Where passwords come from is `passwords`. No password and no plain text is ever part of an error.

pub(crate) mod passwords;

use aws_lc_rs::cipher::{AES_256, AES_256_KEY_LEN, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};

use self::passwords::{Passwords, Secret};
use crate::error::Fault;

/// How every vault begins.
const HEADER: &[u8] = b"$ANSIBLE_VAULT";

/// Rounds of key derivation; the format has no other number.
const ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(10_000).expect("it is not zero");

/// Bytes of one block of the cipher, and of its first counter.
const BLOCK: usize = 16;

/// Whether these bytes are a vault. It is pure ASCII; anything else only looks like one.
pub(crate) fn is_vault(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER) && bytes.is_ascii()
}

/// The plain text of a vault.
///
/// # Errors
/// If there is no password, none fits, or the text is no whole vault.
pub(crate) fn open(bytes: &[u8], passwords: &Passwords) -> Result<Vec<u8>, Fault> {
    if passwords.is_empty() {
        return Err(Fault::recognised(
            "a vault file for which no password is given",
            "give one with `--vault-password-file FILE` or `--vault-id NAME@FILE`",
        ));
    }
    let sealed = Sealed::read(bytes)
        .ok_or_else(|| Fault::recognised("a vault file that is damaged or of another kind", "encrypt it again"))?;
    passwords.in_order(sealed.id.as_deref()).find_map(|secret| sealed.open(secret)).ok_or_else(|| {
        let name = sealed.id.as_ref().map_or(String::new(), |id| format!(" of the vault id `{id}`"));
        Fault::recognised(
            format!("a vault file{name} that none of the given passwords opens"),
            "give the password it was encrypted with",
        )
    })
}

/// A vault taken apart.
struct Sealed {
    id: Option<String>,
    salt: Vec<u8>,
    tag: Vec<u8>,
    text: Vec<u8>,
}

impl Sealed {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        let mut header = lines.next()?.trim().split(';').map(str::trim);
        let (_magic, _version, cipher) = (header.next()?, header.next()?, header.next()?);
        if cipher != "AES256" {
            return None;
        }
        let id = header.next().map(str::to_owned);
        let body = unhex(&lines.collect::<String>())?;
        let mut parts = body.splitn(3, |&b| b == b'\n').map(|part| unhex(std::str::from_utf8(part).ok()?));
        let (salt, tag, text) = (parts.next()??, parts.next()??, parts.next()??);
        Some(Self { id, salt, tag, text })
    }

    /// The plain text, if this is the password. Which it is, the tag over the text says before anything is decrypted.
    fn open(&self, secret: &Secret) -> Option<Vec<u8>> {
        let mut derived = [0_u8; 2 * AES_256_KEY_LEN + BLOCK];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &self.salt, secret.bytes(), &mut derived);
        let (keys, counter) = derived.split_at(2 * AES_256_KEY_LEN);
        let (cipher_key, tag_key) = keys.split_at(AES_256_KEY_LEN);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, tag_key), &self.text, &self.tag).ok()?;
        let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, cipher_key).ok()?).ok()?;
        let counter: [u8; BLOCK] = counter.try_into().ok()?;
        let mut text = self.text.clone();
        let length = key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(counter))).ok()?.len();
        text.truncate(length);
        let padding = usize::from(*text.last()?);
        let plain = text.len().checked_sub(padding)?;
        let padded = (1..=BLOCK).contains(&padding) && text[plain..].iter().all(|&b| usize::from(b) == padding);
        padded.then(|| {
            text.truncate(plain);
            text
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Made by `ansible-vault` of ansible-core 2.17 with the password `pw1`, and the vault id `dev`.
    const SEALED: &str = include_str!("../../tests/vault/whole/group_vars/g.yml");

    fn passwords(all: &[(&str, &str)]) -> Passwords {
        Passwords::of(all.iter().map(|(id, text)| (*id, text.as_bytes())))
    }

    #[test]
    fn a_vault_is_opened_by_its_password_whatever_its_name() {
        for given in [&[("dev", "pw1")][..], &[("default", "pw1")], &[("dev", "no"), ("other", "pw1")]] {
            let plain = open(SEALED.as_bytes(), &passwords(given)).unwrap();
            assert!(plain.starts_with(b"a: text\n"), "{given:?}");
        }
    }

    #[test]
    fn a_vault_that_stays_closed_says_why_and_no_secret() {
        for (text, given, part) in [
            (SEALED, &[][..], "no password is given"),
            (SEALED, &[("dev", "hunter2")], "none of the given passwords opens"),
            ("$ANSIBLE_VAULT", &[("dev", "hunter2")], "damaged or of another kind"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", &[("dev", "hunter2")], "damaged or of another kind"),
            ("$ANSIBLE_VAULT;1.0;AES\n6162\n", &[("dev", "hunter2")], "damaged or of another kind"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6\n", &[("dev", "hunter2")], "damaged or of another kind"),
        ] {
            let given = passwords(given);
            let fault = open(text.as_bytes(), &given).unwrap_err();
            assert!(fault.text.contains(part), "{fault:?}");
            assert!(!format!("{fault:?} {given:?}").contains("hunter2"));
        }
    }

    #[test]
    fn one_changed_digit_is_noticed() {
        let given = passwords(&[("dev", "pw1")]);
        let place = SEALED.rfind("\n3").unwrap() + 2;
        let digit = if &SEALED[place..=place] == "0" { "1" } else { "0" };
        let mut changed = SEALED.to_owned();
        changed.replace_range(place..=place, digit);
        assert!(open(changed.as_bytes(), &given).is_err());
    }
}
