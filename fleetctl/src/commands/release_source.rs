//! From what an operator names (a directory, a bundle, a release) to a release that the controller has.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_proto::{LARGEST_CHUNK, v1};
use tonic::Code;

use super::Session;
use crate::client::{CALL_DEADLINE, Controller, Operator, Patience, answer, is_transport, status_failure};
use crate::failure::Failure;
use crate::output::frame::release_line;
use crate::service_file::{self, DeployDefaults};

/// How long an upload may take: 1 GiB over a slow line.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(3_600);
/// How often an upload is begun again when the controller goes away in the middle.
const UPLOAD_ATTEMPTS: u32 = 5;
/// Chunks on their way at a time: enough to fill a line, and no more memory than 2 MiB.
const CHUNKS_IN_FLIGHT: usize = 8;

/// What was named.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A directory with a `fleet.yaml`.
    Directory(PathBuf),
    /// A bundle.
    Bundle(PathBuf),
    /// A release that the controller has: id, prefix or `service@version`.
    Known(String),
}

/// A release that the controller has, and how its file wants to be deployed.
#[derive(Debug)]
pub struct Ready {
    /// The release.
    pub release: v1::Release,
    /// The `deploy:` block of its file; empty unless a directory was named.
    pub defaults: DeployDefaults,
    /// Where that file lies, and its test runs.
    pub directory: Option<PathBuf>,
}

/// Reads what was named. A path wins over a release of the same name; nothing means the working directory.
fn recognise(named: Option<&str>) -> Result<Source, Failure> {
    let Some(named) = named else {
        return Ok(Source::Directory(PathBuf::from(".")));
    };
    let path = Path::new(named);
    if path.is_dir() {
        return Ok(Source::Directory(path.to_owned()));
    }
    if path.is_file() {
        let is_service_file = path.file_name().is_some_and(|name| name == service_file::FILE_NAME);
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return if is_service_file {
            Ok(Source::Directory(parent.to_owned()))
        } else {
            Ok(Source::Bundle(path.to_owned()))
        };
    }
    // What looks like a path and is none would only be "no such release" to the controller.
    if named.contains('/') || named.ends_with(fleet_bundle::FILE_SUFFIX) {
        return Err(Failure::data(format!("there is no directory or bundle '{named}'"))
            .help("name a directory with a fleet.yaml, a bundle, SERVICE@VERSION or a release id"));
    }
    Ok(Source::Known(named.to_owned()))
}

/// Makes sure that the controller has what was named: packs and uploads where it must.
///
/// # Errors
/// 65 for a wrong `fleet.yaml` or bundle, 69 if the controller cannot be reached, or what it answered.
pub async fn provide(
    session: &Session,
    controller: &Controller,
    client: &mut Operator,
    named: Option<&str>,
) -> Result<Ready, Failure> {
    match recognise(named)? {
        Source::Known(name) => {
            let reply = answer(CALL_DEADLINE, client.get_release(v1::GetReleaseRequest { name })).await?;
            let release = reply.release.ok_or_else(|| Failure::failed("the controller answered without a release"))?;
            Ok(Ready { release, defaults: DeployDefaults::default(), directory: None })
        }
        Source::Directory(path) => {
            let temporary =
                |e: std::io::Error| Failure::failed("cannot make a temporary file for the bundle").caused_by(&e);
            let dir = tempfile::tempdir().map_err(temporary)?;
            let place = dir.path().join("bundle");
            let wrong = |e: service_file::ServiceFileError| {
                Failure::data(format!("cannot pack {}", path.display())).caused_by(&e)
            };
            let file = service_file::load(&path).map_err(wrong)?;
            let packed = file.pack(&path, &place).map_err(wrong)?;
            let mut bundle = File::open(&place).map_err(temporary)?;
            let release = upload(session, controller, client, &mut bundle, &packed.digest, packed.size).await?;
            Ok(Ready { release, defaults: file.deploy, directory: Some(path) })
        }
        Source::Bundle(path) => {
            let cannot = |e: &dyn std::error::Error| {
                Failure::data(format!("cannot use the bundle {}", path.display())).caused_by(e)
            };
            let mut bundle = File::open(&path).map_err(|e| cannot(&e))?;
            // A hostile or cut bundle is told here, before it travels.
            fleet_bundle::inspect(&mut bundle).map_err(|e| cannot(&e))?;
            bundle.rewind().map_err(|e| cannot(&e))?;
            let (digest, size) = fleet_bundle::digest(&mut bundle).map_err(|e| cannot(&e))?;
            let release = upload(session, controller, client, &mut bundle, &digest, size).await?;
            Ok(Ready { release, defaults: DeployDefaults::default(), directory: None })
        }
    }
}

