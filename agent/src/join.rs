//! Joining a fleet: the key is made here and stays here, the authority is checked by the hash in the token before a
//! byte of the secret leaves, and the token is used up. Minting and checking tokens is the controller's work.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use fleet::NodeName;
use fleet_certs::files::{self, Existing, IdentityFiles, IdentityPems, Readers};
use fleet_certs::{Certificate, DialError, Dialer, JoinToken, KeyAndCsr, MalformedToken, Role};
use fleet_proto::v1::JoinRequest;
use fleet_proto::v1::enrolment_client::EnrolmentClient;

use crate::durable::FileError;
use crate::layout::Layout;

/// The longest token text read: a token has about 100 characters.
const LONGEST_TOKEN: u64 = 4 << 10;

/// Where a token is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, removed after it was used.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// What to join with.
#[derive(Debug, Clone)]
pub struct Joining {
    /// `host:port` of the controller.
    pub controller: String,
    /// The name in its certificate.
    pub controller_name: String,
    /// The token.
    pub token: TokenSource,
    /// The name wanted.
    pub name: NodeName,
    /// What to say of the node.
    pub labels: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// This node is a member now.
    Now {
        /// Its name, as the certificate says it.
        name: String,
    },
    /// It was one already.
    Already {
        /// Its name, as the certificate says it.
        name: String,
    },
}

/// Why it did not come about.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token cannot be read.
    #[error("cannot read the token from {from}: {cause}")]
    TokenUnreadable {
        /// Where from.
        from: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// It is not a token.
    #[error(transparent)]
    Token(#[from] MalformedToken),
    /// The controller cannot be reached, or is not the one the token was made by.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The controller refused.
    #[error("the controller refused to let {name} join: {reason}")]
    Refused {
        /// The name.
        name: NodeName,
        /// The controller's words.
        reason: String,
    },
    /// The controller's answer is not what was asked for.
    #[error("the controller's answer is not usable: {0}; nothing was kept, use a new token")]
    Answer(String),
    /// The identity could not be made, read or kept.
    #[error(transparent)]
    Identity(#[from] fleet_certs::Error),
    /// The state directory could not be made.
    #[error(transparent)]
    State(#[from] FileError),
}

/// Joins, unless this node is a member already.
///
/// # Errors
/// Why not. The node's key is kept, so that repeating it after a lost answer asks for the same again.
pub async fn join(layout: &Layout, joining: &Joining) -> Result<Joined, JoinError> {
    layout.make()?;
    let identity = IdentityFiles::in_dir(layout.identity());
    if identity.is_complete() {
        let pems = identity.load()?;
        return Ok(Joined::Already { name: node_name(&pems.cert_pem)? });
    }
    let token: JoinToken = read_token(&joining.token)?.parse()?;
    let key = key(&identity)?;
    let dialer = Dialer::with_ca_hash(token.ca_hash())?;
    // Only a controller whose authority has this hash gets past here.
    let channel = dialer.channel(&joining.controller, &joining.controller_name).await?;
    let request = JoinRequest {
        token_id: token.id().to_owned(),
        token_secret: token.secret().to_owned(),
        csr_pem: key.csr_pem,
        name: joining.name.to_string(),
        labels: joining.labels.clone().into_iter().collect(),
    };
    let reply = EnrolmentClient::new(channel).join(request).await;
    let reply = reply
        .map_err(|status| JoinError::Refused { name: joining.name.clone(), reason: status.message().to_owned() })?
        .into_inner();
    // The authority is the one that the connection proved, whatever the answer says of it.
    let ca_pem =
        dialer.ca_pem().ok_or_else(|| JoinError::Answer("it did not show its authority".to_owned()))?.to_owned();
    let name = node_name(&reply.certificate_pem)?;
    if name != reply.name {
        return Err(JoinError::Answer(format!("it says {} and certifies {name}", reply.name.escape_default())));
    }
    identity.save(&IdentityPems { ca_pem, cert_pem: reply.certificate_pem, key_pem: key.key_pem })?;
    if let TokenSource::File(path) = &joining.token
        && let Err(error) = crate::durable::remove(path)
    {
        tracing::warn!("the token is used up, but {error}");
    }
    Ok(Joined::Now { name })
}

/// The identity of this node.
///
/// # Errors
/// That it has none, or that it cannot be used.
pub fn load_identity(layout: &Layout) -> Result<(NodeName, IdentityPems), JoinError> {
    let pems = IdentityFiles::in_dir(layout.identity()).load()?;
    let name = node_name(&pems.cert_pem)?;
    let name = name.parse().map_err(|error: fleet::id::NameError| JoinError::Answer(error.to_string()))?;
    Ok((name, pems))
}

/// Whether this node has an identity.
pub fn is_joined(layout: &Layout) -> bool {
    IdentityFiles::in_dir(layout.identity()).is_complete()
}

fn node_name(certificate: &str) -> Result<String, JoinError> {
    let certificate = Certificate::from_pem(certificate)?;
    if certificate.identity.role() != Role::Node {
        return Err(JoinError::Answer(format!(
            "its certificate is for {}, not for a node; a token for nodes is needed",
            certificate.identity
        )));
    }
    Ok(certificate.identity.name().to_owned())
}

/// The key of an earlier, interrupted attempt, or a new one; on the disk before it is asked for.
fn key(identity: &IdentityFiles) -> Result<KeyAndCsr, JoinError> {
    let path = identity.key();
    if path.exists() {
        let pem = files::read_private(&path).map_err(fleet_certs::Error::from)?;
        return Ok(KeyAndCsr::for_key(&pem)?);
    }
    let key = KeyAndCsr::generate()?;
    files::write(&path, key.key_pem.as_bytes(), Readers::Owner, Existing::Keep)?;
    Ok(key)
}

fn read_token(source: &TokenSource) -> Result<String, JoinError> {
    let unreadable = |from: &Path| {
        let from = from.display().to_string();
        move |cause| JoinError::TokenUnreadable { from, cause }
    };
    let mut text = String::new();
    match source {
        TokenSource::Stdin => {
            std::io::stdin()
                .take(LONGEST_TOKEN)
                .read_to_string(&mut text)
                .map_err(unreadable(Path::new("standard input")))?;
        }
        TokenSource::File(path) => {
            std::fs::File::open(path)
                .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text))
                .map_err(unreadable(path))?;
        }
    }
    Ok(text)
}
