//! The programs of others that read what `fleetctl` writes: each form is judged by its own reader, not by us. Where one is
//! not installed this is said loudly, once, and nothing is judged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::disk::skip;
use crate::output::Output;
use crate::workspace::Workspace;

/// One value of a plugin's performance data, as `Monitoring::Plugin` understood it.
#[derive(Debug, Clone, PartialEq)]
pub struct Perf {
    /// Its name.
    pub label: String,
    /// Value, unit, warning, critical, least and most, as text.
    pub fields: Vec<String>,
    /// The state that its own thresholds give it: 0, 1, 2.
    pub state: String,
}

/// Whether a program can be started at all.
fn has(reader: &str, command: &mut Command) -> bool {
    let found = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        skip(reader, "it is not installed, so it has judged nothing");
    }
    found
}

#[track_caller]
fn read(command: &mut Command, text: &str) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Output::of(command.stdin(file.reopen().unwrap()))
}

fn schema(name: &str) -> PathBuf {
    Workspace::built().root.join("docs/schemas").join(name)
}

/// `promtool check metrics`: the text is well formed, and its names and types are as they should be.
#[track_caller]
pub fn promtool_metrics(text: &str) {
    if has("promtool check metrics", Command::new("promtool").arg("--version")) {
        let output = read(Command::new("promtool").args(["check", "metrics"]), text).expect(0);
        assert_eq!(output.all(), "", "no complaint at all: {output}\n{text}");
    }
}

/// `promtool check rules` and `promtool test rules`.
#[track_caller]
pub fn promtool_rules(folder: &Path, rules: &str, tests: &str) {
    if has("promtool check rules", Command::new("promtool").arg("--version")) {
        Output::of(Command::new("promtool").args(["check", "rules", rules]).current_dir(folder)).expect(0);
        Output::of(Command::new("promtool").args(["test", "rules", tests]).current_dir(folder)).expect(0);
    }
}

/// xmllint with `docs/schemas/junit.xsd`.
#[track_caller]
pub fn xmllint_junit(text: &str) {
    if has("xmllint --schema", Command::new("xmllint").arg("--version")) {
        let mut lint = Command::new("xmllint");
        read(lint.args(["--noout", "--nonet", "--schema"]).arg(schema("junit.xsd")).arg("-"), text).expect(0);
    }
}

/// Python's jsonschema with a schema of `docs/schemas`. Stricter than what others shall be: a field that the schema does
/// not name is refused, so that the schema stays whole.
#[track_caller]
pub fn jsonschema(name: &str, document: &Value) {
    const SCRIPT: &str = r"
import json, sys, jsonschema
def strict(node):
    if isinstance(node, dict):
        if 'properties' in node and node.get('type') == 'object':
            node['additionalProperties'] = False
        for value in node.values():
            strict(value)
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
strict(schema)
errors = list(jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin)))
for error in errors:
    print(list(error.absolute_path), error.message[:300])
sys.exit(1 if errors else 0)
";
    if has("python3 jsonschema", Command::new("python3").args(["-c", "from jsonschema import Draft202012Validator"])) {
        read(Command::new("python3").args(["-c", SCRIPT]).arg(schema(name)), &document.to_string()).expect(0);
    }
}

/// Python's csv: every record has as many fields as the heading.
#[track_caller]
pub fn python_csv(text: &str) {
    const SCRIPT: &str = r"
import csv, io, sys
rows = list(csv.reader(io.StringIO(sys.stdin.buffer.read().decode('utf-8'), newline=''), strict=True))
assert rows and all(len(row) == len(rows[0]) for row in rows), rows
";
    if has("python3 csv", Command::new("python3").args(["-c", "import csv"])) {
        read(Command::new("python3").args(["-c", SCRIPT]), text).expect(0);
    }
}

/// `Monitoring::Plugin` on a plugin's whole output; None where it is not installed.
#[track_caller]
pub fn monitoring_plugin(output: &Output) -> Option<Vec<Perf>> {
    const SCRIPT: &str = r#"
use strict; use warnings;
use Monitoring::Plugin::Functions qw(%STATUS_TEXT);
use Monitoring::Plugin::Performance;
my ($code, @lines) = (shift @ARGV, <STDIN>);
my ($text, $perf) = split /\|/, $lines[0], 2;
die "no state $code" unless exists $STATUS_TEXT{$code};
die "the line does not say $STATUS_TEXT{$code}: $text" unless $text =~ /^FLEET DRIFT $STATUS_TEXT{$code} - /;
die "more than 80 columns: $text" if length($text) > 81;
/\|/ and die "performance data among the details: $_" for @lines[1 .. $#lines];
for my $p ($perf ? Monitoring::Plugin::Performance->parse_perfstring($perf) : ()) {
    my $state = eval { $p->threshold->get_status($p->value) };
    print join("\t", map { $_ // '' } $p->label, $state, $p->value, $p->uom, $p->warning, $p->critical, $p->min, $p->max), "\n";
}
"#;
    if !has("Monitoring::Plugin", Command::new("perl").args(["-MMonitoring::Plugin", "-e", "1"])) {
        return None;
    }
    let mut perl = Command::new("perl");
    let said = read(perl.args(["-CS", "-e", SCRIPT]).arg(output.code.to_string()), &output.stdout).expect(0);
    let perf = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Perf { label: fields.next().unwrap(), state: fields.next().unwrap(), fields: fields.collect() }
    };
    Some(said.stdout.lines().map(perf).collect())
}

/// `systemd-analyze verify` of unit files.
#[track_caller]
pub fn systemd_analyze(units: &[PathBuf]) {
    if has("systemd-analyze verify", Command::new("systemd-analyze").arg("--version")) {
        let output = Output::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units)).expect(0);
        let ours = |line: &&str| units.iter().any(|unit| line.contains(&*unit.file_name().unwrap().to_string_lossy()));
        let complaints: Vec<_> = output.stderr.lines().filter(ours).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// `systemd-analyze security` of a unit file: its exposure, in tenths, is at most so much.
#[track_caller]
pub fn systemd_security(unit: &Path, most: u32) {
    if has("systemd-analyze security", Command::new("systemd-analyze").arg("--version")) {
        let threshold = format!("--threshold={most}");
        let mut security = Command::new("systemd-analyze");
        Output::of(security.args(["security", "--no-pager", "--offline=true", &threshold]).arg(unit)).expect(0);
    }
}
