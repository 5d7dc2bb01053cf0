//! The join token: one string that lets a new node know its fleet, and the fleet know its new node.
//!
//! `fleet1.<hash of the authority's key>.<id>.<secret>`: the hash lets the node refuse a false controller before it says
//! a word of the secret. What the controller keeps of a token is in `token_record`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::provider::{hex, random};
use crate::token_record::{TokenGrant, TokenRecord};

/// The first part of every token: the format and its version.
const PREFIX: &str = "fleet1";

/// Secret bytes in a new token: 192 bits, above the 128 that guessing over the network can never reach.
const SECRET_BYTES: usize = 24;

/// The shortest secret accepted, in bytes.
const SHORTEST_SECRET: usize = 16;

/// The longest token read, in bytes. Ours have 94.
const LONGEST_TOKEN: usize = 512;

/// A join token with its secret. `Debug` hides the secret; there is no `Display`, so that no log line can hold it by
/// accident: use [`JoinToken::reveal`] to hand it to a person.
#[derive(Clone)]
pub struct JoinToken {
    ca_hash: String,
    id: String,
    secret: String,
}

/// A text that is not a join token, and what is wrong with it. Never repeats the text, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedToken {
    /// It is much longer than any token.
    #[error("the join token is longer than 512 characters; copy only the line that `fleetctl tokens create` printed")]
    TooLong,
    /// It does not start as a token does.
    #[error("a join token starts with `fleet1.`; copy the whole line that `fleetctl tokens create` printed")]
    WrongPrefix,
    /// It has too few or too many parts.
    #[error(
        "a join token has 4 parts separated by dots (fleet1.<hash>.<id>.<secret>), this one has {found}; it was probably cut when copied"
    )]
    WrongNumberOfParts {
        /// How many there are.
        found: usize,
    },
    /// A part has characters that do not belong there.
    #[error("the {part} of the join token has characters that do not belong there; copy it again")]
    BadCharacters {
        /// Which part.
        part: &'static str,
    },
    /// A part has the wrong length.
    #[error("the {part} of the join token has the wrong length; it was probably cut when copied")]
    WrongLength {
        /// Which part.
        part: &'static str,
    },
}

impl JoinToken {
    /// Makes a new token for the authority with `ca_hash`, and the record of it to keep.
    ///
    /// The record is stored before the token is shown; the token itself is never stored.
    pub fn mint(ca_hash: &str, grant: TokenGrant) -> Result<(JoinToken, TokenRecord), Error> {
        let token = JoinToken {
            ca_hash: ca_hash.to_owned(),
            id: hex(&random::<5>()?),
            secret: URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?),
        };
        let record = TokenRecord::new(token.id.clone(), &token.secret, grant)?;
        Ok((token, record))
    }

    /// The hash of the authority's public key, for `Dialer::with_ca_hash`.
    pub fn ca_hash(&self) -> &str {
        &self.ca_hash
    }

    /// The id: not secret, names the token in lists and logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret, to be sent to the controller once its key has been checked.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The whole token with its secret, for the person who will use it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.ca_hash, self.id, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("ca_hash", &self.ca_hash)
            .field("id", &self.id)
            .field("secret", &"<hidden>")
            .finish()
    }
}

impl FromStr for JoinToken {
    type Err = MalformedToken;

    /// Reads a token; white space around it (the newline of a token file) is ignored.
    fn from_str(text: &str) -> Result<Self, MalformedToken> {
        let text = text.trim();
        if text.len() > LONGEST_TOKEN {
            return Err(MalformedToken::TooLong);
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts[0] != PREFIX {
            return Err(MalformedToken::WrongPrefix);
        }
        let [_, ca_hash, id, secret] = parts[..] else {
            return Err(MalformedToken::WrongNumberOfParts { found: parts.len() });
        };
        if id.is_empty() || id.len() > 64 {
            return Err(MalformedToken::WrongLength { part: "id" });
        }
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(MalformedToken::BadCharacters { part: "id" });
        }
        if decode(ca_hash, "authority hash")? != 32 {
            return Err(MalformedToken::WrongLength { part: "authority hash" });
        }
        if decode(secret, "secret")? < SHORTEST_SECRET {
            return Err(MalformedToken::WrongLength { part: "secret" });
        }
        Ok(JoinToken { ca_hash: ca_hash.to_owned(), id: id.to_owned(), secret: secret.to_owned() })
    }
}

/// Checks that a part is base64url and returns how many bytes it stands for.
fn decode(text: &str, part: &'static str) -> Result<usize, MalformedToken> {
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Err(MalformedToken::BadCharacters { part });
    }
    URL_SAFE_NO_PAD.decode(text).map(|bytes| bytes.len()).map_err(|_| MalformedToken::WrongLength { part })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Role;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        let hash = URL_SAFE_NO_PAD.encode([7u8; 32]);
        JoinToken::mint(&hash, TokenGrant::once(Role::Node, 1_000, "alice")).unwrap().0
    }

    #[test]
    fn written_and_read_back() {
        let token = token();
        let read: JoinToken = format!(" {}\n", token.reveal()).parse().unwrap();
        assert_eq!((read.ca_hash(), read.id(), read.secret()), (token.ca_hash(), token.id(), token.secret()));
        assert!(!format!("{token:?}").contains(token.secret()));
        assert_ne!(token.secret(), self::token().secret());
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        use MalformedToken as M;
        let good = token().reveal();
        let [_, hash, id, secret] = good.split('.').collect::<Vec<_>>()[..] else { panic!("four parts") };
        let hash_part = "authority hash";
        for (text, expected) in [
            (String::new(), M::WrongPrefix),
            ("K10abc::server:xyz".into(), M::WrongPrefix),
            (good.replace("fleet1", "fleet2"), M::WrongPrefix),
            (format!("fleet1.{hash}.{id}"), M::WrongNumberOfParts { found: 3 }),
            (format!("{good}.x"), M::WrongNumberOfParts { found: 5 }),
            (format!("fleet1.{hash}.{id}.{secret}="), M::BadCharacters { part: "secret" }),
            (format!("fleet1.{hash}.i d.{secret}"), M::BadCharacters { part: "id" }),
            (format!("fleet1.{hash}..{secret}"), M::WrongLength { part: "id" }),
            (format!("fleet1.ä{hash}.{id}.{secret}"), M::BadCharacters { part: hash_part }),
            (format!("fleet1.{}.{id}.{secret}", &hash[..20]), M::WrongLength { part: hash_part }),
            (format!("fleet1.{hash}.{id}.{}", &secret[..8]), M::WrongLength { part: "secret" }),
            ("x".repeat(600), M::TooLong),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err();
            assert_eq!(error, expected, "for {text:?}");
            assert!(!error.to_string().contains(secret));
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,600}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
