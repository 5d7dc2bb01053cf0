//! The one cryptographic provider of the fleet, and the few primitives taken straight from the operating system.
//!
//! Every TLS configuration of this crate names the provider explicitly, so that a second provider somewhere in the
//! dependency graph can never make rustls guess.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

use crate::error::Error;

/// Makes aws-lc-rs the default provider of this process. May be called any number of times, first in every `main`.
///
/// This crate does not need it; other users of rustls in the same process might.
pub fn install_crypto_provider() {
    // The only error is that somebody has installed one already, which is what we want.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider, shared: building it anew for every connection would copy its tables each time.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// `N` bytes of the operating system's randomness.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
