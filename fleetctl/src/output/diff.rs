//! How files differ, as `diff -u` writes it. Both sides come masked; what only masked values differ in cannot be told
//! here, and is said instead of shown as equal.

use std::time::Duration;

use fleet_proto::v1;
use similar::{Algorithm, TextDiff};

use super::documents::FileDiff;
use super::text::plain;

/// Lines around a change.
const CONTEXT: usize = 3;
/// After this a diff is put together less cleverly: files are small, and nobody waits long for a table.
const PATIENCE: Duration = Duration::from_secs(2);

/// The difference of one file as text; nothing where there is none to show.
fn unified(file: &v1::ShownFile) -> Option<String> {
    if file.expected.is_none() && file.found.is_none() {
        return None;
    }
    let (expected, found) = (file.expected.as_deref().unwrap_or(""), file.found.as_deref().unwrap_or(""));
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).timeout(PATIENCE).diff_lines(expected, found);
    let text = diff.unified_diff().context_radius(CONTEXT).header("expected", "found").to_string();
    Some(text).filter(|text| !text.is_empty())
}

/// For people: a heading, what cannot be shown, and the diff. Each line is made harmless.
pub fn render(file: &v1::ShownFile) -> String {
    let mut text = format!("{} {} {}\n", plain(&file.service), plain(&file.kind), plain(&file.path));
    if !file.note.is_empty() {
        text += &format!("  ({})\n", plain(&file.note));
    }
    for line in unified(file).unwrap_or_default().lines() {
        text += &format!("  {}\n", plain(line).trim_end());
    }
    text
}

/// For programs.
pub fn file_diff(file: &v1::ShownFile) -> FileDiff {
    FileDiff {
        service: file.service.clone(),
        path: file.path.clone(),
        kind: file.kind.clone(),
        diff: unified(file),
        note: Some(file.note.clone()).filter(|note| !note.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(expected: Option<&str>, found: Option<&str>, note: &str) -> v1::ShownFile {
        v1::ShownFile {
            service: "shop".into(),
            path: "etc/shop.toml".into(),
            kind: "file".into(),
            expected: expected.map(Into::into),
            found: found.map(Into::into),
            note: note.into(),
        }
    }

    #[test]
    fn a_diff_is_unified_and_harmless() {
        let text = render(&file(Some("a\nport = 1\nb\n"), Some("a\nport = 2\u{1b}[2J\nb\n"), ""));
        let expected = [
            "shop file etc/shop.toml",
            "  --- expected",
            "  +++ found",
            "  @@ -1,3 +1,3 @@",
            "   a",
            "  -port = 1",
            "  +port = 2\u{fffd}[2J",
            "   b",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let text = render(&file(Some("a\n"), None, "found: nothing is there"));
        assert!(text.contains("  (found: nothing is there)\n") && text.contains("\n  -a\n"), "{text}");
        let masked = file(Some("password = ***\n"), Some("password = ***\n"), "it differs in masked values only");
        assert_eq!(render(&masked), "shop file etc/shop.toml\n  (it differs in masked values only)\n");
        assert_eq!(file_diff(&masked).diff, None);
        assert_eq!(file_diff(&file(None, None, "found: binary")).diff, None);
    }
}
