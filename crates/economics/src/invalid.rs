//! One shape for everything refused in what people write: which field, what is wrong, what to do.

/// A refused value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}; {fix}", self.place())]
pub struct Invalid {
    /// Where, e.g. `price standard/gpt-4-turbo: tiers[1].input`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Invalid {
    /// An error about `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), fix: fix.into() }
    }

    fn place(&self) -> String {
        if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) }
    }

    /// The same error, its field seen from one level further out.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let field = match (outer, self.field.as_str()) {
            (outer, "") => outer.to_owned(),
            ("", field) => field.to_owned(),
            (outer, field) => format!("{outer}.{field}"),
        };
        Self { field, ..self }
    }
}
