//! Past deployments and known releases, for people.

use fleet_proto::v1;

use super::screen::Glyphs;
use super::table::Columns;
use super::tally;
use super::text::{Zone, count, minute, or_dash, short_digest, size, took};

/// Deployments, as the controller orders them: newest first.
pub fn deployments(list: &[v1::Deployment], zone: Zone, glyphs: Glyphs) -> String {
    if list.is_empty() {
        return "no deployments\n".to_owned();
    }
    let mut rows = Columns::new(&["ID", "WHEN", "SERVICE", "VERSION", "RESULT", "NODES", "TOOK", "BY", "NOTE"]);
    let arrow = format!(" {} ", glyphs.to());
    for deployment in list {
        let result = match deployment.outcome.as_str() {
            "" => format!("{}...", deployment.phase),
            "converged" => "ok".to_owned(),
            other => other.replace('-', " "),
        };
        let took = deployment.finished_at_ms.map_or_else(|| "-".to_owned(), |end| took(deployment.started_at_ms, end));
        let note = if deployment.cause.is_empty() { deployment.message.clone() } else { deployment.cause.clone() };
        rows.row([
            deployment.id.clone(),
            minute(deployment.started_at_ms, zone),
            deployment.service.clone(),
            tally::change(deployment, &arrow),
            result,
            tally::expected(deployment).len().to_string(),
            took,
            or_dash(&deployment.started_by),
            note,
        ]);
    }
    rows.to_text()
}

/// Releases, as the controller orders them.
pub fn releases(list: &[v1::Release], zone: Zone) -> String {
    if list.is_empty() {
        return "no releases\n".to_owned();
    }
    let mut rows = Columns::new(&["RELEASE", "SERVICE", "VERSION", "FILES", "SIZE", "CREATED", "BY", "NOTE"]);
    for release in list {
        rows.row([
            release.id.clone(),
            release.service.clone(),
            release.version.clone(),
            release.files.to_string(),
            size(release.bundle_size),
            minute(release.created_at_ms, zone),
            or_dash(&release.created_by),
            rolled_back(release).map(|by| format!("rolled back by {by}")).unwrap_or_default(),
        ]);
    }
    rows.to_text()
}

/// The deployment that failed with a release and was rolled back, if it has not converged since.
fn rolled_back(release: &v1::Release) -> Option<&str> {
    Some(release.rolled_back_by.as_str()).filter(|id| !id.is_empty())
}

/// One release, what is in it, and who holds it.
pub fn release(reply: &v1::GetReleaseReply, descriptor: &fleet::release::Descriptor, zone: Zone) -> String {
    let release = reply.release.clone().unwrap_or_default();
    let mut rows = Columns::new(&[]);
    let mut line = |name: &str, value: String| rows.row([name.to_owned(), value]);
    line("release", release.id.clone());
    line("service", format!("{} {}", release.service, release.version));
    line("bundle", format!("sha256:{}", release.bundle.trim_start_matches("sha256:")));
    line("size", format!("{}, {} unpacked", size(release.bundle_size), size(release.unpacked_size)));
    line("created", format!("{} by {}", minute(release.created_at_ms, zone), or_dash(&release.created_by)));
    if let Some(by) = rolled_back(&release) {
        let why = if release.rolled_back_why.is_empty() { "" } else { ": " };
        line("rolled back", format!("by {by}{why}{}", release.rolled_back_why));
        line("", format!("deploy it nevertheless with: fleetctl deploy {} --again", release.id));
    }
    line("run", descriptor.run.command.join(" "));
    line("proof", format!("{} or better", descriptor.minimum_grade));
    line(
        "held by",
        if reply.held_by.is_empty() {
            "no node".to_owned()
        } else {
            format!("{}: {}", count(reply.held_by.len(), "node"), reply.held_by.join(" "))
        },
    );
    let mut text = rows.to_rows("");
    let mut files = Columns::new(&["MODE", "SIZE", "DIGEST", "PATH"]);
    for entry in descriptor.manifest.entries() {
        use fleet::manifest::EntryKind;
        let (bytes, digest) = match &entry.kind {
            EntryKind::File { sha256, size: bytes } => (size(*bytes), short_digest(&sha256.to_string())),
            EntryKind::Directory => ("-".to_owned(), "directory".to_owned()),
            EntryKind::Symlink { target } => ("-".to_owned(), format!("link to {target}")),
        };
        files.row([format!("{:04o}", entry.mode), bytes, digest, entry.path.as_str().to_owned()]);
    }
    text.push('\n');
    text += &files.to_text();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{self, finished, rolling};
    use fleet::Outcome;

    #[test]
    fn a_release_that_was_rolled_back_is_marked() {
        let mut marked = samples::release("2.3.1");
        marked.rolled_back_by = "d-7k2m4".into();
        marked.rolled_back_why = "1 failed, 0 allowed".into();
        assert_eq!(
            releases(&[marked, samples::release("2.3.0")], Zone::Utc),
            "RELEASE         SERVICE  VERSION  FILES  SIZE     CREATED           BY     NOTE
r-9f2c1e7ab310  shop     2.3.1    3      31.0 MB  2026-11-21 09:14  alice  rolled back by d-7k2m4
r-9f2c1e7ab310  shop     2.3.0    3      31.0 MB  2026-11-21 09:14  alice
"
        );
    }

    #[test]
    fn history_shows_result_duration_and_cause() {
        let mut rolled_back = finished(Outcome::RolledBack, "verified", "2.3.0");
        rolled_back.cause = "1 failed, 0 allowed".into();
        assert_eq!(
            deployments(&[rolling(), rolled_back], Zone::Utc, Glyphs::Unicode),
            "ID       WHEN              SERVICE  VERSION        RESULT       NODES  TOOK   BY     NOTE
d-7k2m4  2026-11-21 09:14  shop     2.3.0 → 2.3.1  rolling...   8      -      alice
d-7k2m4  2026-11-21 09:14  shop     2.3.0 → 2.3.1  rolled back  8      5m38s  alice  1 failed, 0 allowed
"
        );
    }
}
