//! Whether the kernel itself keeps a file's bytes as they are (fs-verity). Most file systems and kernels do not offer it;
//! then files are read again in good time like all others.

use std::fs::File;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};

/// Whether nobody can change the bytes of this file any more, root included: every read is checked against a tree of
/// digests that was made when it was sealed, and what does not fit is an error. A seal cannot be taken off.
pub(super) fn is_sealed(file: &File) -> bool {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE).is_ok_and(|found| {
        let (has, known) = (found.stx_attributes, found.stx_attributes_mask);
        known.contains(StatxAttributes::VERITY) && has.contains(StatxAttributes::VERITY)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plain_file_and_what_is_no_file_are_not_sealed() {
        assert!(!is_sealed(&tempfile::tempfile().unwrap()));
        assert!(!is_sealed(&File::open("/dev/null").unwrap()));
        assert!(!is_sealed(&File::open("/proc/self/stat").unwrap()));
    }
}
