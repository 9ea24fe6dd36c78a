//! What is asked: work whose answer copies the question, and ordinary talk.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Code to be edited and texts to be quoted, greedy
    Copy,
    /// Ordinary questions, sampled with a seed
    Chat,
}

impl Kind {
    /// All kinds.
    pub(super) const ALL: [Self; 2] = [Self::Copy, Self::Chat];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy-heavy",
            Self::Chat => "ordinary chats",
        }
    }

    /// The body of question number `index`: the same for both sides of a pair.
    pub(super) fn body(self, index: u32, model: &str, max_tokens: u32) -> Value {
        let content = match self {
            Self::Copy => copy(index as usize),
            Self::Chat => QUESTIONS[index as usize % QUESTIONS.len()].to_owned(),
        };
        json!({
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "temperature": if self == Self::Copy { 0.0 } else { 0.8 },
            "seed": index,
        })
    }
}

/// Code and texts in turn; another task for the same source comes after all sources.
fn copy(index: usize) -> String {
    let (source, task) = (index / 2 % CODES.len(), index / (2 * CODES.len()) % 2);
    if index.is_multiple_of(2) {
        let (language, code) = CODES[source];
        format!("{}\n\n```{language}\n{code}\n```", EDITS[task])
    } else {
        format!("{}\n\n{}", QUOTES[task], TEXTS[source])
    }
}

const EDITS: [&str; 2] = [
    "Add a doc comment to this function and print the whole function:",
    "Repeat this code exactly, without any change:",
];

const QUOTES: [&str; 2] = [
    "Correct the spelling of the following text and print it in full:",
    "Copy the following text without any change, then name its topic:",
];

const CODES: [(&str, &str); 5] = [
    (
        "rust",
        r#"fn parse_port(text: &str) -> Result<u16, String> {
    let port = text.trim();
    if port.is_empty() {
        return Err("the port is empty".to_string());
    }
    match port.parse::<u16>() {
        Ok(0) => Err("the port must not be 0".to_string()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{port}: {error}")),
    }
}"#,
    ),
    (
        "python",
        r#"def mean_temperature(readings):
    total = 0
    count = 0
    for reading in readings:
        if reading is None:
            continue
        total += reading
        count += 1
    if count == 0:
        raise ValueError("no readings")
    return total / count"#,
    ),
    (
        "javascript",
        r#"function debounce(callback, delay) {
  let timer = null;
  let lastArguments = null;
  return function (...callArguments) {
    lastArguments = callArguments;
    if (timer !== null) {
      clearTimeout(timer);
    }
    timer = setTimeout(() => {
      timer = null;
      callback.apply(this, lastArguments);
    }, delay);
  };
}"#,
    ),
    (
        "c",
        r#"static int count_words(const char *text, size_t length)
{
    int words = 0;
    int inside = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\t') {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    return words;
}"#,
    ),
    (
        "go",
        r#"func (c *Cache) Get(key string) (string, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	entry, found := c.entries[key]
	if !found {
		c.misses++
		return "", false
	}
	if time.Now().After(entry.expires) {
		delete(c.entries, key)
		c.misses++
		return "", false
	}
	c.hits++
	return entry.value, true
}"#,
    ),
];

const TEXTS: [&str; 5] = [
    "The lighthouse at the northern cape was built in 1874 by a crew of forty masons. Its lamp burned whale oil until 1903, \
     when the keeper installed a petroleum burner that could be seen from nineteen miles away. In the winter of 1921 a \
     storm broke the eastern window, and the keeper's daughter held the lamp by hand for six hours until the supply boat \
     had passed the reef.",
    "The council met on Tuesday to decide about the old tram depot. Three architects presented their plans: a covered \
     market, a school of music and a hall for winter sports. Councillor Marta Lindqvist said that the market would cost \
     four million and pay for itself in eleven years. The vote was postponed until the engineers have examined the roof.",
    "Bread dough rises because yeast turns sugar into carbon dioxide. The gas is caught in a net of gluten, which forms \
     when flour and water are kneaded together. A cold dough rises slowly and tastes better, because bacteria have time \
     to make acids. A dough that has risen for too long collapses in the oven, since its net is torn.",
    "The contract begins on 1 March and ends on 28 February of the following year. Either party may end it with three \
     months' notice in writing. The supplier delivers four hundred crates each week, and the buyer pays within thirty \
     days of the invoice. If a delivery is late by more than five days, the buyer may deduct two percent of its price.",
    "Migrating storks leave the marshes in the last week of August. They gather in flocks of several hundred birds and \
     circle on warm air until they are a thousand metres high. From there they glide toward the south, sometimes for \
     forty kilometres without a single beat of their wings. Young birds leave first, although none of them has ever \
     seen the way.",
];

const QUESTIONS: [&str; 24] = [
    "What is the capital of Australia, and why was it chosen?",
    "Give me three ideas for a birthday party for a six-year-old.",
    "How does a refrigerator work?",
    "Write a short poem about the sea in autumn.",
    "What should I pay attention to when I buy a used bicycle?",
    "Explain the difference between weather and climate.",
    "I cannot sleep at night. What can I try?",
    "Tell me a story about a fox and a clockmaker.",
    "What are the advantages and disadvantages of working from home?",
    "How do I make a simple tomato soup?",
    "Who was Marie Curie?",
    "Write a polite email that declines an invitation to a conference.",
    "What is a prime number? Give some examples.",
    "How can a small town attract more visitors?",
    "Explain to a child why the sky is blue.",
    "What is the best way to learn a new language?",
    "Describe a walk through an old library.",
    "Why did the Roman Empire fall?",
    "Write a function in Python that checks whether a word is a palindrome.",
    "What do bees do in winter?",
    "Give me a plan for my first five-kilometre run.",
    "What is inflation, and who is hurt by it?",
    "Suggest a name and a slogan for a bakery.",
    "How do vaccines protect people?",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn questions_differ_and_both_sides_get_the_same() {
        for kind in Kind::ALL {
            let bodies: BTreeSet<String> = (0..20).map(|index| kind.body(index, "m", 9).to_string()).collect();
            assert_eq!(bodies.len(), 20);
            assert_eq!(kind.body(21, "m", 9), kind.body(21, "m", 9));
        }
        let asked = Kind::Copy.body(2, "m", 9);
        assert!(asked["messages"][0]["content"].as_str().unwrap().contains("```python\ndef mean_temperature"));
        assert_eq!(asked["temperature"], 0.0);
    }
}
