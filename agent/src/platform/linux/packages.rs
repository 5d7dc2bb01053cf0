//! Which package of the distribution brought a file, in which version, and whether the bytes are still those that the
//! package brought: remembered until the distribution's database changes. Reading that is `dpkg`'s work; what follows from
//! a package, and which paths are asked about, is decided by others.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet::evidence::{Owner, Package};
use fleet::manifest::LARGEST_UNPACKED;
use fleet::{Digest, Millis};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::dpkg::{Database, Listed, Stamp, Sum};
use super::{boot_clock, digests};

/// More files of the distribution than the services of one machine run; what is beyond is looked up again.
const MOST_REMEMBERED: usize = 8_192;
/// MD5 sums of files, which are small to keep and slow to make.
const MOST_SUMS: usize = 2_048;
/// What could not be told is asked again after this: the reason may be gone, though dpkg has done nothing since.
const UNKNOWN_FOR: Millis = Millis::from_secs(60);

/// What dpkg knows of files, remembered until it changes something.
#[derive(Debug)]
pub(super) struct Packages {
    database: Database,
    cache: Mutex<Cache>,
}

/// Who lists some paths, as it was told at one moment.
#[derive(Debug, Default)]
pub(super) struct Learned(HashMap<PathBuf, Listed>);

#[derive(Debug, Default)]
struct Cache {
    /// What `status` was when `known` was begun.
    stamp: Option<Stamp>,
    /// And when that was read.
    known: HashMap<PathBuf, (Listed, Millis)>,
    /// The MD5 sum of the bytes that have this SHA-256. It holds whatever dpkg does, so it outlives `known`.
    sums: HashMap<Digest, Sum>,
}

impl Packages {
    /// dpkg's of this machine.
    pub(super) fn new() -> Self {
        Self::of(Database::of_this_machine())
    }

    fn of(database: Database) -> Self {
        Self { database, cache: Mutex::default() }
    }

    /// Looks up many paths with one pass over the database, unless they are remembered.
    pub(super) fn learn<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Learned {
        let wanted: HashSet<&Path> = paths.into_iter().take(MOST_REMEMBERED).collect();
        let mut cache = self.locked();
        let stamp = self.database.stamp();
        if cache.stamp != stamp || stamp.is_none() {
            cache.known.clear();
        }
        cache.stamp = stamp;
        if stamp.is_some() {
            self.fill(&mut cache, &wanted);
            // dpkg has begun or ended meanwhile: what was read may be of both.
            if self.database.stamp() != stamp {
                cache.known.clear();
            }
        }
        let told = |path: &Path| Some((path.to_owned(), cache.known.get(path)?.0.clone()));
        Learned(wanted.into_iter().filter_map(told).collect())
    }

