//! Showing a person what files of a release hold: text, with its secrets masked before it leaves this node (I14). Nothing
//! of it is logged or kept. Which files are worth showing is the controller's to know.

use std::path::Path;

use fleet::ReleaseId;
use fleet::mask::{is_plain, mask};
use fleet_proto::v1::RevealedFile;
use fleet_proto::v1::revealed_file::Content;

use crate::platform::linux::restore;

/// The largest file that is shown, in bytes: nobody reads a longer one in a terminal.
const LARGEST: u64 = 128 << 10;
/// Files that are shown at once: together they stay below what one message may have.
const MOST_FILES: usize = 20;

/// What lies at these paths below a release of the service at `root`. Blocking.
pub fn reveal(root: &Path, release: &ReleaseId, paths: Vec<String>) -> Vec<RevealedFile> {
    let shown = |path: String| {
        let content = match restore::read(root, release, &path, LARGEST) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) if is_plain(&text) => Content::Text(mask(&text)),
                Ok(_) | Err(_) => Content::NotShown("binary".to_owned()),
            },
            Err(why) => Content::NotShown(why),
        };
        RevealedFile { path, content: Some(content) }
    };
    paths.into_iter().take(MOST_FILES).map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_and_what_is_no_text_stay_here() {
        let root = tempfile::tempdir().unwrap();
        let release: ReleaseId = "r-aaaaaaaaaaaa".parse().unwrap();
        let top = root.path().join("releases").join(release.as_str());
        std::fs::create_dir_all(top.join("etc")).unwrap();
        std::fs::write(top.join("etc/conf"), "port = 1\npassword = c4n4ry\n").unwrap();
        std::fs::write(top.join("binary"), [0, 1, 2, 255]).unwrap();
        std::fs::write(top.join("large"), "x".repeat(200_000)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", top.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc", top.join("away")).unwrap();
        let paths = ["etc/conf", "binary", "large", "out", "away/passwd", "../../../etc/passwd", "/etc/passwd", "none"];
        let shown = reveal(root.path(), &release, paths.map(str::to_owned).to_vec());
        let text = |file: &RevealedFile| match file.content.clone().unwrap() {
            Content::Text(text) => text,
            Content::NotShown(why) => format!("not shown: {why}"),
        };
        let texts: Vec<String> = shown.iter().map(text).collect();
        assert_eq!(texts[0], "port = 1\npassword = ***\n");
        for (path, text) in paths.iter().zip(&texts).skip(1) {
            assert!(text.starts_with("not shown: "), "{path}: {text}");
        }
        assert!(!format!("{shown:?}").contains("c4n4ry") && !format!("{shown:?}").contains("root:"), "{shown:?}");
    }
}
