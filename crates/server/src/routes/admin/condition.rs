//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110): a record is replaced only where it still is what its writer has read.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use economics::books::Expected;

use crate::error::ApiError;

/// A record with its tag.
pub(super) type Tagged<T> = Result<([(HeaderName, HeaderValue); 1], Json<T>), ApiError>;

/// An answer about a record of this version.
pub(super) fn tagged<T>(version: u64, answer: T) -> Tagged<T> {
    let tag = HeaderValue::from_str(&tag(version)).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::ETAG, tag)], Json(answer)))
}

fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// What a request says of the record that it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) expected: Expected,
    header: &'static str,
    given: String,
}

impl Condition {
    /// What the request's head says; without these headers everything is as expected.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let matching = whole(headers, &header::IF_MATCH, "If-Match")?;
        match (matching, whole(headers, &header::IF_NONE_MATCH, "If-None-Match")?) {
            (None, None) => Ok(Self::default()),
            (Some(given), None) => {
                let expected =
                    if given == "*" { Some(Expected::Present) } else { versions(&given).map(Expected::Versions) };
                let expected = expected.ok_or_else(|| {
                    let fix = "send the `ETag` of the record as it was read, with its quotes (`\"3\"`), or `*`";
                    ApiError::field("If-Match", format!("`If-Match: {}` has no tags; {fix}", shown(&given)))
                })?;
                Ok(Self { expected, header: "If-Match", given })
            }
            (None, Some(given)) if given == "*" => {
                Ok(Self { expected: Expected::Absent, header: "If-None-Match", given })
            }
            (None, Some(given)) => {
                let fix = "send `*` (there must be no such record), or `If-Match`";
                let message = format!("`If-None-Match: {}` is not supported; {fix}", shown(&given));
                Err(ApiError::field("If-None-Match", message))
            }
            (Some(_), Some(_)) => {
                let message = "`If-Match` and `If-None-Match` contradict each other; send one of them";
                Err(ApiError::field("If-Match", message))
            }
        }
    }

    /// 412 for a `record` (its kind and key) of another version; 0: there is none.
    pub(super) fn failed(&self, record: &str, present: u64) -> ApiError {
        let found = match present {
            0 => format!("there is no {record}; to make it leave the header out, or send `If-None-Match: *`"),
            _ if self.expected == Expected::Absent => {
                format!(
                    "{record} is there, with the ETag {}; read it, and send that as `If-Match` to change it",
                    tag(present)
                )
            }
            _ => format!("{record} has the ETag {} by now; read it again, and change what is there", tag(present)),
        };
        let message = format!("`{}: {}` does not hold: {found}", self.header, shown(&self.given));
        ApiError::precondition_failed(message).with_param(self.header)
    }
}

/// A header's value, all its lines together.
fn whole(headers: &HeaderMap, name: &HeaderName, word: &str) -> Result<Option<String>, ApiError> {
    let lines: Result<Vec<&str>, _> = headers.get_all(name).iter().map(HeaderValue::to_str).collect();
    let lines = lines
        .map_err(|_not_text| ApiError::field(word, format!("`{word}` is no text; send the `ETag` of the record")))?;
    Ok((!lines.is_empty()).then(|| lines.join(", ").trim().to_owned()))
}

/// The versions that a list of tags names; a weak tag names none, and neither does one that no record has. `None`: it is no
/// such list.
fn versions(mut list: &str) -> Option<Vec<u64>> {
    let mut versions = Vec::new();
    loop {
        let weak = list.strip_prefix("W/");
        let (text, rest) = weak.unwrap_or(list).strip_prefix('"')?.split_once('"')?;
        let version = text.parse().ok().filter(|version: &u64| weak.is_none() && version.to_string() == text);
        versions.extend(version);
        match rest.trim_start() {
            "" => return Some(versions),
            rest => list = rest.strip_prefix(',')?.trim_start(),
        }
    }
}

fn shown(given: &str) -> String {
    given.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(lines: &[(HeaderName, &'static str)]) -> Result<Expected, ApiError> {
        let lines =
            lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, value)| {
            headers.append(name, value);
        });
        Condition::of(&headers).map(|condition| condition.expected)
    }

    #[test]
    fn conditions_are_read() {
        let (matching, none) = (header::IF_MATCH, header::IF_NONE_MATCH);
        assert_eq!(condition(&[]), Ok(Expected::Anything));
        assert_eq!(condition(&[(none.clone(), "*")]), Ok(Expected::Absent));
        assert_eq!(condition(&[(matching.clone(), " * ")]), Ok(Expected::Present));
        for (text, versions) in [
            ("\"3\"", &[3][..]),
            ("\"3\",\"5\" , \"9\"", &[3, 5, 9]),
            // Weak, of others, and not as they are given.
            ("W/\"3\", \"x,y\", \"03\", \"+3\", \"\", \"4\"", &[4]),
            ("\"99999999999999999999\"", &[]),
        ] {
            assert_eq!(condition(&[(matching.clone(), text)]), Ok(Expected::Versions(versions.to_vec())), "{text}");
        }
        let two = [(matching.clone(), "\"1\""), (matching.clone(), "\"2\"")];
        assert_eq!(condition(&two), Ok(Expected::Versions(vec![1, 2])));
        for text in ["", "3", "\"3", "\"3\" \"4\"", "\"3\",", "*, \"3\"", "w/\"3\"", "\u{e4}"] {
            let error = condition(&[(matching.clone(), text)]).expect_err(text);
            assert!(error.message().contains("If-Match"), "{}", error.message());
        }
        let error = condition(&[(none.clone(), "\"3\"")]).unwrap_err();
        assert!(error.message().contains("`If-None-Match: \"3\"` is not supported"), "{}", error.message());
        assert!(condition(&[(none, "*"), (matching, "*")]).is_err());
    }
}
