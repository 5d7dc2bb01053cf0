//! Randomness for nonces and ids. Keys, tokens and serials draw their own, in `fleet_certs`.

/// Random bits from the operating system.
///
/// # Errors
/// When the operating system gives none: then nothing may be asked or started, since it could be guessed.
pub fn bits() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
