//! How memory is given back. An agent lives for years beside services that want the machine for themselves, and takes much
//! for moments only: while it unpacks a release, reads a manifest, or reads many files at once. glibc keeps such memory by
//! default, in as many arenas as threads ever needed one: with 20,000 files 45 MiB, and 20 more after a few deployments,
//! where 7 MiB are in use. And every piece of code that was executed once stays mapped: all of it after a deployment.

use std::fs;

/// Gives back what is free between what is in use, and lets go of the program's own code and constants, which were needed
/// until now: those stay in the kernel's page cache, which is free to drop them, and are mapped again where they are needed
/// again. Some milliseconds of work: for when a release has come and gone.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes no pointer, and glibc locks what it touches.
        #[allow(unsafe_code)]
        let _ = unsafe { nix::libc::malloc_trim(0) };
    }
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for range in maps.lines().filter_map(untouched) {
        // SAFETY: of a private mapping of a file that cannot be written to, and never was, the kernel forgets nothing but
        // what it can read from the file again, whoever executes it meanwhile (madvise(2), MADV_DONTNEED).
        #[allow(unsafe_code)]
        let answer = unsafe {
            nix::libc::madvise(range.start as *mut nix::libc::c_void, range.end - range.start, nix::libc::MADV_DONTNEED)
        };
        if answer != 0 {
            tracing::debug!("code that is not needed stays in memory: {}", std::io::Error::last_os_error());
        }
    }
}

/// The addresses of code and constants from a file that nobody has written to, by a line of /proc/self/maps. A linker does
/// write to some of what is `r--p` before it locks it, but never to what a file begins with: there lies its header.
fn untouched(line: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let (permitted, offset) = (fields.next()?, fields.next()?);
    let of_a_file = fields.nth(1)? != "0";
    let number = |text| usize::from_str_radix(text, 16).ok();
    let untouched = permitted == "r-xp" || (permitted == "r--p" && number(offset)? == 0);
    (of_a_file && untouched).then_some(number(begin)?..number(end)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_file_still_has_is_let_go() {
        let let_go = |line| untouched(line).is_some();
        assert!(let_go("55d0c0a00000-55d0c1200000 r-xp 00270000 fe:00 4711    /usr/bin/fleet-agent"));
        assert!(let_go("55d0c0800000-55d0c0a00000 r--p 00000000 fe:00 4711    /usr/bin/fleet-agent"));
        for other in [
            "55d0c1200000-55d0c1300000 r--p 00a00000 fe:00 4711    /usr/bin/fleet-agent",
            "55d0c1200000-55d0c1300000 rwxp 00a00000 fe:00 4711    /usr/bin/fleet-agent",
            "7ffde9b00000-7ffde9b02000 r-xp 00000000 00:00 0       [vdso]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0",
            "",
            "r-xp",
        ] {
            assert!(!let_go(other), "{other}");
        }
    }

    #[test]
    fn what_was_let_go_is_executed_again() {
        give_back();
        let text = format!("{:?}", (0..100).map(|number| number * number).collect::<Vec<u64>>());
        give_back();
        assert!(text.ends_with("9801]"));
    }
}
