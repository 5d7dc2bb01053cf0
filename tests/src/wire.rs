//! Calls over real connections under identities of our choice: what `fleetctl` and the agent would never send.

use std::path::Path;
use std::time::SystemTime;

use fleet_certs::files::{IdentityFiles, IdentityPems};
use fleet_certs::{Authority, Dialer, Identity, KeyAndCsr, Role};
use fleet_proto::v1::link_client::LinkClient;
use fleet_proto::v1::operator_client::OperatorClient;
use fleet_proto::v1::upload_release_request::Part;
use fleet_proto::v1::{FromAgent, Hello, StatusRequest, UploadHeader, UploadReleaseRequest, from_agent};
use tonic::transport::Channel;

use crate::wait::PATIENCE;

/// The name in the certificate of a development fleet's controller.
const SERVER_NAME: &str = "localhost";
/// How long a certificate of a foreign authority would be valid.
const VALIDITY: std::time::Duration = std::time::Duration::from_secs(3600);

/// Reads an identity.
pub fn identity(dir: &Path) -> IdentityPems {
    IdentityFiles::in_dir(dir).load().unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

/// An operator's identity under an authority of our own that claims to be this fleet's.
pub fn foreign_operator(dir: &Path) -> IdentityPems {
    let authority = Authority::create(dir, "fleet").unwrap();
    let made = KeyAndCsr::generate().unwrap();
    let who = Identity::new(Role::Operator, "admin").unwrap();
    let issued = authority.issue(&made.csr_pem, &who, &[], VALIDITY, SystemTime::now()).unwrap();
    IdentityPems { ca_pem: authority.ca_pem().to_owned(), cert_pem: issued.pem, key_pem: made.key_pem }
}

/// Asks for the fleet's status, as an operator does.
///
/// # Errors
/// Why it was refused, in words.
pub fn ask_status(port: u16, ca_pem: &str, own: Option<&IdentityPems>) -> Result<(), String> {
    run(async {
        let mut client = OperatorClient::new(connect(port, ca_pem, own).await?);
        client.status(StatusRequest {}).await.map(|_| ()).map_err(told)
    })
}

/// Opens a session, as an agent does.
///
/// # Errors
/// Why it was refused, in words.
pub fn open_session(port: u16, own: &IdentityPems) -> Result<(), String> {
    run(async {
        let mut client = LinkClient::new(connect(port, &own.ca_pem, Some(own)).await?);
        let hello = Hello {
            agent_version: "0".into(),
            boot_id: "0".into(),
            protocol: fleet_proto::PROTOCOL,
            ..Hello::default()
        };
        let first = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
        let mut answers = client.session(tokio_stream::iter([first])).await.map_err(told)?.into_inner();
        answers.message().await.map(|_| ()).map_err(told)
    })
}

/// Uploads bytes as a release, under a digest that may be another's.
///
/// # Errors
/// Why it was refused, in words.
pub fn upload(port: u16, own: &IdentityPems, digest: &str, bytes: &[u8]) -> Result<String, String> {
    run(async {
        let mut client = OperatorClient::new(connect(port, &own.ca_pem, Some(own)).await?);
        let header = Part::Header(UploadHeader { digest: digest.to_owned(), size: bytes.len() as u64 });
        let data = bytes.chunks(fleet_proto::LARGEST_CHUNK).map(|chunk| Part::Data(chunk.to_vec()));
        let messages: Vec<_> =
            std::iter::once(header).chain(data).map(|part| UploadReleaseRequest { part: Some(part) }).collect();
        client.upload_release(tokio_stream::iter(messages)).await.map(|release| release.into_inner().id).map_err(told)
    })
}

async fn connect(port: u16, ca_pem: &str, own: Option<&IdentityPems>) -> Result<Channel, String> {
    let pair = own.map(|pems| (pems.cert_pem.as_str(), pems.key_pem.as_str()));
    let dialer = Dialer::new(ca_pem, pair).map_err(|error| error.to_string())?;
    dialer.channel(&format!("127.0.0.1:{port}"), SERVER_NAME).await.map_err(|error| error.to_string())
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn told(status: tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.map_err(|_| "no answer".to_owned())? })
}
