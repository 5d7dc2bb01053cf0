//! The fleet's certificate authority: one key, kept by the controller, that says who is who.
//!
//! It issues whatever its owner asks for. Who may have which identity is decided before (tokens, approval), and each
//! issued serial is recorded after (allow-list, audit): a certificate signed with a stolen key is unknown there.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::ServerName;
use time::OffsetDateTime;

use crate::certificate::{first_certificate, not_after, public_key_hash, public_key_info};
use crate::csr::requested_key;
use crate::error::{Error, excerpt};
use crate::files::{self, Existing, FileError, Readers};
use crate::identity::{Identity, Role, check_name};
use crate::provider::{hex, random};

/// How long an authority lives. Longer than a fleet's machines; replacing it means joining every node again.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far certificates are dated back, so that a node whose clock is a little slow can use its new one at once.
const BACK_DATED: Duration = Duration::from_secs(5 * 60);

/// How many DNS names or addresses a controller's certificate may carry: enough for every interface of a host.
const MOST_DNS_NAMES: usize = 64;

/// What a key that signs documents is for: id-kp-documentSigning (RFC 9336).
const DOCUMENT_SIGNING: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 36];

/// A certificate that was just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate (PEM), without the authority's.
    pub pem: String,
    /// Its serial, as `Certificate::serial` and `Peer::serial` write it. Put it on the allow-list.
    pub serial: String,
    /// Until when it is valid: what was asked for, or the authority's own end if that is earlier.
    pub not_after: SystemTime,
}

/// The authority with its key in memory. `Debug` hides the key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_hash: String,
    not_after: SystemTime,
}

impl Authority {
    /// Makes a new authority in `dir` (`ca.key` with mode 0600, `ca.pem`) and loads it.
    ///
    /// Fails with [`Error::AuthorityExists`] if there is one. A creation that was cut off after writing the key is
    /// completed with that key.
    pub fn create(dir: &Path, fleet_name: &str) -> Result<Self, Error> {
        check_name(fleet_name)?;
        files::create_private_dir(dir)?;
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        if cert_path.exists() {
            return Err(Error::AuthorityExists { path: cert_path });
        }
        if !key_path.exists() {
            let key = KeyPair::generate().map_err(Error::Build)?;
            let text = key.serialize_pem();
            files::write(&key_path, text.as_bytes(), Readers::Owner, Existing::Keep)?;
        }
        let key = read_key(&key_path)?;
        // rustls judges certificates by the system clock, so the authority's own validity is taken from it as well.
        let now = SystemTime::now();
        let mut params = params_valid(now, now + AUTHORITY_LIFETIME)?;
        params.distinguished_name.push(DnType::CommonName, format!("fleet {fleet_name}"));
        // No intermediate authorities: whoever is issued a certificate cannot issue others.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(Error::Build)?.pem();
        match files::write(&cert_path, pem.as_bytes(), Readers::Everyone, Existing::Keep) {
            Err(Error::File(FileError::Exists { path })) => Err(Error::AuthorityExists { path }),
            other => other,
        }?;
        Self::load(dir)
    }

