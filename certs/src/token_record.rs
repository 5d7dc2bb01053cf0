//! What the controller keeps of a join token, and the decision whether a use of it is good.
//!
//! Pure: the caller holds the record's lock, gives the time, and stores the record *before* it acts on a redemption.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::Error;
use crate::identity::{Role, check_name};
use crate::provider::random;

/// What a new token shall allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// The role of the certificates it gives: node or operator.
    pub role: Role,
    /// How many times it may be used; at least 1.
    pub uses: u32,
    /// From when it is refused, in milliseconds since 1970 by the controller's clock.
    pub expires_at_ms: i64,
    /// The only name it may be used for, if it is for one machine or person.
    pub name: Option<String>,
    /// Labels which the nodes that join with it receive.
    pub labels: BTreeMap<String, String>,
    /// The operator who made it.
    pub created_by: String,
}

impl TokenGrant {
    /// A grant for a single use, with any name and no labels: the default of `fleetctl tokens create`.
    pub fn once(role: Role, expires_at_ms: i64, created_by: impl Into<String>) -> Self {
        TokenGrant { role, uses: 1, expires_at_ms, name: None, labels: BTreeMap::new(), created_by: created_by.into() }
    }
}

/// A token as it is stored: everything but the secret, of which only a salted hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The token's id.
    pub id: String,
    /// Random salt (base64).
    salt: String,
    /// SHA-256 of salt and secret (base64).
    hash: String,
    /// From when it is refused, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// How many times it may still be used.
    pub uses_left: u32,
    /// How many times it could be used at first.
    pub uses_total: u32,
    /// The role of the certificates it gives.
    pub role: Role,
    /// The only name it may be used for.
    pub name: Option<String>,
    /// Labels which the nodes that join with it receive.
    pub labels: BTreeMap<String, String>,
    /// The operator who made it.
    pub created_by: String,
    /// The name it was last used for.
    pub last_used_by: Option<String>,
}

/// Why a token is refused. Safe to send to whoever presented it: only [`TokenRefusal::Unknown`] and
/// [`TokenRefusal::WrongSecret`] can be seen without knowing the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// No token has this id.
    #[error(
        "the join token is not known here (never made by this controller, or deleted); make a new one with `fleetctl tokens create`"
    )]
    Unknown,
    /// The id is known, the secret is not its secret.
    #[error("the secret of the join token is wrong; copy the whole token again")]
    WrongSecret,
    /// Its time is over.
    #[error(
        "the join token expired {} ago by the controller's clock; make a new one with `fleetctl tokens create`",
        duration_words(.now_ms.saturating_sub(*.expired_at_ms))
    )]
    Expired {
        /// When it expired, in milliseconds since 1970.
        expired_at_ms: i64,
        /// The time of the attempt.
        now_ms: i64,
    },
    /// It was used as often as it may be.
    #[error(
        "the join token has been used already ({uses_total} of {uses_total} uses{}); if that was not you, somebody else holds it: check the newest nodes. Make a new one with `fleetctl tokens create`",
        .last_used_by.as_ref().map(|name| format!(", last for {name}")).unwrap_or_default()
    )]
    UsedUp {
        /// How many uses it had.
        uses_total: u32,
        /// The name it was last used for.
        last_used_by: Option<String>,
    },
    /// It is for another name.
    #[error("the join token is only for the name {allowed}, not for {asked:?}")]
    WrongName {
        /// The name it is for.
        allowed: String,
        /// The name it was used with.
        asked: String,
    },
}

impl TokenRecord {
    pub(crate) fn new(id: String, secret: &str, grant: TokenGrant) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Issue { reason: reason.to_owned() };
        if grant.role == Role::Controller {
            return Err(refuse("a token can make nodes and operators, never a controller"));
        }
        if grant.uses == 0 {
            return Err(refuse("a token needs at least one use"));
        }
        if let Some(name) = &grant.name {
            check_name(name)?;
        }
        let salt = STANDARD_NO_PAD.encode(random::<16>()?);
        Ok(TokenRecord {
            id,
            hash: salted_hash(&salt, secret),
            salt,
            expires_at_ms: grant.expires_at_ms,
            uses_left: grant.uses,
            uses_total: grant.uses,
            role: grant.role,
            name: grant.name,
            labels: grant.labels,
            created_by: grant.created_by,
            last_used_by: None,
        })
    }

    /// Takes one use of the token for `name`, or says why not and changes nothing.
    ///
    /// The secret is checked first, in constant time, so that nothing about a token is told to who does not hold it.
    /// The caller must have exclusive use of the stored record from reading it to storing it again.
    pub fn redeem(&mut self, secret: &str, name: &str, now_ms: i64) -> Result<(), TokenRefusal> {
        let presented = salted_hash(&self.salt, secret);
        if !bool::from(presented.as_bytes().ct_eq(self.hash.as_bytes())) {
            return Err(TokenRefusal::WrongSecret);
        }
        if self.uses_left == 0 {
            return Err(TokenRefusal::UsedUp { uses_total: self.uses_total, last_used_by: self.last_used_by.clone() });
        }
        if now_ms >= self.expires_at_ms {
            return Err(TokenRefusal::Expired { expired_at_ms: self.expires_at_ms, now_ms });
        }
        if let Some(allowed) = self.name.as_ref().filter(|allowed| *allowed != name) {
            return Err(TokenRefusal::WrongName { allowed: allowed.clone(), asked: name.to_owned() });
        }
        self.uses_left -= 1;
        self.last_used_by = Some(name.to_owned());
        Ok(())
    }
}

