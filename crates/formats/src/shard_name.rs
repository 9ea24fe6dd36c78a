//! The names of files that one model was split into.

use crate::FormatError;
use crate::error::shown;

/// Digits of a shard's number.
const DIGITS: usize = 5;

/// A file name of the form `PREFIX-00001-of-00003.EXTENSION`, as GGUF and safetensors shards have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardName<'a> {
    /// What stands before the number.
    pub prefix: &'a str,
    /// From 1 to `count`.
    pub number: u32,
    /// Shards altogether.
    pub count: u32,
    /// Without its dot.
    pub extension: &'a str,
}

impl<'a> ShardName<'a> {
    /// Reads a file name; `None` when it has another form, or a number that is not from 1 to the count.
    #[must_use]
    pub fn parse(file_name: &'a str, extension: &'a str) -> Option<Self> {
        let rest = file_name.strip_suffix(extension)?.strip_suffix('.')?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let (number, count) = (digits(number)?, digits(count)?);
        (!prefix.is_empty() && (1..=count).contains(&number)).then_some(Self { prefix, number, count, extension })
    }

    /// The file name of shard `number` of the same model.
    #[must_use]
    pub fn of(&self, number: u32) -> String {
        let Self { prefix, count, extension, .. } = self;
        format!("{prefix}-{number:0DIGITS$}-of-{count:0DIGITS$}.{extension}")
    }
}

impl ShardName<'_> {
    /// Refuses shards of which some are `missing`, or one has the number 0, `from_zero`.
    pub(crate) fn check_all(&self, missing: &[u32], from_zero: bool) -> Result<(), FormatError> {
        let beside = self.of(self.number);
        let (shard, reason) = match missing {
            [] if !from_zero => return Ok(()),
            [] => (self.of(0), format!("is one too many beside those from 1 to {}: shards count from 1", self.count)),
            [first, others @ ..] => {
                let mut reason = format!("is missing: it should be beside {}", shown(&beside));
                if let Some(last) = others.last() {
                    reason.push_str(&format!("; so are {} more, up to {}", others.len(), shown(&self.of(*last))));
                }
                if from_zero {
                    reason.push_str(&format!("; there is {}, but shards count from 1", shown(&self.of(0))));
                }
                (self.of(*first), reason)
            }
        };
        Err(FormatError::Shard { shard: shown(&shard), reason })
    }
}

/// Exactly five digits and nothing else: `parse` alone would take a sign.
fn digits(text: &str) -> Option<u32> {
    (text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_form_only() {
        let name = ShardName::parse("a-of-b-00002-of-00003.gguf", "gguf").unwrap();
        assert_eq!((name.prefix, name.number, name.count), ("a-of-b", 2, 3));
        assert_eq!(name.of(3), "a-of-b-00003-of-00003.gguf");
        for other in [
            "a.gguf",
            "-00001-of-00003.gguf",
            "a-00001-of-00003.bin",
            "a-00001-of-00003gguf",
            "a-0001-of-00003.gguf",
            "a-000001-of-00003.gguf",
            "a-+0001-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-00004-of-00003.gguf",
            "a-00001-of-0000३.gguf",
            "a-00001-OF-00003.gguf",
        ] {
            assert_eq!(ShardName::parse(other, "gguf"), None, "{other}");
        }
    }
}
