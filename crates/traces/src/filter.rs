//! Which requests are asked for.

use metering::Outcome;
use rusqlite::types::Value;

/// What requests must have; each that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this organisation.
    pub organisation: Option<String>,
    /// Of this project.
    pub project: Option<String>,
    /// By the key of this id.
    pub key: Option<String>,
    /// Of this model; of an adapter its full name.
    pub model: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// This text, in any case, in id, organisation, project, key, model, user or error.
    pub text: Option<String>,
    /// Received at this time or later, in milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// Received before this time, in milliseconds since the epoch.
    pub to_ms: Option<i64>,
    /// That took at least so long, from reception to the end.
    pub min_e2e_ns: Option<u64>,
}

/// Which of them: always the newest ones first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Of a smaller [`number`](crate::Kept::number) only.
    pub before: Option<u64>,
    /// Of a larger number only.
    pub since: Option<u64>,
    /// Most of them.
    pub limit: usize,
}

impl Filter {
    /// The condition in SQL, and its values in order.
    pub(crate) fn sql(&self, page: &Page) -> (String, Vec<Value>) {
        let whole = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let search = self.text.as_ref().map(|text| Value::Text(text.to_lowercase()));
        let parts = [
            ("organisation = ?", text(&self.organisation)),
            ("project = ?", text(&self.project)),
            ("key_id = ?", text(&self.key)),
            ("model = ?", text(&self.model)),
            ("outcome = ?", self.outcome.map(|outcome| Value::Text(outcome.as_str().to_owned()))),
            ("instr(search, ?) > 0", search),
            ("received_ms >= ?", self.from_ms.map(Value::Integer)),
            ("received_ms < ?", self.to_ms.map(Value::Integer)),
            ("e2e_ns >= ?", self.min_e2e_ns.map(whole)),
            ("number < ?", page.before.map(whole)),
            ("number > ?", page.since.map(whole)),
        ];
        let (mut condition, mut values) = ("1".to_owned(), Vec::new());
        for (part, value) in parts {
            if let Some(value) = value {
                condition.push_str(" AND ");
                condition.push_str(part);
                values.push(value);
            }
        }
        (condition, values)
    }
}
