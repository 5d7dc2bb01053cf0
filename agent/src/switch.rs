//! Which release is live: the link `current`. It is replaced by a rename, so that at every moment, and after a power
//! loss, it names a complete release or does not exist (I1). What makes that true is the order around it, in `execute`:
//! staged and synced, journal "intends", this, journal "did".

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use fleet::ReleaseId;

use crate::durable::{self, FileError};
use crate::platform::ServicePlace;

/// Where `current` points; None if there is no link, or one to a release that this agent did not make: it may be replaced.
///
/// # Errors
/// Something else than a link to a release: a directory that a person made, a link to elsewhere.
pub fn current(place: &ServicePlace) -> Result<Option<ReleaseId>, FileError> {
    let path = place.current();
    let target = match std::fs::read_link(&path) {
        Ok(target) => target,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FileError::at("read the link", &path)(cause)),
    };
    let release = target.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<ReleaseId>().ok());
    match release {
        // Byte for byte as this file makes them, as the observer has it: what it calls no release must not be called
        // live here, or no order would ever put it right.
        Some(release) if target.as_os_str() == link_target(&release).as_os_str() => Ok(Some(release)),
        Some(release) if target == link_target(&release) || target == place.release(&release) => Ok(None),
        Some(_) | None => {
            let reason = format!(
                "it points to '{}', which is not a release of this service; remove it to go on",
                target.display()
            );
            Err(FileError::at("use the link", &path)(io::Error::other(reason)))
        }
    }
}

/// Points `current` at `to`, or removes it; afterwards that survives a power loss.
///
/// # Errors
/// The system's answer; `current` then is as it was, or already as wanted.
pub fn switch(place: &ServicePlace, to: Option<&ReleaseId>) -> Result<(), FileError> {
    let current = place.current();
    let Some(to) = to else {
        return durable::remove(&current);
    };
    let temporary = place.root.join(".current.next");
    let replace = || -> io::Result<()> {
        match std::fs::remove_file(&temporary) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        symlink(link_target(to), &temporary)?;
        std::fs::rename(&temporary, &current)?;
        durable::sync_directory(&place.root)
    };
    replace().map_err(FileError::at("switch", &current))
}

/// Relative, so that the tree may be looked at through another mount.
fn link_target(release: &ReleaseId) -> std::path::PathBuf {
    Path::new("releases").join(release.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn current_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = ServicePlace { service: "web".parse().unwrap(), root: dir.path().to_owned() };
        let (one, two): (ReleaseId, ReleaseId) = ("r-aaaaaaaaaaaa".parse().unwrap(), "r-bbbbbbbbbbbb".parse().unwrap());
        assert_eq!(current(&place).unwrap(), None);
        for release in [&one, &two, &two] {
            switch(&place, Some(release)).unwrap();
            assert_eq!(current(&place).unwrap().as_ref(), Some(release));
        }
        switch(&place, None).unwrap();
        switch(&place, None).unwrap();
        assert_eq!(current(&place).unwrap(), None);
    }

    #[test]
    fn what_a_person_put_there_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = ServicePlace { service: "web".parse().unwrap(), root: dir.path().to_owned() };
        for target in ["/etc", "elsewhere/r-aaaaaaaaaaaa", "releases/../x"] {
            symlink(target, place.current()).unwrap();
            assert!(current(&place).unwrap_err().to_string().contains("current"));
            std::fs::remove_file(place.current()).unwrap();
        }
        let absolute = place.release(&"r-aaaaaaaaaaaa".parse().unwrap());
        for target in [absolute.to_str().unwrap(), "releases/r-aaaaaaaaaaaa/"] {
            symlink(target, place.current()).unwrap();
            assert_eq!((current(&place).unwrap(), place.live()), (None, None), "{target}");
            std::fs::remove_file(place.current()).unwrap();
        }
        std::fs::create_dir(place.current()).unwrap();
        assert!(current(&place).is_err());
        assert!(switch(&place, Some(&"r-aaaaaaaaaaaa".parse().unwrap())).is_err());
        assert!(place.current().is_dir());
    }
}
