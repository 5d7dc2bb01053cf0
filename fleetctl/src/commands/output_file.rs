//! `--output-file`: the form goes into a file that others read at any moment. They see the old one or the new one, whole.

use std::fs;
use std::path::{Path, PathBuf};

use fleet_certs::files::{Existing, Readers, write};

use crate::failure::Failure;

/// A place that can be replaced in one step.
#[derive(Debug)]
pub(super) struct OutputFile(PathBuf);

impl OutputFile {
    /// The file at `path`, or behind the link there. Nothing is touched yet.
    ///
    /// # Errors
    /// 64 for a directory, a device or a pipe: a file would take its place.
    pub(super) fn at(path: &Path) -> Result<Self, Failure> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(there) if !there.is_file() => Err(Failure::usage(format!("{} is no file", path.display()))
                .help("--output-file replaces a file; without it, the report is on standard output")),
            _ => Ok(Self(path)),
        }
    }

    /// Writes it: a temporary file beside it, mode 0644, fsync, rename.
    ///
    /// # Errors
    /// What the operating system said; the old file is then as it was.
    pub(super) fn replace(&self, text: &str) -> Result<(), Failure> {
        write(&self.0, text.as_bytes(), Readers::Everyone, Existing::Replace)
            .map_err(|error| Failure::failed(format!("cannot write {}", self.0.display())).caused_by(&error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_replaced_whole_and_readable_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("fleet.prom"), folder.path().join("link"));
        OutputFile::at(&file).unwrap().replace("one\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        // Whoever has the old one open reads on in the old one.
        let old = fs::File::open(&file).unwrap();
        OutputFile::at(&link).unwrap().replace("two\n").unwrap();
        assert_eq!(std::io::read_to_string(old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        assert_eq!(OutputFile::at(Path::new("/dev/null")).unwrap_err().exit, 64);
        assert_eq!(OutputFile::at(Path::new("/tmp")).unwrap_err().exit, 64);
        let error = OutputFile::at(Path::new("/nonexistent/x")).unwrap().replace("x").unwrap_err();
        assert!(error.exit == 1 && error.what.contains("/nonexistent/x"), "{error:?}");
    }
}
