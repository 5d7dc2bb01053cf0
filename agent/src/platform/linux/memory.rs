//! How memory is given back. An agent lives for years beside services that want the machine for themselves, and takes much
//! for moments only: while it unpacks a release, reads a manifest, or reads many files at once. glibc keeps such memory by
//! default, in as many arenas as threads ever needed one: with 20,000 files 45 MiB, and 20 more after a few deployments,
//! where 7 MiB are in use. And every piece of code that was executed once stays mapped: all of it after a deployment.

use std::ops::Range;

use nix::libc;

/// Gives back what is free between what is in use, and lets go of the program's own code and constants, which were needed
/// until now: those stay in the kernel's page cache, which is free to drop them, and are mapped again where they are needed
/// again. Some milliseconds of work: for when a release has come and gone.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes no pointer, and glibc locks what it touches.
        #[allow(unsafe_code)]
        let _ = unsafe { libc::malloc_trim(0) };
    }
    for range in unwritten() {
        // SAFETY: nobody writes to these pages and nobody unmaps them, so the kernel forgets nothing but what it reads from
        // the file again for whoever needs it (madvise(2), MADV_DONTNEED).
        #[allow(unsafe_code)]
        let answer =
            unsafe { libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED) };
        if answer != 0 {
            tracing::debug!("what is not needed stays in memory: {}", std::io::Error::last_os_error());
        }
    }
}

/// The whole pages of the program's own segments that nothing is ever written to. Not those of libraries, which come and go.
/// What the loader writes to before it locks it (`PT_GNU_RELRO`) is part of a writable segment.
fn unwritten() -> Vec<Range<usize>> {
    const PAGE: usize = 4_096;
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: the loader calls it for the program first, with headers that stay where they are, and is told to stop then;
    // the last argument is what is handed on, and lives until the call returns.
    #[allow(unsafe_code)]
    unsafe extern "C" fn take(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<Range<usize>>>()) };
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let unwritten =
            headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
        found.extend(unwritten.map(|header| {
            let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
            begin.next_multiple_of(PAGE)..(begin + header.p_memsz as usize) / PAGE * PAGE
        }));
        1
    }
    #[allow(unsafe_code)]
    let _ = unsafe { libc::dl_iterate_phdr(Some(take), (&raw mut found).cast()) };
    found.retain(|range| range.start < range.end);
    found
}

/// Has the C library keep one arena, and give back at once whatever is large. To be called before the first thread is
/// started; with another C library than glibc it does nothing.
pub fn be_frugal() {
    #[cfg(target_env = "gnu")]
    {
        use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_code_is_let_go_and_nothing_that_is_written_to() {
        static WRITTEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let found = unwritten();
        let holds = |address: usize| found.iter().any(|range| range.contains(&address));
        assert!(holds(give_back as fn() as usize), "{found:?}");
        assert!(!holds(&raw const WRITTEN as usize) && !holds(&raw const found as usize), "{found:?}");
    }

    #[test]
    fn what_was_let_go_is_executed_again() {
        give_back();
        let text = format!("{:?}", (0..100).map(|number| number * number).collect::<Vec<u64>>());
        give_back();
        assert!(text.ends_with("9801]"));
    }
}
