//! Reading service files: every broken one has its one clear error, written down beside it; good ones mean what they
//! say; and a directory becomes the release that its file describes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fleet::Millis;
use fleet::deployment::{Budget, OnFailure};
use fleet::manifest::EntryKind;
use fleet::release::{Grade, Pin};
use fleetctl::service_file::{self, Placement, VersionSource};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_broken_file_has_its_one_clear_error() {
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(here("tests/service_file")).unwrap().map(|item| item.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    assert!(files.len() >= 25, "only {} broken files were found", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let Err(error) = service_file::parse(Path::new("fleet.yaml"), &text) else {
            wrong.push(format!("{}: it was accepted", path.display()));
            continue;
        };
        let found = format!("error: {error}\n");
        let golden = path.with_extension("err");
        // Written anew with FLEET_BLESS=1; the difference is for people to read.
        if std::env::var_os("FLEET_BLESS").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}--- found\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_loads() {
    let mut count = 0;
    for item in fs::read_dir(here("../examples")).unwrap() {
        let dir = item.unwrap().path();
        if dir.join("fleet.yaml").is_file() {
            service_file::load(&dir).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} examples were found");
}

#[test]
fn the_minimal_file_and_its_defaults() {
    let text = "apiVersion: fleet/v1\nservice: hello\nnodes: role=web\nfiles:\n  - {source: bin/hello, destination: bin/hello, mode: \"0755\"}\nrun: bin/hello --port ${PORT}\nhealth: {http: \"/healthz\"}\n";
    let file = service_file::parse(Path::new("fleet.yaml"), text).unwrap();
    assert_eq!(file.service.as_str(), "hello");
    assert_eq!(file.nodes.get("role").map(String::as_str), Some("web"));
    assert_eq!(file.version, VersionSource::GitDescribe);
    assert_eq!((file.files.len(), file.files[0].mode, file.files[0].placement), (1, Some(0o755), Placement::As));
    assert_eq!((file.files[0].place.line, file.files[0].place.column), (5, 14));
    assert_eq!(file.run.command, ["bin/hello", "--port", "${PORT}"]);
    assert_eq!((file.run.stop_timeout, &file.run.user), (Millis::from_secs(30), &None));
    let health = file.health.unwrap();
    assert_eq!((health.http.as_str(), health.status, health.successes), ("/healthz", 200, 1));
    assert_eq!((health.interval, health.timeout), (Millis::from_secs(1), Millis::from_secs(60)));
    assert_eq!(file.minimum_grade, Grade::Digest);
    assert_eq!(file.deploy, service_file::DeployDefaults::default());
}

#[test]
fn every_supported_key_is_understood() {
    let text = r#"
# A comment, and what follows is every key.
apiVersion: fleet/v1
service: shop
description: |
  Web shop.
  Two lines.
owners: [team-shop, "on"]
release: {version: "2.3.1"}
nodes: "role=web, az=a"
user: shop
files:
  - {source: bin/, destination: bin/, mode: "755"}
  - source: "etc/app.toml"
    destination: ./etc/
  - {source: ./, destination: .}
run:
  command: [bin/shop, --name, "a b", "8080"]
  stop_timeout: 5s
  environment: {MODE: fast, EMPTY: "", LEVEL: "4", URL: "http://x/?a=b"}
health:
  http: {url: "http://127.0.0.1:8080/healthz", status: 204}
  interval: 2s
  successes: 3
  timeout: 1m30s
proof:
  minimum_grade: context
  pin:
    - {path: "/usr/lib/*/libssl.so.3", digest: "sha256:abababababababababababababababababababababababababababababababab"}
    - {path: /usr/bin/python3.11, digest: ["sha256:abababababababababababababababababababababababababababababababab"]}
    - {package: libc6, version: 2.36-9+deb12u10}
    - {package: "libstdc++6", version: ["12.2.0-14", "1:13"]}
deploy:
  segments: [1, "25%", 100%]
  order: spread:az
  parallel: 5
  min_healthy: "75%"
  bake: 60s
  max_failures: "10%"
  on_failure: pause
  pause_after: [1, 2]
  test: {run: tests/smoke.sh --fast, from: controller, timeout: 2m}
  confirm: 45s
hooks:
  migrate: [{run: bin/shop migrate, once: true, timeout: 10m, place: "after:1"}]
"#;
    let file = service_file::parse(Path::new("fleet.yaml"), text).unwrap();
    assert_eq!(file.description.as_deref(), Some("Web shop.\nTwo lines.\n"));
    assert_eq!(file.owners, ["team-shop", "on"]);
    assert_eq!(file.version, VersionSource::Literal("2.3.1".parse().unwrap()));
    assert_eq!(file.nodes.len(), 2);
    let rules: Vec<_> = file
        .files
        .iter()
        .map(|rule| (rule.source.as_str(), rule.destination.as_str(), rule.placement, rule.mode))
        .collect();
    assert_eq!(
        rules,
        [
            ("bin", "bin", Placement::Into, Some(0o755)),
            ("etc/app.toml", "etc", Placement::Into, None),
            ("", "", Placement::Into, None)
        ]
    );
    assert_eq!(file.run.command, ["bin/shop", "--name", "a b", "8080"]);
    assert_eq!((file.run.user.as_deref(), file.run.stop_timeout), (Some("shop"), Millis::from_secs(5)));
    let environment: Vec<_> = file.run.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(environment, ["EMPTY=", "LEVEL=4", "MODE=fast", "URL=http://x/?a=b"]);
    let health = file.health.unwrap();
    assert_eq!(
        (health.http.as_str(), health.status, health.successes, health.timeout),
        ("http://127.0.0.1:8080/healthz", 204, 3, Millis::from_secs(90))
    );
    assert_eq!(file.minimum_grade, Grade::Context);
    let by_digest = |path: &str| Pin::File { path: path.into(), digests: vec![fleet::Digest([0xab; 32])] };
    let by_package = |package: &str, versions: &[&str]| Pin::Package {
        package: package.into(),
        versions: versions.iter().map(|version| (*version).to_owned()).collect(),
    };
    assert_eq!(
        file.pins,
        [
            by_digest("/usr/lib/*/libssl.so.3"),
            by_digest("/usr/bin/python3.11"),
            by_package("libc6", &["2.36-9+deb12u10"]),
            by_package("libstdc++6", &["12.2.0-14", "1:13"]),
        ]
    );
    assert_eq!(file.deploy.segments, Some("1,25%,100%".parse().unwrap()));
    assert_eq!(
        (file.deploy.bake, file.deploy.max_failures, file.deploy.on_failure),
        (Some(Millis::from_secs(60)), Some(Budget::Percent(10)), Some(OnFailure::Pause))
    );
    let deploy = &file.deploy;
    assert_eq!(deploy.order.as_ref().map(ToString::to_string).as_deref(), Some("spread:az"));
    assert_eq!((deploy.parallel, deploy.min_healthy), ("5".parse().ok(), "75%".parse().ok()));
    assert_eq!((&deploy.pause_after[..], deploy.confirm), (&[1, 2][..], "45s".parse().ok()));
    let test = deploy.test.as_ref().unwrap();
    assert_eq!((test.run.as_str(), test.from.as_str()), ("tests/smoke.sh --fast", "controller"));
    assert_eq!(test.timeout, Some(Millis::from_secs(120)));
    let migrate = deploy.migrate.as_ref().unwrap();
    assert_eq!((migrate.run.as_str(), migrate.place), ("bin/shop migrate", "after:1".parse().unwrap()));
    assert_eq!(migrate.timeout, Some(Millis::from_secs(600)));
}

/// In a list a number is a size, as in Ansible's `serial`; alone it is a number of parts.
#[test]
fn a_list_of_segments_means_sizes() {
    for (written, cut) in [
        ("3", &[3, 3, 2][..]),
        ("[3]", &[3, 3, 2]),
        ("[5]", &[5, 3]),
        ("[-1]", &[8]),
        ("[1, -1]", &[1, 7]),
        ("[1, 25%, rest]", &[1, 2, 5]),
        ("\"1,25%,100%\"", &[1, 2, 5]),
        ("growing", &[1, 2, 4, 1]),
    ] {
        let text = format!(
            "apiVersion: fleet/v1\nservice: hello\nfiles: [{{source: a, destination: a}}]\nrun: ./a\ndeploy: {{segments: {written}}}\n"
        );
        let file = service_file::parse(Path::new("fleet.yaml"), &text).unwrap();
        assert_eq!(file.deploy.segments.unwrap().cut(8), cut, "{written}");
    }
}

/// One number, one text and one kind of place are enough for most.
#[test]
fn short_forms_of_pauses_tests_and_migrations() {
    let text = "apiVersion: fleet/v1\nservice: hello\nfiles: [{source: a, destination: a}]\nrun: ./a\ndeploy: {pause_after: 1, test: tests/smoke.sh, confirm: off}\nhooks: {migrate: [{run: ./a migrate, once: true}]}\n";
    let deploy = service_file::parse(Path::new("fleet.yaml"), text).unwrap().deploy;
    assert_eq!((&deploy.pause_after[..], deploy.confirm), (&[1][..], "off".parse().ok()));
    let test = deploy.test.unwrap();
    assert_eq!((test.run.as_str(), test.from.as_str(), test.timeout), ("tests/smoke.sh", "operator", None));
    assert_eq!(deploy.migrate.unwrap().place, "before:1".parse().unwrap());
}

/// An application's directory with a service file that ships `files` (YAML flow items).
struct App(tempfile::TempDir);

impl App {
    fn new(files: &str, run: &str) -> Self {
        let app = Self(tempfile::tempdir().unwrap());
        app.write(
            "fleet.yaml",
            0o644,
            &format!(
                "apiVersion: fleet/v1\nservice: hello\nrelease: {{version: \"1.0\"}}\nfiles: [{files}]\nrun: {run}\n"
            ),
        );
        app
    }

    fn write(&self, path: &str, mode: u32, content: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn describe(&self) -> Result<fleet::release::Descriptor, String> {
        let said = |error: service_file::ServiceFileError| {
            error.to_string().replace(&format!("{}/", self.path().display()), "")
        };
        service_file::load(self.path()).map_err(said)?.describe(self.path()).map_err(said)
    }

    /// The entries as `path mode`, with `/` after directories.
    fn entries(&self) -> Vec<String> {
        let shown = |entry: &fleet::manifest::Entry| match &entry.kind {
            EntryKind::File { .. } => format!("{} {:04o}", entry.path, entry.mode),
            EntryKind::Directory => format!("{}/ {:04o}", entry.path, entry.mode),
            EntryKind::Symlink { target } => format!("{} -> {target}", entry.path),
        };
        self.describe().unwrap().manifest.entries().iter().map(shown).collect()
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let error = self.describe().unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }
}

#[test]
fn directories_ship_their_contents_and_files_go_where_they_are_told() {
    let app = App::new(
        "{source: bin/, destination: bin}, {source: etc, destination: conf/, mode: \"0640\"}, {source: app.py, destination: lib/py/}, {source: app.py, destination: lib/other.py}",
        "bin/hello",
    );
    app.write("bin/hello", 0o775, "x")
        .write("bin/sub/.hidden", 0o600, "y")
        .write("etc/a.toml", 0o644, "z")
        .write("app.py", 0o644, "p");
    symlink("hello", app.path().join("bin/hi")).unwrap();
    symlink("../hello", app.path().join("bin/sub/up")).unwrap();
    fs::create_dir(app.path().join("bin/empty")).unwrap();
    assert_eq!(
        app.entries(),
        [
            "bin/ 0755",
            "bin/empty/ 0755",
            "bin/hello 0755",
            "bin/hi -> hello",
            "bin/sub/ 0755",
            "bin/sub/.hidden 0644",
            "bin/sub/up -> ../hello",
            "conf/ 0755",
            "conf/a.toml 0640",
            "lib/ 0755",
            "lib/other.py 0644",
            "lib/py/ 0755",
            "lib/py/app.py 0644"
        ]
    );
}

#[test]
fn sources_stay_in_their_directory_and_exist() {
    let app = App::new("{source: bin/hello, destination: bin/hello}", "bin/hello");
    app.refused(&["fleet.yaml:4:18: 'bin/hello' does not exist", "built first"]);
    let app = App::new("{source: etc/x, destination: x}", "sh");
    app.refused(&["fleet.yaml:4:18: 'etc/x' does not exist", "relative to"]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path(), app.path().join("etc")).unwrap();
    app.refused(&["'etc/x' does not exist"]);
    fs::write(outside.path().join("x"), "s").unwrap();
    app.refused(&["fleet.yaml:4:18: 'etc/x' leads to", "outside the directory"]);
    // Inside a shipped directory a link is shipped as a link, and refused when it leads out of the release.
    let app = App::new("{source: d, destination: d}", "sh");
    app.write("d/file", 0o644, "x");
    symlink("/etc/passwd", app.path().join("d/out")).unwrap();
    app.refused(&["fleet.yaml:4:18: link 'd/out' points to '/etc/passwd', outside the release"]);
    fs::remove_file(app.path().join("d/out")).unwrap();
    nix::unistd::mkfifo(&app.path().join("d/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    app.refused(&["d/pipe' is neither a file nor a directory nor a link"]);
}

#[test]
fn two_sources_cannot_fill_one_path() {
    let app = App::new("{source: a, destination: x}, {source: b, destination: x}", "sh");
    app.write("a", 0o644, "1").write("b", 0o644, "2");
    app.refused(&["fleet.yaml:4:", "'x' of the release is already filled by line 4"]);
    let app = App::new("{source: a, destination: x}, {source: b, destination: x/y}", "sh");
    app.write("a", 0o644, "1").write("b", 0o644, "2");
    app.refused(&["'x' of the release is already filled by line 4"]);
    let app = App::new("{source: d1, destination: x}, {source: d2, destination: x}", "sh");
    app.write("d1/a", 0o644, "1").write("d2/b", 0o644, "2");
    assert_eq!(app.entries(), ["x/ 0755", "x/a 0644", "x/b 0644"], "two directories may be merged");
    let app = App::new("{source: d1, destination: .fleet}", "sh");
    app.write("d1/a", 0o644, "1").refused(&["'.fleet'", "reserved"]);
}

#[test]
fn the_program_must_be_there_and_executable() {
    let app = App::new("{source: app, destination: bin/app}", "bin/other --x");
    app.write("app", 0o755, "x").refused(&["fleet.yaml:5:6: 'run' starts 'bin/other', which is not in the release"]);
    let app = App::new("{source: app, destination: bin/app, mode: \"0644\"}", "./bin/app");
    app.write("app", 0o755, "x").refused(&["'./bin/app', which has mode 0644 and cannot be executed"]);
    let app = App::new("{source: app, destination: bin/app}", "/usr/bin/env python3");
    app.write("app", 0o644, "x").describe().unwrap();
}

#[test]
fn the_version_comes_from_the_file_or_from_git() {
    let app = App::new("{source: app, destination: app}", "./app");
    app.write("app", 0o755, "x").write("VERSION", 0o644, "4.5.6\n");
    assert_eq!(app.describe().unwrap().version.as_str(), "1.0");
    let with = |version: &str| {
        let text = format!(
            "apiVersion: fleet/v1\nservice: hello\n{version}files: [{{source: app, destination: app}}]\nrun: ./app\n"
        );
        app.write("fleet.yaml", 0o644, &text).describe()
    };
    assert_eq!(with("release: {version: file:VERSION}\n").unwrap().version.as_str(), "4.5.6");
    let error = with("release: {version: file:NO}\n").unwrap_err();
    assert!(error.contains("fleet.yaml:3:20: 'NO' does not exist"), "{error}");
    app.write("VERSION", 0o644, "not a version\n");
    assert!(with("release: {version: file:VERSION}\n").unwrap_err().contains("'not a version' is not a version"));
    let error = with("").unwrap_err();
    assert!(error.contains("no release.version") && error.contains("help: set release"), "{error}");

    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
        command.arg("-C").arg(app.path()).args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "tag.gpgsign=false",
        ]);
        assert!(command.args(arguments).output().unwrap().status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    assert!(with("").unwrap_err().contains("git describe finds none"), "a repository without commits has no version");
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    git(&["tag", "v1.2.3"]);
    assert_eq!(with("").unwrap().version.as_str(), "v1.2.3");
    app.write("app", 0o755, "changed");
    assert_eq!(with("release: {version: git-describe}\n").unwrap().version.as_str(), "v1.2.3-dirty");
}

#[test]
fn a_directory_becomes_a_bundle_that_unpacks_to_it() {
    let app =
        App::new("{source: bin/, destination: bin/}, {source: etc/a, destination: etc/a, mode: \"0640\"}", "bin/hello");
    app.write("bin/hello", 0o755, "#!/bin/sh\n").write("etc/a", 0o600, "a = 1\n");
    let room = tempfile::tempdir().unwrap();
    let out = room.path().join("hello-1.0.fleet.tar.zst");
    let packed = service_file::pack_directory(app.path(), &out).unwrap();
    assert_eq!(fleet_bundle::digest(&mut fs::File::open(&out).unwrap()).unwrap(), (packed.digest, packed.size));
    assert_eq!(packed.descriptor, app.describe().unwrap());
    let release = room.path().join("release");
    fleet_bundle::unpack_exactly(&mut fs::File::open(&out).unwrap(), &packed.digest, &release).unwrap();
    assert_eq!(fs::read_to_string(release.join("etc/a")).unwrap(), "a = 1\n");
    assert_eq!(fs::metadata(release.join("etc/a")).unwrap().permissions().mode() & 0o777, 0o640);
    // The same sources again, by another way to name them and after a touch: the same release.
    app.write("etc/a", 0o644, "a = 1\n");
    let again = service_file::pack_directory(&app.path().join("fleet.yaml"), &room.path().join("again")).unwrap();
    assert_eq!(again, packed);
    // A failure leaves what was there, and nothing beside it.
    fs::remove_file(app.path().join("bin/hello")).unwrap();
    service_file::pack_directory(app.path(), &out).unwrap_err();
    assert_eq!(fleet_bundle::digest(&mut fs::File::open(&out).unwrap()).unwrap().0, packed.digest);
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 3);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let room = tempfile::tempdir().unwrap();
    let said = |path: &Path| service_file::load(path).unwrap_err().to_string();
    assert!(said(room.path()).contains("there is no") && said(room.path()).contains("help: name a directory"));
    fs::write(room.path().join("appspec.yml"), "version: 0.0\n").unwrap();
    assert!(said(room.path()).contains("appspec.yml"));
    fs::write(room.path().join("fleet.yml"), "").unwrap();
    assert!(said(room.path()).contains("rename it"));
    let file = room.path().join("fleet.yaml");
    fs::write(&file, b"service: \xff\n").unwrap();
    assert!(said(room.path()).contains("not UTF-8"));
    fs::write(&file, vec![b'#'; 300 * 1024]).unwrap();
    assert!(said(&file).contains("larger than 262144 bytes"));
    fs::write(&file, "a: ".repeat(50_000)).unwrap();
    assert!(said(&file).contains("fleet.yaml:1:"), "{}", said(&file));
    fs::write(&file, "[".repeat(200_000)).unwrap();
    assert!(said(&file).contains("nested") || said(&file).contains("valid YAML"), "{}", said(&file));
}
