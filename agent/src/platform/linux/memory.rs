//! How the allocator gives memory back. An agent lives for years beside services that want the machine for themselves, and
//! takes much for moments only: while it unpacks a release, reads a manifest, or reads many files at once. glibc keeps such
//! memory by default, in as many arenas as threads ever needed one: with 20,000 files 45 MiB, and 20 more after a few
//! deployments, where 7 MiB are in use.

/// Gives back what is free between what is in use. A millisecond of work: for when a release has come and gone.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes no pointer, and glibc locks what it touches.
        #[allow(unsafe_code)]
        let _ = unsafe { nix::libc::malloc_trim(0) };
    }
}

/// Has the C library keep one arena, and give back at once whatever is large. To be called before the first thread is
/// started; with another C library than glibc it does nothing.
pub fn be_frugal() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        const LARGE: i32 = 64 << 10;
        for (parameter, value) in [(M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE)] {
            // SAFETY: a parameter that is known and a number; no other thread allocates yet.
            #[allow(unsafe_code)]
            let taken = unsafe { mallopt(parameter, value) };
            if taken == 0 {
                tracing::debug!("the C library does not take parameter {parameter}: the agent takes more memory");
            }
        }
    }
}
