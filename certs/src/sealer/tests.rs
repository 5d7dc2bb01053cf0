//! What was sealed opens, and nothing else does: no bit of it may change, no other fleet, key or place be believed.
#![allow(clippy::unwrap_used)]
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::envelope::{Opened, SealError, open};
use crate::{Identity, KeyAndCsr, Role};
use proptest::prelude::*;

const TYPE: &str = "application/vnd.in-toto+json";
const PAYLOAD: &[u8] = br#"{"node":"n1","runs":"r-9f2c1e7ab310"}"#;

struct Fleet {
    dir: tempfile::TempDir,
    authority: Authority,
    sealer: Sealer,
}

fn fleet() -> Fleet {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&dir.path().join("pki"), "shop").unwrap();
    let files = IdentityFiles::in_dir(dir.path().join("statement-key"));
    let sealer = Sealer::load_or_create(&authority, &files, SystemTime::now()).unwrap();
    Fleet { dir, authority, sealer }
}

fn open_at(text: &[u8], ca_pem: &str, at: SystemTime) -> Result<Opened<()>, SealError> {
    open(text, TYPE, ca_pem, |_| Ok(((), at)))
}

impl Fleet {
    fn seal(&self, payload: &[u8]) -> String {
        self.sealer.seal(TYPE, payload).unwrap()
    }

    fn open(&self, text: &[u8]) -> Result<Opened<()>, SealError> {
        open_at(text, self.authority.ca_pem(), SystemTime::now())
    }
}

#[test]
fn what_was_sealed_opens_and_the_key_is_kept() {
    let fleet = fleet();
    let sealed = fleet.seal(PAYLOAD);
    let opened = fleet.open(sealed.as_bytes()).unwrap();
    assert_eq!(opened.payload, PAYLOAD);
    assert!(sealed.contains(&opened.keyid) && opened.keyid.starts_with("sha256:"));
    assert!(!format!("{:?}", fleet.sealer).contains("PRIVATE"));

    let files = IdentityFiles::in_dir(fleet.dir.path().join("statement-key"));
    let again = Sealer::load_or_create(&fleet.authority, &files, SystemTime::now()).unwrap();
    assert_eq!(again.seal(TYPE, PAYLOAD).unwrap(), sealed, "the same key signs the same way after a restart");
    let other = self::fleet();
    assert!(matches!(
        Sealer::load_or_create(&other.authority, &files, SystemTime::now()),
        Err(Error::OtherAuthority { .. })
    ));
}

