//! Which Ansible is answered for, where its versions differ.
//!
//! Only what a comparison with the real ones has shown is here; everything else is the same in all four.

use std::str::FromStr;

/// A range of ansible-core versions that read inventories alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Edition {
    /// ansible-core 2.16, 2.17 and 2.18.
    Core2_18,
    /// ansible-core 2.19: reads `.ini` files in directories, marks text it does not trust as unsafe, and no longer keeps
    /// `omit` for itself. The default, because it leaves out no file that the earlier ones read.
    #[default]
    Core2_19,
}

/// A version that is none of the four.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of ansible-core known here; write 2.16, 2.17, 2.18 or 2.19")]
pub struct UnknownEdition(String);

impl FromStr for Edition {
    type Err = UnknownEdition;

    /// From `2.17`, or `2.17.14`.
    fn from_str(text: &str) -> Result<Self, UnknownEdition> {
        let unknown = || UnknownEdition(text.to_owned());
        let minor = text.strip_prefix("2.").ok_or_else(unknown)?;
        match minor.split('.').next().unwrap_or_default() {
            "16" | "17" | "18" => Ok(Self::Core2_18),
            "19" => Ok(Self::Core2_19),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_name_editions() {
        assert_eq!("2.16".parse(), Ok(Edition::Core2_18));
        assert_eq!("2.18.19".parse(), Ok(Edition::Core2_18));
        assert_eq!("2.19.14".parse(), Ok(Edition::Core2_19));
        for text in ["", "2", "2.1", "2.20", "3.19", "latest"] {
            assert!(text.parse::<Edition>().is_err(), "{text}");
        }
    }
}
