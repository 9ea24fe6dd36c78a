//! The query of a URL read parameter by parameter, as [`crate::fields::Fields`] reads bodies.

use std::ops::RangeBounds;

use axum::extract::Query as Pairs;
use axum::http::Uri;

use crate::error::ApiError;
use crate::fields::short;

/// The parameters that were not read yet.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Those of a URL; each may be given once.
    pub(crate) fn of(uri: &Uri) -> Result<Self, ApiError> {
        Self::with_lists(uri, &[])
    }

    /// Those of a URL; each may be given once, those of `lists` any number of times, also as `name[]`.
    pub(crate) fn with_lists(uri: &Uri, lists: &[&str]) -> Result<Self, ApiError> {
        let Pairs(mut pairs): Pairs<Vec<(String, String)>> = Pairs::try_from_uri(uri)
            .map_err(|error| ApiError::bad_request(format!("the query cannot be read: {}", error.body_text())))?;
        for (name, _) in &mut pairs {
            if name.strip_suffix("[]").is_some_and(|plain| lists.contains(&plain)) {
                name.truncate(name.len() - 2);
            }
        }
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !lists.contains(&name.as_str()) && pairs.iter().take(index).any(|(other, _)| other == name) {
                let name = short(name);
                return Err(ApiError::field(&name, format!("`{name}` is given twice; give it once")));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter as it came.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// All values of a parameter that is a list, as they came.
    pub(crate) fn list(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(known, _)| known == name).map(|(_, value)| value).collect()
    }

    /// A whole number within `range` and within what `T` can hold.
    pub(crate) fn integer<T: TryFrom<i128>>(
        &mut self,
        name: &str,
        expected: &str,
        range: impl RangeBounds<i128>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let whole = text.parse::<i128>().ok().filter(|whole| range.contains(whole));
        let number = whole.and_then(|whole| T::try_from(whole).ok());
        number.map(Some).ok_or_else(|| wrong(name, expected, &text))
    }

    /// A time in Unix seconds, up to the end of the year 9999.
    pub(crate) fn time(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        const LATEST_S: i128 = 253_402_300_799;
        self.integer(name, "Unix seconds up to the end of the year 9999", 0..=LATEST_S)
    }

    /// One of `words`.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
        match self.text(name) {
            Some(text) if !words.contains(&text.as_str()) => Err(wrong(name, &one_of(words), &text)),
            text => Ok(text),
        }
    }

    /// Some of `words`, with commas between them; empty when not given.
    pub(crate) fn words(&mut self, name: &str, words: &[&str]) -> Result<Vec<String>, ApiError> {
        let text = self.text(name).unwrap_or_default();
        let given: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).filter(|w| !w.is_empty()).collect();
        match given.iter().find(|word| !words.contains(&word.as_str())) {
            Some(unknown) => Err(wrong(name, &format!("some of {}", words.join(", ")), unknown)),
            None => Ok(given),
        }
    }

    /// Refuses what was not read: nobody knows it.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let name = short(name);
        let message = format!("unrecognized parameter `{name}`; remove it or correct its name");
        Err(ApiError::field(name, message).with_code("unrecognized_parameter"))
    }
}

fn one_of(words: &[&str]) -> String {
    words.join(" or ")
}

fn wrong(name: &str, expected: &str, text: &str) -> ApiError {
    ApiError::field(name, format!("`{name}` must be {expected}; got `{}`", short(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, ApiError> {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    fn message(error: ApiError) -> (Option<String>, String) {
        let detail = error.body().error;
        (detail.param, detail.message)
    }

    #[test]
    fn lists_are_written_with_and_without_brackets() {
        let uri = "/x?models[]=a&models=b&models%5B%5D=c&limit=1".parse().unwrap();
        let mut query = Query::with_lists(&uri, &["models"]).unwrap();
        assert_eq!((query.list("models"), query.list("models")), (vec!["a".into(), "b".into(), "c".into()], vec![]));
        assert_eq!(query.text("limit").as_deref(), Some("1"));
        query.finish().unwrap();
        let error = Query::of(&"/x?limit[]=1".parse().unwrap()).unwrap().finish().unwrap_err();
        assert_eq!(message(error).0.as_deref(), Some("limit[]"));
    }

    #[test]
    fn parameters_are_read_once_and_errors_name_them() {
        let mut good = query("n=5&by=a,%20b&order=asc").unwrap();
        assert_eq!(good.integer::<u8>("n", "small", 0..=9).unwrap(), Some(5));
        assert_eq!(good.words("by", &["a", "b", "c"]).unwrap(), ["a", "b"]);
        assert_eq!(good.word("order", &["asc", "desc"]).unwrap().as_deref(), Some("asc"));
        assert_eq!(good.integer::<u8>("n", "small", 0..=9).unwrap(), None);
        good.finish().unwrap();
        let (param, said) = message(query("n=1&n=2").unwrap_err());
        assert_eq!((param.as_deref(), said.contains("twice")), (Some("n"), true));
        for bad in ["10", "-1", "x", "", "5.0", "99999999999999999999999999999999999999999"] {
            let error = query(&format!("n={bad}")).unwrap().integer::<u8>("n", "from 0 to 9", 0..=9).unwrap_err();
            let (param, said) = message(error);
            assert_eq!(param.as_deref(), Some("n"));
            assert!(said.contains("must be from 0 to 9; got `"), "{said}");
        }
        let error = query("by=a,z").unwrap().words("by", &["a", "b"]).unwrap_err();
        assert!(message(error).1.contains("some of a, b; got `z`"));
        assert!(
            message(query("order=up").unwrap().word("order", &["asc", "desc"]).unwrap_err()).1.contains("asc or desc")
        );
        assert_eq!(message(query("what=1").unwrap().finish().unwrap_err()).0.as_deref(), Some("what"));
    }
}