#[test]
fn no_bit_may_change() {
    let fleet = fleet();
    let sealed = fleet.seal(PAYLOAD).into_bytes();
    for place in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[place] ^= 1 << bit;
            assert!(fleet.open(&changed).is_err(), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn what_is_cut_off_or_put_to_it_is_refused() {
    let fleet = fleet();
    let sealed = fleet.seal(PAYLOAD);
    for length in 0..sealed.len() {
        assert!(fleet.open(&sealed.as_bytes()[..length]).is_err(), "cut to {length}");
    }
    let refused = |text: &str| fleet.open(text.as_bytes()).unwrap_err();
    for more in [format!("{sealed}\n"), format!(" {sealed}"), sealed.replacen(':', ": ", 1), sealed.trim_end().into()] {
        assert!(matches!(refused(&more), SealError::Spelling), "{more}");
    }
    assert!(matches!(refused(&format!("{sealed}{{}}")), SealError::NotAnEnvelope { .. }));
    assert!(matches!(refused(&"x".repeat(crate::LARGEST_ENVELOPE + 1)), SealError::TooLarge { .. }));
    let twice = sealed.replacen(r#""payloadType""#, r#""payload":"","payloadType""#, 1);
    assert!(refused(&twice).to_string().contains("duplicate field"), "{}", refused(&twice));
    let unknown = sealed.replacen(r#""payloadType""#, r#""x":1,"payloadType""#, 1);
    assert!(refused(&unknown).to_string().contains("unknown field"), "{}", refused(&unknown));
    let (head, signature) = sealed.trim_end().split_once(r#""signatures":["#).unwrap();
    let signature = signature.trim_end_matches("]}");
    let doubled = format!("{head}\"signatures\":[{signature},{signature}]}}\n");
    assert!(matches!(refused(&doubled), SealError::SignatureCount { found: 2 }));
    let none = format!("{head}\"signatures\":[]}}\n");
    assert!(matches!(refused(&none), SealError::SignatureCount { found: 0 }));
    let other = sealed.replacen(TYPE, "text/plain", 1);
    assert!(matches!(refused(&other), SealError::PayloadType { .. }));
}

fn part<'a>(sealed: &'a str, name: &str) -> &'a str {
    let (_, rest) = sealed.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

#[test]
fn another_fleet_key_or_place_is_not_believed() {
    let (ours, theirs) = (fleet(), fleet());
    let (one, two, foreign) = (ours.seal(PAYLOAD), ours.seal(b"{}"), theirs.seal(PAYLOAD));
    let refused = |text: &str| ours.open(text.as_bytes()).unwrap_err();
    assert!(matches!(refused(&foreign), SealError::Untrusted { .. }), "{}", refused(&foreign));
    assert!(refused(&foreign).to_string().contains("another fleet"), "{}", refused(&foreign));
    let swap = |name: &str, with: &str| one.replacen(part(&one, name), part(with, name), 1);
    assert!(matches!(refused(&swap("sig", &two)), SealError::Signature), "the signature of another statement");
    assert!(matches!(refused(&swap("payload", &two)), SealError::Signature), "the content of another statement");
    assert!(matches!(refused(&swap("keyid", &foreign)), SealError::KeyId));
    assert!(matches!(refused(&swap("cert", &foreign)), SealError::KeyId), "a foreign certificate alone");
    let mixed = swap("cert", &foreign).replacen(part(&one, "keyid"), part(&foreign, "keyid"), 1);
    assert!(matches!(refused(&mixed), SealError::Signature), "a foreign certificate with its key's name");

    // A key of this fleet that is certified for connections, and not for statements.
    let operator = KeyAndCsr::generate().unwrap();
    let identity = Identity::new(Role::Operator, "eve").unwrap();
    let day = Duration::from_secs(86_400);
    let issued = ours.authority.issue(&operator.csr_pem, &identity, &[], day, SystemTime::now()).unwrap();
    let key = KeyPair::from_pem(&operator.key_pem).unwrap();
    let cert_pem = to_pem(&first_certificate(&issued.pem).unwrap());
    let eve = Sealer { keyid: key_id(&key.subject_public_key_info()), key, cert_pem };
    assert!(matches!(refused(&eve.seal(TYPE, PAYLOAD).unwrap()), SealError::Signature), "another kind of key");
    // And one that would sign the right way, with a certificate for something else.
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(ours.dir.path().join("pki/ca.key")).unwrap()).unwrap();
    let ca_der = first_certificate(ours.authority.ca_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca_der, ca_key).unwrap();
    let cert_pem = to_pem(params.signed_by(&key, &issuer).unwrap().der());
    let eve = Sealer { keyid: key_id(&key.subject_public_key_info()), key, cert_pem };
    let text = refused(&eve.seal(TYPE, PAYLOAD).unwrap()).to_string();
    assert!(text.contains("not one for statements"), "{text}");
}

#[test]
fn a_signing_certificate_opens_no_connection_and_is_judged_at_the_time_stated() {
    let fleet = fleet();
    let sealed = fleet.seal(PAYLOAD);
    let der = first_certificate(&fleet.sealer.cert_pem).unwrap();
    assert!(matches!(Identity::from_certificate(&der), Err(Error::IdentityCount { found: 0 })));
    let year = Duration::from_secs(365 * 24 * 3_600);
    let ca = fleet.authority.ca_pem();
    open_at(sealed.as_bytes(), ca, SystemTime::now() + 9 * year).unwrap();
    for at in [SystemTime::now() + 11 * year, SystemTime::now() - year] {
        let refused = open_at(sealed.as_bytes(), ca, at).unwrap_err();
        assert!(matches!(refused, SealError::Untrusted { .. }), "{refused}");
        assert!(refused.to_string().contains("not valid at the time"), "{refused}");
    }
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert!(matches!(open_at(sealed.as_bytes(), ca, early), Err(SealError::Time)));
    assert!(matches!(open_at(sealed.as_bytes(), "", SystemTime::now()), Err(SealError::Authority(_))));
}

/// Somebody else's program finds the same signature right, from the specification alone.
#[test]
fn openssl_agrees() {
    if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: openssl is not installed, so it has judged nothing");
        return;
    }
    use base64::Engine as _;
    let fleet = fleet();
    let sealed = fleet.seal(PAYLOAD);
    let file = |name: &str, content: &[u8]| {
        let path = fleet.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let signature = base64::engine::general_purpose::STANDARD.decode(part(&sealed, "sig")).unwrap();
    let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} ", PAYLOAD.len()).into_bytes();
    let (message, signature) = (file("message", &[&signed, PAYLOAD].concat()), file("signature", &signature));
    let cert = file("cert.pem", part(&sealed, "cert").replace("\\n", "\n").as_bytes());
    let ca = file("ca.pem", fleet.authority.ca_pem().as_bytes());
    let key = fleet.dir.path().join("key.pem").to_string_lossy().into_owned();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (made, said) = openssl(&["x509", "-in", &cert, "-pubkey", "-noout", "-out", &key]);
    assert!(made, "{said}");
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", &message, "-sigfile", &signature];
    let (is_right, said) = openssl(&verify);
    assert!(is_right, "{said}");
    let (is_certified, said) = openssl(&["verify", "-x509_strict", "-CAfile", &ca, &cert]);
    assert!(is_certified, "{said}");
    std::fs::write(&message, [&signed, &PAYLOAD[1..], b" "].concat()).unwrap();
    assert!(!openssl(&verify).0, "and another content wrong");
}

proptest! {
    #[test]
    fn no_byte_is_replaced_unnoticed(payload in proptest::collection::vec(any::<u8>(), 0..200), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        thread_local!(static FLEET: Fleet = fleet());
        FLEET.with(|fleet| {
            let sealed = fleet.seal(&payload).into_bytes();
            let mut changed = sealed.clone();
            for (place, byte) in changes {
                let place = place % changed.len();
                changed[place] = byte;
            }
            match fleet.open(&changed) {
                Ok(opened) => {
                    prop_assert_eq!(&changed, &sealed);
                    prop_assert_eq!(opened.payload, payload);
                }
                Err(_) => prop_assert_ne!(&changed, &sealed),
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(open_at(&bytes, "", SystemTime::now()).is_err());
    }
}