    /// Who brought the file that is called `path` here, by what was learned. `file` is opened only when its bytes were not
    /// compared before; `digest` is what they were found to be.
    ///
    /// MD5 is what dpkg keeps, and this says what `dpkg --verify` would: good against accidents and against another
    /// version put in its place, not against an adversary. Whoever fears that pins a digest.
    pub(super) fn owner(
        &self,
        learned: &Learned,
        path: &Path,
        digest: &Digest,
        file: impl FnOnce() -> Option<File>,
    ) -> Owner {
        match learned.0.get(path) {
            None | Some(Listed::Unknown) => Owner::Unknown,
            Some(Listed::Nobody) => Owner::Nobody,
            Some(Listed::By { name, version, sum }) => {
                let intact = sum.and_then(|sum| Some(self.sum_of(digest, file)? == sum));
                Owner::Package(Package { name: name.clone(), version: version.clone(), intact })
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that all of `wanted` are known. The cache stays locked meanwhile: who waits for it would otherwise
    /// read the same database at the same time.
    fn fill(&self, cache: &mut Cache, wanted: &HashSet<&Path>) {
        let holds =
            |(listed, read): &(Listed, Millis)| *listed != Listed::Unknown || boot_clock::since(*read) < UNKNOWN_FOR;
        let is_missing = |path: &&Path| !cache.known.get(*path).is_some_and(holds);
        let missing: Vec<&Path> = wanted.iter().copied().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        if cache.known.len() + missing.len() > MOST_REMEMBERED {
            cache.known.retain(|path, _| wanted.contains(path.as_path()));
        }
        let now = boot_clock::now();
        cache.known.extend(self.database.look_up(&missing).into_iter().map(|(path, listed)| (path, (listed, now))));
    }

    /// The MD5 sum of the bytes that have this digest, remembered or read from `file`.
    fn sum_of(&self, digest: &Digest, file: impl FnOnce() -> Option<File>) -> Option<Sum> {
        // Read without the lock, which ends with this line.
        let remembered = self.locked().sums.get(digest).copied();
        if remembered.is_some() {
            return remembered;
        }
        let sum = read(&file()?, digest).ok()?;
        let mut cache = self.locked();
        if cache.sums.len() >= MOST_SUMS {
            cache.sums.clear();
        }
        cache.sums.insert(*digest, sum);
        Some(sum)
    }
}

/// The MD5 sum of an open file, from its start to its end. Both sums are made of the same reading: a file that was
/// exchanged after `digest` was found must not lend its sum to the bytes that were there before.
fn read(file: &File, digest: &Digest) -> io::Result<Sum> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut buffer = digests::buffer();
    let (mut sum, mut check) = (Md5::new(), Sha256::new());
    let mut at: u64 = 0;
    while at <= LARGEST_UNPACKED {
        let length = file.read_at(&mut buffer, at)?;
        if length == 0 {
            if Digest(check.finalize().into()) != *digest {
                return Err(io::Error::other("it has changed since it was hashed"));
            }
            return Ok(sum.finalize().into());
        }
        sum.update(&buffer[..length]);
        check.update(&buffer[..length]);
        at += length as u64;
    }
    Err(io::Error::other("larger than any file of a release"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::Cell;
    use std::fs;

    const LIBC: &[u8] = b"the C library";
    const LIBC_PATH: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.0-other\n\n\
        Package: libc6\nStatus: install ok installed\nMulti-Arch: same\nArchitecture: amd64\nVersion: 2.36-9\n\
        Description: a library\n Package: forged\n Version: 0\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
        Package: held\nStatus: hold ok installed\nArchitecture: all\nVersion: 1:3.4~rc1\n";

    fn sum(bytes: &[u8]) -> String {
        Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    fn file(bytes: &[u8]) -> Option<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Some(file)
    }

    /// A database of a few packages: `libc6` of two architectures, one removed, one held back, one not in `status`.
    fn database() -> (tempfile::TempDir, Packages) {
        let folder = tempfile::tempdir().unwrap();
        let info = folder.path().join("info");
        fs::create_dir(&info).unwrap();
        let put = |name: &str, text: &str| fs::write(info.join(name), text).unwrap();
        put("libc6:amd64.list", "/.\n/lib\n/lib/x86_64-linux-gnu/libc.so.6\n");
        put("libc6:amd64.md5sums", &format!("{}  lib/x86_64-linux-gnu/libc.so.6\n", sum(LIBC)));
        put("libc6:i386.list", "/.\n/lib\n/lib/i386-linux-gnu/libc.so.6\n");
        put("gone.list", "/etc/gone.conf\n");
        put("held.list", "/.\n/usr/bin/held\n/usr/libexec/held\n/usr/bin/unsummed");
        let held = sum(b"held");
        put("held.md5sums", &format!("nonsense\n{held}  usr/bin/held\n{held}  usr/libexec/held\n"));
        put("stray.list", "/usr/bin/stray\n");
        put("held.postinst", "/usr/bin/not-a-list\n");
        fs::write(folder.path().join("status"), STATUS).unwrap();
        let packages = Packages::of(Database::at(folder.path().to_owned()));
        (folder, packages)
    }

    fn owner(packages: &Packages, path: &str, bytes: &[u8]) -> Owner {
        let learned = packages.learn([Path::new(path)]);
        packages.owner(&learned, Path::new(path), &digest(bytes), || file(bytes))
    }

    fn package(name: &str, version: &str, intact: impl Into<Option<bool>>) -> Owner {
        Owner::Package(Package { name: name.to_owned(), version: version.to_owned(), intact: intact.into() })
    }

    #[test]
    fn a_file_has_a_package_of_its_architecture_in_either_spelling() {
        let (_folder, packages) = database();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), package("libc6", "2.36-9", true));
        assert_eq!(owner(&packages, "/lib/x86_64-linux-gnu/libc.so.6", LIBC), package("libc6", "2.36-9", true));
        let other = owner(&packages, "/usr/lib/i386-linux-gnu/libc.so.6", LIBC);
        assert_eq!(other, package("libc6", "2.0-other", None), "without md5sums nobody can tell");
        assert_eq!(owner(&packages, "/bin/held", b"held"), package("held", "1:3.4~rc1", true));
        assert_eq!(owner(&packages, "/usr/bin/unsummed", b"held"), package("held", "1:3.4~rc1", None));
    }

    #[test]
    fn what_no_installed_package_lists_is_nobodys() {
        let (_folder, packages) = database();
        let nobodys = [
            "/usr/bin/other",
            "/etc/gone.conf",
            "/usr/bin/not-a-list",
            "/libexec/held",
            "usr/bin/held",
            "/usr/bin/hel",
        ];
        for path in nobodys {
            assert_eq!(owner(&packages, path, b"held"), Owner::Nobody, "{path}");
        }
        assert_eq!(owner(&packages, "/usr/libexec/held", b"held"), package("held", "1:3.4~rc1", true));
    }

    #[test]
    fn without_a_status_nothing_is_known() {
        let (folder, packages) = database();
        owner(&packages, LIBC_PATH, LIBC);
        fs::remove_file(folder.path().join("status")).unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), Owner::Unknown);
        assert_eq!(owner(&packages, "/usr/bin/other", b""), Owner::Unknown);
        let status = format!("{STATUS}\nPackage: {}\n", "x".repeat(64 << 10));
        fs::write(folder.path().join("status"), status).unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), Owner::Unknown);
    }

    #[test]
    fn what_the_database_does_not_say_for_certain_is_not_known() {
        let (folder, packages) = database();
        let at = |name: &str| folder.path().join(name);
        let status = |of_libc: &str| {
            let text = STATUS.replace("install ok installed\nMulti-Arch", &format!("{of_libc}\nMulti-Arch"));
            fs::write(at("status"), text).unwrap();
            owner(&packages, LIBC_PATH, LIBC)
        };
        assert_eq!(owner(&packages, "/usr/bin/stray", b""), Owner::Unknown, "listed, and not in status");
        assert_eq!(status("install ok half-installed"), Owner::Unknown);
        assert_eq!(status("install reinstreq unpacked"), Owner::Unknown);
        assert_eq!(status("install ok unpacked"), package("libc6", "2.36-9", true), "its files are here");
        assert_eq!(status("deinstall ok config-files"), Owner::Nobody);
        assert_eq!(status("install ok installed"), package("libc6", "2.36-9", true));
        // dpkg is in the middle of its work: its journal says so.
        fs::create_dir(at("updates")).unwrap();
        fs::write(at("updates/tmp.i"), "").unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), package("libc6", "2.36-9", true));
        fs::write(at("updates/0001"), "").unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), Owner::Unknown);
        fs::remove_file(at("updates/0001")).unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), package("libc6", "2.36-9", true));
        // Two packages claim it.
        fs::write(at("info/other.list"), "/usr/bin/held\n").unwrap();
        fs::write(at("status"), format!("{STATUS}\nPackage: other\nStatus: install ok installed\nVersion: 1\n"))
            .unwrap();
        assert_eq!(owner(&packages, "/usr/bin/held", b"held"), Owner::Unknown);
        fs::write(at("status"), format!("{STATUS}\nPackage: other\nStatus: deinstall ok config-files\n")).unwrap();
        assert_eq!(owner(&packages, "/usr/bin/held", b"held"), package("held", "1:3.4~rc1", true));
        fs::write(at("diversions"), "/usr/bin/held\n/usr/bin/held.real\nother\n").unwrap();
        fs::write(at("status"), format!("{STATUS}\n")).unwrap();
        assert_eq!(owner(&packages, "/bin/held", b"held"), Owner::Unknown);
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), package("libc6", "2.36-9", true));
    }

    #[test]
    fn a_list_that_cannot_be_read_leaves_everything_unknown() {
        let (folder, packages) = database();
        fs::create_dir(folder.path().join("info/broken.list")).unwrap();
        assert_eq!(owner(&packages, "/usr/bin/other", b""), Owner::Unknown);
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), Owner::Unknown);
    }

    #[test]
    fn changed_bytes_are_not_intact_and_each_are_read_once() {
        let (_folder, packages) = database();
        let opened = Cell::new(0);
        let learned = packages.learn([Path::new(LIBC_PATH)]);
        let ask = |bytes: &[u8], found: &[u8]| {
            packages.owner(&learned, Path::new(LIBC_PATH), &digest(bytes), || {
                opened.set(opened.get() + 1);
                file(found)
            })
        };
        // Exchanged between the two readings: nothing is concluded from what lies there now.
        assert_eq!(ask(b"evil", LIBC), package("libc6", "2.36-9", None));
        assert_eq!(ask(LIBC, b"evil"), package("libc6", "2.36-9", None));
        assert_eq!(opened.get(), 2);
        for _ in 0..2 {
            assert_eq!(ask(LIBC, LIBC), package("libc6", "2.36-9", true));
            assert_eq!(ask(b"evil", b"evil"), package("libc6", "2.36-9", false));
            assert_eq!(opened.get(), 4);
        }
        let closed = packages.owner(&learned, Path::new(LIBC_PATH), &digest(b"unseen"), || None);
        assert_eq!(closed, package("libc6", "2.36-9", None));
    }

    #[test]
    fn what_was_learned_is_told_until_status_changes() {
        let (folder, packages) = database();
        packages.learn([LIBC_PATH, "/usr/bin/held", "/usr/bin/other"].map(Path::new));
        // The lists are not read again for what is remembered.
        fs::write(folder.path().join("info/libc6:amd64.list"), "").unwrap();
        fs::write(folder.path().join("info/held.list"), "/usr/bin/other\n").unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), package("libc6", "2.36-9", true));
        assert_eq!(owner(&packages, "/usr/bin/held", b"held"), package("held", "1:3.4~rc1", true));
        assert_eq!(owner(&packages, "/usr/bin/other", b""), Owner::Nobody);
        fs::write(folder.path().join("status"), STATUS.replace("1:3.4~rc1", "1:3.4-1+b2")).unwrap();
        assert_eq!(owner(&packages, LIBC_PATH, LIBC), Owner::Nobody);
        assert_eq!(owner(&packages, "/usr/bin/other", b""), package("held", "1:3.4-1+b2", None));
    }

    #[test]
    fn the_cache_keeps_its_bound_and_what_is_wanted() {
        let (_folder, packages) = database();
        let many: Vec<PathBuf> = (0..MOST_REMEMBERED).map(|number| PathBuf::from(format!("/x/{number}"))).collect();
        packages.learn(many.iter().map(PathBuf::as_path));
        assert_eq!(packages.locked().known.len(), MOST_REMEMBERED);
        packages.learn([many[0].as_path(), Path::new(LIBC_PATH)]);
        assert_eq!(packages.locked().known.len(), 2);
    }
}
