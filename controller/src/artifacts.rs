//! The artifact store: bundles by their digest, on disk. A bundle is read to its end and checked before it is kept;
//! nothing else of the controller opens an archive.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fleet::Digest;
use fleet::release::Descriptor;
use fleet_bundle::{BundleError, HashingWriter};

/// The largest bundle accepted, in bytes: as large as a release may be unpacked.
pub const LARGEST_BUNDLE: u64 = fleet::manifest::LARGEST_UNPACKED;

/// The directory of bundles.
#[derive(Debug, Clone)]
pub struct Artifacts {
    dir: PathBuf,
}

/// Why a bundle was not kept.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Other bytes than announced.
    #[error("the upload has digest {found}, {announced} was announced: send it again")]
    WrongDigest {
        /// What was announced.
        announced: Digest,
        /// What arrived.
        found: Digest,
    },
    /// More bytes than announced, or than accepted.
    #[error("the upload is larger than the {limit} bytes announced or accepted")]
    TooLarge {
        /// The limit that was passed.
        limit: u64,
    },
    /// Not an acceptable bundle.
    #[error("the bundle is refused: {0}")]
    Bundle(#[from] BundleError),
    /// The disk failed or is full.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        cause: io::Error,
    },
}

fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let doing = format!("{doing} {}", path.display());
    move |cause| ArtifactError::Io { doing, cause }
}

impl Artifacts {
    /// The artifact store below `data_dir`; made if it is not there. Unfinished uploads of an earlier life are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(data_dir: &Path) -> Result<Self, ArtifactError> {
        let dir = data_dir.join("artifacts");
        fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(io_error("close", &dir))?;
        for entry in fs::read_dir(&dir).map_err(io_error("read", &dir))? {
            let entry = entry.map_err(io_error("read", &dir))?;
            if entry.file_name().to_string_lossy().starts_with(".incoming-") {
                fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
            }
        }
        Ok(Self { dir })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}{}", digest.hex(), fleet_bundle::FILE_SUFFIX))
    }

    /// Whether a bundle is kept.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The size of a kept bundle in bytes.
    ///
    /// # Errors
    /// When it is not kept.
    pub fn size(&self, digest: &Digest) -> Result<u64, ArtifactError> {
        let path = self.path(digest);
        Ok(fs::metadata(&path).map_err(io_error("look at", &path))?.len())
    }

    /// Begins to take in a bundle.
    ///
    /// # Errors
    /// When it is too large from the start, or the disk refuses.
    pub fn receive(&self, announced: Digest, size: u64) -> Result<Incoming, ArtifactError> {
        if size > LARGEST_BUNDLE {
            return Err(ArtifactError::TooLarge { limit: LARGEST_BUNDLE });
        }
        let file = tempfile::Builder::new()
            .prefix(".incoming-")
            .tempfile_in(&self.dir)
            .map_err(io_error("write in", &self.dir))?;
        let writer = file.reopen().map_err(io_error("write in", &self.dir))?;
        Ok(Incoming { store: self.clone(), file, writer: HashingWriter::new(writer), announced, size })
    }

    /// Opens a kept bundle at an offset.
    ///
    /// # Errors
    /// `NotFound` when it is not kept.
    pub fn open_at(&self, digest: &Digest, offset: u64) -> io::Result<File> {
        let mut file = File::open(self.path(digest))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }

    /// Reads the descriptor of a kept bundle, checking the whole of it again.
    ///
    /// # Errors
    /// When it is missing or was damaged on disk.
    pub fn describe(&self, digest: &Digest) -> Result<Descriptor, ArtifactError> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Ok(fleet_bundle::inspect(&mut BufReader::new(file))?)
    }
}

/// A bundle that is arriving. Dropped unfinished, it leaves nothing.
pub struct Incoming {
    store: Artifacts,
    file: tempfile::NamedTempFile,
    writer: HashingWriter<File>,
    announced: Digest,
    size: u64,
}

impl Incoming {
    /// Takes in some bytes.
    ///
    /// # Errors
    /// More than announced, or the disk refuses.
    pub fn write(&mut self, data: &[u8]) -> Result<(), ArtifactError> {
        if self.writer.size() + data.len() as u64 > self.size {
            return Err(ArtifactError::TooLarge { limit: self.size });
        }
        self.writer.write_all(data).map_err(io_error("write in", &self.store.dir))
    }

    /// Checks digest and content, and keeps the bundle durably. Blocking.
    ///
    /// # Errors
    /// Other bytes than announced; an archive that is refused; a disk that refuses. Nothing is kept then.
    pub fn finish(mut self) -> Result<Descriptor, ArtifactError> {
        let dir = self.store.dir.clone();
        self.writer.inner_mut().sync_all().map_err(io_error("flush to", &dir))?;
        let (found, _) = self.writer.finish();
        if found != self.announced {
            return Err(ArtifactError::WrongDigest { announced: self.announced, found });
        }
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(0)).map_err(io_error("read", &dir))?;
        let descriptor = fleet_bundle::inspect(&mut BufReader::new(file.take(LARGEST_BUNDLE)))?;
        let path = self.store.path(&self.announced);
        self.file.persist(&path).map_err(|e| io_error("keep", &path)(e.error))?;
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(io_error("flush", &dir))?;
        Ok(descriptor)
    }
}
