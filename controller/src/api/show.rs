//! What files should hold and what they do hold, side by side: the one from the bundle, the other from the node, asked
//! now. Secrets are masked on both sides by the same rules, and the node's once more here: an agent of another version, or
//! one that lies, sends nothing further than this.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::time::Duration;

use fleet::NodeName;
use fleet::drift::Kind;
use fleet::mask::mask;
use fleet_proto::v1;
use fleet_proto::v1::revealed_file::Content;

use crate::artifacts::Artifacts;
use crate::mind::{Ask, Mind, Refusal, ToShow};

/// The largest file that is shown, in bytes: nobody reads a longer one in a terminal, and the agent has the same bound.
pub const LARGEST_SHOWN: u64 = 128 << 10;
/// How long a node may take to show its files.
const PATIENCE: Duration = Duration::from_secs(10);

/// The differing files of a node, of one service if named.
pub(super) async fn files(
    mind: &Mind,
    artifacts: &Artifacts,
    request: v1::ShowFilesRequest,
) -> Result<Vec<v1::ShownFile>, Refusal> {
    let wanted = mind.ask(|to| Ask::FilesToShow(request.node.clone(), request.service.clone(), to)).await?;
    let mut shown = Vec::new();
    for files in wanted {
        let node: NodeName = request.node.parse().map_err(|_| Refusal::stopping())?;
        let asked = files.clone();
        let found = tokio::time::timeout(PATIENCE, mind.ask(|to| Ask::Reveal(node.clone(), asked, to)));
        let found = found.await.map_err(|_| {
            let what = format!("{node} has not shown its files within {}s", PATIENCE.as_secs());
            Refusal::precheck(what, "is its agent older than this controller? See: fleetctl nodes list")
        })??;
        let found: BTreeMap<String, Content> =
            found.into_iter().filter_map(|file| Some((file.path, file.content?))).collect();
        let expected = expected(artifacts, &files).await?;
        for (path, kind) in &files.files {
            shown.push(side_by_side(&files, path, *kind, expected.get(path), found.get(path)));
        }
    }
    Ok(shown)
}

/// What the release has at these paths.
async fn expected(artifacts: &Artifacts, files: &ToShow) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    let (artifacts, bundle) = (artifacts.clone(), files.bundle);
    let paths: BTreeSet<String> = files.files.iter().map(|(path, _)| path.clone()).collect();
    let read = move || {
        let file = artifacts.open_at(&bundle, 0).map_err(|error| error.to_string())?;
        fleet_bundle::extract(&mut BufReader::new(file), &paths, LARGEST_SHOWN).map_err(|error| error.to_string())
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::stopping())?;
    read.map_err(|why| {
        Refusal::precheck(format!("the release cannot be read: {why}"), "restore 'artifacts' from a backup")
    })
}

fn side_by_side(
    files: &ToShow,
    path: &str,
    kind: Kind,
    expected: Option<&Vec<u8>>,
    found: Option<&Content>,
) -> v1::ShownFile {
    let mut notes = Vec::new();
    let expected = match (expected, kind) {
        (Some(bytes), _) => match text_of(bytes) {
            Some(text) => Some(mask(&text)),
            None => {
                notes.push("expected: binary".to_owned());
                None
            }
        },
        (None, Kind::Extra) => None,
        (None, _) => {
            notes.push("expected: no file, or a large one".to_owned());
            None
        }
    };
    let found = match found {
        Some(Content::Text(text)) => Some(mask(text)),
        Some(Content::NotShown(why)) => {
            notes.push(format!("found: {}", fleet_proto::convert::clean(why.clone())));
            None
        }
        None => {
            notes.push("found: the node does not show it".to_owned());
            None
        }
    };
    if expected.is_some() && expected == found {
        notes.push("it differs in masked values only".to_owned());
    }
    v1::ShownFile {
        service: files.service.to_string(),
        path: path.to_owned(),
        kind: kind.to_string(),
        expected,
        found,
        note: notes.join("; "),
    }
}

/// Text that people can read; None of anything else.
fn text_of(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    fleet::mask::is_plain(text).then(|| text.to_owned())
}