    /// Loads the authority of `dir`; refuses a key that others may read or that is not the certificate's.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let ca_pem = files::read(&dir.join("ca.pem"))?;
        let key = read_key(&dir.join("ca.key"))?;
        let der = first_certificate(&ca_pem)?;
        if key.subject_public_key_info() != public_key_info(&der)? {
            return Err(Error::KeyMismatch);
        }
        Ok(Authority {
            ca_hash: public_key_hash(&der)?,
            not_after: not_after(&der)?,
            issuer: Issuer::from_ca_cert_der(&der, key).map_err(Error::Build)?,
            ca_pem,
        })
    }

    /// Loads the authority of `dir`, or makes it on the very first start.
    pub fn load_or_create(dir: &Path, fleet_name: &str) -> Result<Self, Error> {
        if dir.join("ca.pem").exists() { Self::load(dir) } else { Self::create(dir, fleet_name) }
    }

    /// The authority's certificate (PEM). Public.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The SHA-256 of the authority's public key (SubjectPublicKeyInfo), base64url without padding, for join tokens.
    pub fn ca_hash(&self) -> &str {
        &self.ca_hash
    }

    /// Until when the authority itself is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Issues a certificate for the public key of `csr_pem`, and for nothing else the request may say.
    ///
    /// Controllers get a server's certificate for `dns_names` (host names and IP addresses); nodes and operators get a
    /// client's certificate and may have no DNS names. Valid from five minutes before `now` for `lifetime` after it.
    pub fn issue(
        &self,
        csr_pem: &str,
        identity: &Identity,
        dns_names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let key = requested_key(csr_pem)?;
        check_dns_names(identity.role(), dns_names)?;
        if lifetime.is_zero() {
            return Err(cannot_issue("its lifetime is zero"));
        }
        if now >= self.not_after {
            return Err(Error::AuthorityExpired);
        }
        let until = now.checked_add(lifetime).map_or(self.not_after, |end| end.min(self.not_after));
        let mut params = params_valid(now, until)?;
        // For people who look at the certificate; nothing reads it. The identity is the URI name alone.
        params.distinguished_name.push(DnType::CommonName, format!("fleet {}", identity.role()));
        params.subject_alt_names = CertificateParams::new(dns_names).map_err(Error::Build)?.subject_alt_names;
        let uri = identity.to_uri().try_into().map_err(Error::Build)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match identity.role() {
            Role::Controller => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Node | Role::Operator => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let serial = params.serial_number.as_ref().map(|serial| hex(serial.as_ref())).unwrap_or_default();
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Build)?;
        Ok(Issued {
            pem: certificate.pem(),
            serial,
            // Certificates count in whole seconds; say what the certificate says.
            not_after: not_after(certificate.der())?,
        })
    }

    /// Issues the certificate of a key that signs documents. It names nobody, so that no connection is ever opened with
    /// it, and lives as long as the authority: its key lies beside the authority's own, and a shorter life would protect
    /// from nothing.
    pub(crate) fn issue_for_statements(&self, key: &KeyPair, now: SystemTime) -> Result<String, Error> {
        if now >= self.not_after {
            return Err(Error::AuthorityExpired);
        }
        let mut params = params_valid(now, self.not_after)?;
        params.distinguished_name.push(DnType::CommonName, "fleet statements");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec())];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer).map_err(Error::Build)?.pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ca_hash", &self.ca_hash)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Parameters with the validity and a random serial, and no names.
fn params_valid(now: SystemTime, until: SystemTime) -> Result<CertificateParams, Error> {
    // RFC 5280: at most 20 octets, positive. 126 random bits; the fixed top bits keep it positive and of one length.
    let mut serial = random::<16>()?;
    serial[0] = (serial[0] & 0x3f) | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(now - BACK_DATED)?;
    params.not_after = date(until)?;
    Ok(params)
}

fn check_dns_names(role: Role, dns_names: &[String]) -> Result<(), Error> {
    if role != Role::Controller && !dns_names.is_empty() {
        return Err(cannot_issue("only a controller's certificate carries DNS names"));
    }
    if dns_names.len() > MOST_DNS_NAMES {
        return Err(cannot_issue("it would carry more than 64 DNS names"));
    }
    for name in dns_names {
        ServerName::try_from(name.as_str()).map_err(|_| Error::Issue {
            reason: format!("{:?} is neither a DNS name nor an IP address", excerpt(name)),
        })?;
    }
    Ok(())
}

/// A certificate can only say years 1950 to 9999; other times come from a broken clock.
fn date(at: SystemTime) -> Result<OffsetDateTime, Error> {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| cannot_issue("its dates are out of range; check this machine's clock"))
}

fn cannot_issue(reason: &str) -> Error {
    Error::Issue { reason: reason.to_owned() }
}