/// The secret has 192 random bits, so one round of SHA-256 is enough: there is no password to guess.
fn salted_hash(salt: &str, secret: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"fleet join token 1\0");
    hasher.update(salt.as_bytes());
    hasher.update(b"\0");
    hasher.update(secret.as_bytes());
    STANDARD_NO_PAD.encode(hasher.finalize())
}

fn duration_words(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Barrier, Mutex};

    use super::*;
    use crate::token::JoinToken;

    fn mint(grant: TokenGrant) -> (JoinToken, TokenRecord) {
        JoinToken::mint(&"A".repeat(43), grant).unwrap()
    }

    fn once() -> TokenGrant {
        TokenGrant::once(Role::Node, 10_000, "alice")
    }

    #[test]
    fn one_use_is_one_use() {
        let (token, mut record) = mint(once());
        record.redeem(token.secret(), "n1", 9_999).unwrap();
        let refusal = record.redeem(token.secret(), "n2", 9_999).unwrap_err();
        assert_eq!(refusal, TokenRefusal::UsedUp { uses_total: 1, last_used_by: Some("n1".into()) });
        assert!(refusal.to_string().contains("used already (1 of 1 uses, last for n1)"));
        let (token, mut record) = mint(TokenGrant { uses: 3, ..once() });
        for n in 0..3 {
            record.redeem(token.secret(), &format!("n{n}"), 0).unwrap();
        }
        assert!(record.redeem(token.secret(), "n4", 0).is_err());
    }

    #[test]
    fn refusals_are_clear_and_change_nothing() {
        let (token, mut record) = mint(TokenGrant { name: Some("web-41".into()), ..once() });
        let before = record.clone();
        let (other, _) = mint(once());
        for (secret, name, now, expected) in [
            (other.secret(), "web-41", 0, "secret of the join token is wrong"),
            ("", "web-41", 0, "secret of the join token is wrong"),
            (token.secret(), "web-41", 10_000, "expired 0 s ago"),
            (token.secret(), "web-41", 3_610_000, "expired 60 min ago"),
            (token.secret(), "web-42", 0, "only for the name web-41, not for \"web-42\""),
        ] {
            let text = record.redeem(secret, name, now).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
            assert_eq!(record, before);
        }
        record.redeem(token.secret(), "web-41", 0).unwrap();
        assert!(TokenRefusal::Unknown.to_string().contains("not known here"));
    }

    #[test]
    fn stored_without_the_secret_and_read_back() {
        let (token, record) = mint(once());
        let json = serde_json::to_string(&record).unwrap();
        assert!(!json.contains(token.secret()));
        let mut read: TokenRecord = serde_json::from_str(&json).unwrap();
        assert_eq!(read, record);
        read.redeem(token.secret(), "n1", 0).unwrap();
    }

    #[test]
    fn of_a_hundred_at_once_exactly_one_wins() {
        let (token, record) = mint(once());
        let record = Arc::new(Mutex::new(record));
        let start = Arc::new(Barrier::new(100));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let (record, start, secret) = (record.clone(), start.clone(), token.secret().to_owned());
                std::thread::spawn(move || {
                    start.wait();
                    record.lock().unwrap().redeem(&secret, &format!("n{n}"), 0)
                })
            })
            .collect();
        let outcomes: Vec<_> = tasks.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert!(
            outcomes
                .iter()
                .filter_map(|o| o.as_ref().err())
                .all(|refusal| matches!(refusal, TokenRefusal::UsedUp { .. }))
        );
    }

    #[test]
    fn no_token_makes_a_controller_or_has_no_use() {
        for grant in [
            TokenGrant { role: Role::Controller, ..once() },
            TokenGrant { uses: 0, ..once() },
            TokenGrant { name: Some("../x".into()), ..once() },
        ] {
            assert!(JoinToken::mint("x", grant).is_err());
        }
    }
}
