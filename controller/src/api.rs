//! The operators' side of the wire: who may call what, and the calls themselves. Identity is checked in one layer
//! before any of them; what is asked is answered by the mind.

mod access;
mod operator;
mod show;

pub use access::{AccessLayer, TABLE};
pub use operator::OperatorService;

use fleet::outcome::exit;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::mind::Refusal;

/// The most characters of a refusal: headers are limited to 16 KiB, and percent-encoding makes twelve bytes of some.
const LONGEST_WORDS: usize = 1_000;

/// A refusal on the wire: the exit code and the way out travel beside the message.
pub fn status(refusal: Refusal) -> Status {
    let code = match refusal.exit {
        exit::DATA => Code::InvalidArgument,
        exit::BUSY => Code::FailedPrecondition,
        exit::NOT_ALLOWED => Code::PermissionDenied,
        exit::UNAVAILABLE => Code::Unavailable,
        _ => Code::NotFound,
    };
    let mut metadata = MetadataMap::new();
    metadata.insert("fleet-exit", MetadataValue::from(u32::from(refusal.exit)));
    metadata.insert_bin("fleet-help-bin", MetadataValue::from_bytes(refusal.help.as_bytes()));
    // It travels in a header; words of whoever asked may be in it.
    let what = refusal.what.chars().take(LONGEST_WORDS).collect::<String>();
    Status::with_metadata(code, what, metadata)
}