fn read_key(path: &Path) -> Result<KeyPair, Error> {
    KeyPair::from_pem(&files::read_private(path)?).map_err(Error::Key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{Certificate, KeyAndCsr, check_key_matches};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn created_loaded_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::create(dir.path(), "shop").unwrap();
        let key_mode = fs::metadata(dir.path().join("ca.key")).unwrap().permissions();
        assert_eq!(key_mode.mode() & 0o7777, 0o600);
        assert!(matches!(Authority::create(dir.path(), "shop"), Err(Error::AuthorityExists { .. })));
        let loaded = Authority::load_or_create(dir.path(), "shop").unwrap();
        assert_eq!(made.ca_hash(), loaded.ca_hash());
        assert_eq!(made.ca_hash().len(), 43);
        assert!(!format!("{loaded:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_creation_cut_off_after_the_key_is_completed_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::create(dir.path(), "shop").unwrap();
        fs::remove_file(dir.path().join("ca.pem")).unwrap();
        let second = Authority::load_or_create(dir.path(), "shop").unwrap();
        assert_eq!(first.ca_hash(), second.ca_hash());
    }

    #[test]
    fn refuses_an_open_key_and_a_foreign_key() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::create(one.path(), "a").unwrap();
        Authority::create(two.path(), "a").unwrap();
        let key = one.path().join("ca.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Authority::load(one.path()), Err(Error::File(FileError::ReadableByOthers { .. }))));
        fs::copy(two.path().join("ca.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Authority::load(one.path()), Err(Error::KeyMismatch)));
    }

    #[test]
    fn takes_only_the_public_key_from_a_request() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "shop").unwrap();
        // A request that asks for another's name and for an authority of its own.
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["controller.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let other = "spiffe://fleet/operator/root".try_into().unwrap();
        greedy.subject_alt_names.push(SanType::URI(other));
        let csr = greedy.serialize_request(&key).unwrap().pem().unwrap();
        let identity = Identity::new(Role::Node, "n1").unwrap();
        let now = SystemTime::now();
        let issued = authority.issue(&csr, &identity, &[], DAY, now).unwrap();
        check_key_matches(&issued.pem, &key.serialize_pem()).unwrap();
        let read = Certificate::from_pem(&issued.pem).unwrap();
        assert_eq!(read.identity, identity);
        assert_eq!(read.serial, issued.serial);
        assert_eq!(read.not_after, issued.not_after);
        assert!(read.not_before + BACK_DATED <= now);
        assert!(read.renew_at() > now && read.renew_at() < read.not_after);
        let der = first_certificate(&issued.pem).unwrap();
        assert!(!crate::certificate::is_self_signed_authority(&der));
        assert!(!String::from_utf8_lossy(&der).contains("controller.example"));
    }

    #[test]
    fn serials_differ_and_lifetimes_end_with_the_authority() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "shop").unwrap();
        let csr = KeyAndCsr::generate().unwrap().csr_pem;
        let identity = Identity::new(Role::Operator, "alice").unwrap();
        let now = SystemTime::now();
        let one = authority.issue(&csr, &identity, &[], DAY, now).unwrap();
        let two = authority.issue(&csr, &identity, &[], Duration::MAX, now).unwrap();
        assert_ne!(one.serial, two.serial);
        assert_eq!(two.not_after, authority.not_after());
        assert!(matches!(
            authority.issue(&csr, &identity, &[], DAY, now + AUTHORITY_LIFETIME + DAY),
            Err(Error::AuthorityExpired)
        ));
        for (identity, names, lifetime) in [
            (identity.clone(), vec!["localhost".to_owned()], DAY),
            (identity, vec![], Duration::ZERO),
            (Identity::new(Role::Controller, "c").unwrap(), vec!["not a name".to_owned()], DAY),
        ] {
            assert!(matches!(authority.issue(&csr, &identity, &names, lifetime, now), Err(Error::Issue { .. })));
        }
    }
}
