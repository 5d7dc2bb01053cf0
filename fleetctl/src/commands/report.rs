//! `--report junit=FILE`: what happened, for CI, in a file of its own. It is written in one step at the end, also when
//! nothing came of it, so that an old report is never taken for this one.

use std::path::PathBuf;
use std::str::FromStr;

use super::output_file::OutputFile;
use super::session::Session;
use crate::failure::Failure;
use fleet::outcome::exit;

/// Where a report goes, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    file: PathBuf,
}

impl FromStr for Report {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("junit", file)) if !file.is_empty() => Ok(Self { file: file.into() }),
            Some(("junit", _)) => Err("name a file: junit=FILE".to_owned()),
            Some((form, _)) => Err(format!("'{form}' is not a form of report: use junit=FILE")),
            None => Err("write the form and the file: junit=FILE".to_owned()),
        }
    }
}

impl Report {
    /// Whether anything can be written there; tried before anything is begun.
    ///
    /// # Errors
    /// 64 for a directory, a device or a pipe; 78 if nothing can be written there.
    pub fn prepare(&self) -> Result<(), Failure> {
        OutputFile::at(&self.file)?;
        crate::config::can_be_written(&self.file)
    }

    /// Writes it. Good news that nobody can read is none: then the exit code is 1; bad news stays what it is.
    pub fn end(&self, session: &Session, text: &str, result: Result<u8, Failure>) -> Result<u8, Failure> {
        let written = OutputFile::at(&self.file).and_then(|file| file.replace(text));
        match (written, result) {
            (Ok(()), result) => result,
            (Err(unwritten), Ok(exit::OK)) => Err(unwritten),
            (Err(unwritten), result) => {
                session.screen.insist(unwritten.to_text().trim_end());
                result
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_form_and_a_file() {
        assert_eq!("junit=a=b.xml".parse(), Ok(Report { file: "a=b.xml".into() }));
        for bad in ["", "junit", "junit=", "sarif=x", "=x"] {
            assert!(bad.parse::<Report>().is_err(), "{bad}");
        }
    }
}
