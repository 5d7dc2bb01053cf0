//! TLS to servers that are none of the fleet's (a dead man's switch, say): the authorities are those of this machine,
//! nobody shows a certificate of the fleet, and no name of the fleet is trusted.
//!
//! TLS 1.3 only, as everywhere here. What is spoken inside is the caller's business.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::provider::provider;

/// Where distributions keep the authorities they trust: Debian, Fedora, openSUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// There are no authorities to believe.
    #[error("no certificate authorities in {tried}: install ca-certificates, or name a PEM file in SSL_CERT_FILE")]
    NoAuthorities {
        /// Where was looked.
        tried: String,
    },
    /// The name is no name a certificate could have.
    #[error("{name:?} is no host name")]
    Name {
        /// The name.
        name: String,
    },
    /// TLS itself failed: not trusted, another name, an old version.
    #[error("TLS with {name} failed: {source}")]
    Handshake {
        /// With whom.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// TLS over an open connection to `name`, whose certificate must come from an authority that this machine trusts, or,
/// if `SSL_CERT_FILE` is set, from one in that file.
///
/// # Errors
/// There are no authorities, the name is none, or the server cannot prove it.
pub async fn over(stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, WebError> {
    let set = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let bundles = set.map_or_else(|| BUNDLES.map(PathBuf::from).to_vec(), |path| vec![path]);
    let config = config(&bundles)?;
    let server = ServerName::try_from(name.to_owned()).map_err(|_| WebError::Name { name: name.to_owned() })?;
    let connected = TlsConnector::from(config).connect(server, stream).await;
    connected.map_err(|source| WebError::Handshake { name: name.to_owned(), source })
}

fn config(bundles: &[PathBuf]) -> Result<Arc<ClientConfig>, WebError> {
    let nobody = || WebError::NoAuthorities {
        tried: bundles.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let roots = bundles.iter().map(|path| authorities(path)).find(|roots| !roots.is_empty()).ok_or_else(nobody)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| nobody())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The authorities in a PEM file; what cannot be read there is passed over, as OpenSSL does.
fn authorities(path: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).into_iter().flatten().flatten();
    let (_added, _passed_over) = roots.add_parsable_certificates(found);
    roots
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Issuer {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A server for `localhost` that says `hello` to whoever comes through.
    async fn server(issuer: &Issuer) -> u16 {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut tls) = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await {
                    let _gone = tls.write_all(b"hello").await;
                    let _gone = tls.shutdown().await;
                }
            }
        });
        port
    }

    async fn ask(port: u16, name: &str, config: Arc<ClientConfig>) -> io::Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = TlsConnector::from(config).connect(name, stream).await?;
        let mut text = String::new();
        tls.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn only_who_is_certified_by_a_trusted_authority_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let (trusted, other) = (folder.path().join("trusted.pem"), folder.path().join("other.pem"));
        let issuer = authority();
        std::fs::write(&trusted, issuer.pem()).unwrap();
        std::fs::write(&other, authority().pem()).unwrap();
        let port = server(&issuer).await;
        // The first file that holds any decides.
        let files = [folder.path().join("none.pem"), trusted.clone(), other.clone()];
        assert_eq!(ask(port, "localhost", config(&files).unwrap()).await.unwrap(), "hello");
        ask(port, "example.org", config(&files).unwrap()).await.unwrap_err();
        ask(port, "localhost", config(&[other]).unwrap()).await.unwrap_err();
    }

    #[test]
    fn without_authorities_nobody_is_believed() {
        let error = config(&[PathBuf::from("/nonexistent/a.pem")]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/a.pem") && error.contains("SSL_CERT_FILE"), "{error}");
    }
}
