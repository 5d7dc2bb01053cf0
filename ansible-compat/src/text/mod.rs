//! The texts inside inventories, each by the rules of the Python parser Ansible hands it to.
//!
//! Nothing here knows hosts or groups as a whole; that is `model` and `inventory`.

pub(crate) mod host_range;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod literal;
pub(crate) mod literal_tokens;
pub(crate) mod node;
pub(crate) mod python_text;
pub(crate) mod shell_words;
pub(crate) mod yaml;
pub(crate) mod yaml_scalar;
pub(crate) mod yaml_time;
