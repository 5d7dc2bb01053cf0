//! The envelope around a signed document: DSSE v1, one signature, and beside it the certificate of the key that made it.
//! Read strictly: whatever [`Envelope::to_text`] would not have written, byte for byte, is refused, so that a changed
//! byte is noticed wherever it lies.
//!
//! What the document says, and when it says that it was signed, is for whoever knows its type. Making signatures is in
//! `sealer`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{certificates, public_key_info, to_pem};
use crate::error::{Error, excerpt};
use crate::provider::{hex, provider};

/// The largest envelope read, in bytes: a document of 16 MiB in base64, and the rest.
pub const LARGEST_ENVELOPE: usize = 24 << 20;

/// What the certificate of a signing key is for, and for nothing else: document signing (RFC 9336), 1.3.6.1.5.5.7.3.36.
const DOCUMENT_SIGNING: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 36];

/// A signed document as it is kept and sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
    cert: String,
}

/// Why an envelope is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// More than an envelope can be.
    #[error("it has {bytes} bytes, more than the {LARGEST_ENVELOPE} that an envelope may have")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Not JSON, or not with the fields that it must have.
    #[error("it is not a signed envelope (DSSE): {reason}")]
    NotAnEnvelope {
        /// Where and why.
        reason: String,
    },
    /// The same content can be written in one way only.
    #[error("it is not byte for byte as it was written: a byte was changed, or a program has formatted it anew")]
    Spelling,
    /// Another kind of document.
    #[error("it holds '{found}', not {wanted}")]
    PayloadType {
        /// What it says it holds.
        found: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// There must be one.
    #[error("it carries {found} signatures, and exactly one is read")]
    SignatureCount {
        /// How many there are.
        found: usize,
    },
    /// Not base64, or not as it is written.
    #[error("its {part} is not base64 as it is written")]
    Base64 {
        /// Payload or signature.
        part: &'static str,
    },
    /// The certificate beside the signature cannot be read.
    #[error("the certificate beside its signature cannot be used: {reason}")]
    Certificate {
        /// Why.
        reason: String,
    },
    /// The key named is not the certificate's.
    #[error("it names another key than the certificate beside its signature has")]
    KeyId,
    /// The content is not what was signed.
    #[error("its signature does not fit its content: it was changed, or signed by somebody else")]
    Signature,
    /// The key was not certified by this fleet's authority, or not for this.
    #[error("its signer was not certified by this authority: {reason}")]
    Untrusted {
        /// What the verifier of certificates says.
        reason: String,
    },
    /// The authority's certificate cannot be read.
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] Error),
    /// The system's clock, or the document's, is out of range.
    #[error("it says it was signed before 1970")]
    Time,
}

/// What was signed, and by which key.
#[derive(Debug)]
pub struct Opened<T> {
    /// What the caller made of the payload.
    pub content: T,
    /// The payload.
    pub payload: Vec<u8>,
    /// The key: `sha256:` and the digest of its SubjectPublicKeyInfo.
    pub keyid: String,
    /// The serial of its certificate.
    pub serial: String,
}

/// Opens an envelope: its form, its signature, and that the signing key was certified by `ca_pem` at the time that the
/// document itself says. `read` makes of the payload what it is, and says that time; nothing that it returns leaves here
/// unless everything fits.
///
/// # Errors
/// With the first thing that does not fit, or what `read` says.
pub fn open<T, E: From<SealError>>(
    text: &[u8],
    payload_type: &'static str,
    ca_pem: &str,
    read: impl FnOnce(&[u8]) -> Result<(T, SystemTime), E>,
) -> Result<Opened<T>, E> {
    let envelope = Envelope::read(text, payload_type)?;
    let [signature] = &envelope.signatures[..] else {
        return Err(SealError::SignatureCount { found: envelope.signatures.len() }.into());
    };
    let payload = decode(&envelope.payload, "payload")?;
    let signed = decode(&signature.sig, "signature")?;
    let unusable = |reason: String| SealError::Certificate { reason };
    let [der] = &certificates(&signature.cert).map_err(|e| unusable(e.to_string()))?[..] else {
        return Err(unusable("there is more than one".into()).into());
    };
    if to_pem(der) != signature.cert {
        return Err(SealError::Spelling.into());
    }
    if key_id(&public_key_info(der).map_err(|e| unusable(e.to_string()))?) != signature.keyid {
        return Err(SealError::KeyId.into());
    }
    let signer = EndEntityCert::try_from(der).map_err(|e| unusable(e.to_string()))?;
    signer
        .verify_signature(webpki::aws_lc_rs::ED25519, &pre_authentication(payload_type, &payload), &signed)
        .map_err(|_| SealError::Signature)?;
    let (content, at) = read(&payload)?;
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| SealError::Time)?;

    let authorities = certificates(ca_pem).map_err(SealError::Authority)?;
    let anchors: Vec<_> = authorities
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<_, _>>()
        .map_err(|e| SealError::Authority(Error::Certificate { reason: e.to_string() }))?;
    signer
        .verify_for_usage(
            provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(since),
            KeyUsage::required(DOCUMENT_SIGNING),
            None,
            None,
        )
        .map_err(|e| SealError::Untrusted { reason: distrust(&e) })?;
    let serial = hex(signer.serial());
    Ok(Opened { content, payload, keyid: signature.keyid.clone(), serial })
}

/// What people can do something with, of what the verifier says.
fn distrust(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnknownIssuer => "it is another fleet's".into(),
        webpki::Error::InvalidSignatureForPublicKey => {
            "its certificate is not signed with the authority's key: it is another fleet's, or was changed".into()
        }
        webpki::Error::CertNotValidYet { .. } | webpki::Error::CertExpired { .. } => {
            "its certificate was not valid at the time that is stated".into()
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => "its certificate is not one for statements".into(),
        // Whatever else a path can fail with.
        other => other.to_string(),
    }
}

impl Envelope {
    /// An envelope with one signature.
    pub(crate) fn new(payload_type: &str, payload: &[u8], keyid: &str, sig: &[u8], cert: &str) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature { keyid: keyid.into(), sig: STANDARD.encode(sig), cert: cert.into() }],
        }
    }

    /// As it is kept: one line.
    pub(crate) fn to_text(&self) -> String {
        // Texts and lists of texts only, which cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    fn read(text: &[u8], payload_type: &'static str) -> Result<Self, SealError> {
        if text.len() > LARGEST_ENVELOPE {
            return Err(SealError::TooLarge { bytes: text.len() });
        }
        let envelope: Self =
            serde_json::from_slice(text).map_err(|e| SealError::NotAnEnvelope { reason: e.to_string() })?;
        if envelope.payload_type != payload_type {
            return Err(SealError::PayloadType {
                found: excerpt(&envelope.payload_type).escape_debug().to_string(),
                wanted: payload_type,
            });
        }
        if envelope.to_text().as_bytes() != text { Err(SealError::Spelling) } else { Ok(envelope) }
    }
}

/// What is signed: DSSE's pre-authentication encoding, which leaves no doubt where the type ends and the payload begins.
pub(crate) fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The name of a key, by its SubjectPublicKeyInfo.
pub(crate) fn key_id(public_key_info: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(public_key_info)))
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, SealError> {
    // Refuses bits that mean nothing: one text for the same bytes.
    STANDARD.decode(text).map_err(|_| SealError::Base64 { part })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the specification.
    #[test]
    fn what_is_signed_is_what_dsse_says() {
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