/// Uploads a bundle unless the controller has it. The same bytes give the same release, so a broken upload is simply
/// begun again.
async fn upload(
    session: &Session,
    controller: &Controller,
    client: &mut Operator,
    bundle: &mut File,
    digest: &fleet::Digest,
    size: u64,
) -> Result<v1::Release, Failure> {
    let id = fleet::ReleaseId::of(digest).to_string();
    match client.get_release(v1::GetReleaseRequest { name: id }).await {
        Ok(reply) => {
            if let Some(release) = reply.into_inner().release.filter(|r| is_digest(&r.bundle, digest)) {
                session.screen.say(&format!("{}, already there", release_line(&release)));
                return Ok(release);
            }
        }
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(status_failure(&status)),
    }
    let mut patience = Patience::new();
    let mut attempt = 1;
    loop {
        bundle.seek(SeekFrom::Start(0)).map_err(|e| Failure::failed("cannot read the bundle").caused_by(&e))?;
        let source = bundle.try_clone().map_err(|e| Failure::failed("cannot read the bundle").caused_by(&e))?;
        let stream = chunks(source, digest.to_string(), size);
        match tokio::time::timeout(UPLOAD_DEADLINE, client.upload_release(stream)).await {
            Ok(Ok(reply)) => {
                let release = reply.into_inner();
                session.screen.say(&release_line(&release));
                return Ok(release);
            }
            Ok(Err(status)) if is_transport(&status) && attempt < UPLOAD_ATTEMPTS => {
                attempt += 1;
                session.screen.say("the connection broke during the upload; trying again");
                patience.pause().await;
                if let Ok(again) = controller.connect().await {
                    *client = again;
                }
            }
            Ok(Err(status)) => return Err(status_failure(&status)),
            Err(_) => {
                return Err(Failure::new(fleet::outcome::exit::UNAVAILABLE, "the upload took longer than an hour"));
            }
        }
    }
}

fn is_digest(text: &str, digest: &fleet::Digest) -> bool {
    text == digest.to_string() || text == digest.hex()
}

/// The messages of an upload: the header, then the bytes. A source that cannot be read ends the stream early, and the
/// controller refuses what does not add up to the digest.
fn chunks(
    mut source: File,
    digest: String,
    size: u64,
) -> tokio_stream::wrappers::ReceiverStream<v1::UploadReleaseRequest> {
    use v1::upload_release_request::Part;
    let (send, receive) = tokio::sync::mpsc::channel(CHUNKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let header = Part::Header(v1::UploadHeader { digest, size });
        if send.blocking_send(v1::UploadReleaseRequest { part: Some(header) }).is_err() {
            return;
        }
        let mut buffer = vec![0; LARGEST_CHUNK];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    let part = Some(Part::Data(buffer[..n].to_vec()));
                    if send.blocking_send(v1::UploadReleaseRequest { part }).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "the bundle cannot be read to its end");
                    return;
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receive)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_wins_over_a_release_and_a_missing_path_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let text = |p: &Path| p.to_str().unwrap().to_owned();
        std::fs::write(dir.path().join("fleet.yaml"), "").unwrap();
        assert_eq!(recognise(Some(&text(dir.path()))).unwrap(), Source::Directory(dir.path().to_owned()));
        assert_eq!(
            recognise(Some(&text(&dir.path().join("fleet.yaml")))).unwrap(),
            Source::Directory(dir.path().to_owned())
        );
        let bundle = dir.path().join("x.fleet.tar.zst");
        std::fs::write(&bundle, "").unwrap();
        assert_eq!(recognise(Some(&text(&bundle))).unwrap(), Source::Bundle(bundle));
        assert_eq!(recognise(Some("shop@2.3.1")).unwrap(), Source::Known("shop@2.3.1".into()));
        assert_eq!(recognise(Some("examples/helo")).unwrap_err().exit, 65);
    }
}
