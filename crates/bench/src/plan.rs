//! What each request of a run asks, decided by the seed alone: the answer of a server never changes the plan.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::args::{Endpoint, Span, WorkArgs};

/// Short common words; one is about one token in most vocabularies.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
];

/// When the client of a request hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// This many milliseconds after sending, whatever came by then (most likely while waiting or in prefill).
    AfterMillis(u64),
    /// After this many chunks with text.
    AfterChunks(u32),
}

/// One request of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The JSON body.
    pub body: Value,
    /// Number of the model asked.
    pub model: usize,
    /// When the client hangs up, if it does.
    pub disconnect: Option<Disconnect>,
}

/// Makes the requests of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    work: WorkArgs,
    models: Vec<String>,
    prefixes: Vec<String>,
}

impl Plan {
    /// A plan for `models`; without one, requests name none.
    #[must_use]
    pub fn new(work: &WorkArgs, models: Vec<String>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(work.seed);
        let prefixes = (0..work.prefixes).map(|_| words(&mut rng, work.prefix_words)).collect();
        Self { work: work.clone(), models, prefixes }
    }

    /// Request number `index`, from 0, to the model whose turn is `turn`.
    #[must_use]
    pub fn request(&self, index: u32, turn: u32) -> Planned {
        let mut rng = ChaCha8Rng::seed_from_u64(self.work.seed);
        rng.set_stream(u64::from(index) + 1);
        let work = &self.work;
        let mut prompt = String::new();
        if rng.random_bool(work.shared.0) {
            prompt.push_str(&self.prefixes[rng.random_range(0..self.prefixes.len())]);
            prompt.push(' ');
        }
        let length = draw(&mut rng, work.prompt_words);
        prompt.push_str(&words(&mut rng, length));
        let max_tokens = draw(&mut rng, work.max_tokens);
        let disconnect = rng.random_bool(work.disconnect.0).then(|| {
            if rng.random_bool(0.5) {
                Disconnect::AfterMillis(rng.random_range(0..500))
            } else {
                Disconnect::AfterChunks(rng.random_range(1..=max_tokens))
            }
        });
        let model = turn as usize % self.models.len().max(1);
        Planned { body: self.body(model, &prompt, max_tokens, rng.random_range(0..1 << 31)), model, disconnect }
    }

    /// When each request arrives, from the start of the run: gaps are exponential, so that arrivals are a Poisson process
    /// of `rate` a second.
    pub fn arrivals(&self, rate: f64) -> impl Iterator<Item = Duration> + use<> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.work.seed);
        rng.set_stream(u64::MAX);
        let mut seconds = 0.0_f64;
        std::iter::repeat_with(move || {
            // From (0, 1], so that the logarithm is finite.
            let left = 1.0 - rng.random::<f64>();
            seconds -= left.ln() / rate;
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        })
    }

    /// Path below the base URL.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self.work.endpoint {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
        }
    }

    fn body(&self, model: usize, prompt: &str, max_tokens: u32, seed: u32) -> Value {
        let mut body = json!({
            "model": self.models.get(model),
            "max_tokens": max_tokens,
            "temperature": self.work.temperature,
            "seed": seed,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        match self.work.endpoint {
            Endpoint::Chat => body["messages"] = json!([{"role": "user", "content": prompt}]),
            Endpoint::Completions => body["prompt"] = json!(prompt),
        }
        if self.work.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        body
    }
}

fn draw(rng: &mut ChaCha8Rng, span: Span) -> u32 {
    rng.random_range(span.from..=span.to)
}

/// So many random words.
pub(crate) fn words(rng: &mut ChaCha8Rng, count: u32) -> String {
    let chosen: Vec<&str> = (0..count).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    chosen.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Share;

    fn work() -> WorkArgs {
        WorkArgs {
            clients: 4,
            rate: None,
            max_in_flight: 4,
            requests: 400,
            seed: 9,
            disconnect: Share(0.25),
            prompt_words: Span { from: 3, to: 7 },
            shared: Share(0.5),
            prefixes: 2,
            prefix_words: 10,
            max_tokens: Span { from: 2, to: 5 },
            endpoint: Endpoint::Completions,
            temperature: 0.5,
            ignore_eos: true,
        }
    }

    #[test]
    fn the_same_seed_asks_the_same_things_in_any_order() {
        let (one, two) = (Plan::new(&work(), vec!["m".to_owned()]), Plan::new(&work(), vec!["m".to_owned()]));
        let forward: Vec<_> = (0..50).map(|i| one.request(i, 0)).collect();
        let mut backward: Vec<_> = (0..50).rev().map(|i| two.request(i, 0)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_ne!(forward[0], forward[1]);
        let other = Plan::new(&WorkArgs { seed: 10, ..work() }, vec!["m".to_owned()]);
        assert_ne!(forward[0], other.request(0, 0));
    }

    #[test]
    fn models_take_turns_and_are_asked_the_same() {
        let plan = Plan::new(&work(), vec!["a".to_owned(), "b".to_owned()]);
        let asked: Vec<Planned> = (0..3).map(|turn| plan.request(7, turn)).collect();
        assert_eq!(asked.iter().map(|planned| planned.model).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!((&asked[0].body["model"], &asked[1].body["model"]), (&json!("a"), &json!("b")));
        assert_eq!(asked[0].body["prompt"], asked[1].body["prompt"]);
        assert_eq!(asked[0], asked[2]);
    }

    #[test]
    fn arrivals_keep_their_rate_and_their_seed() {
        let plan = Plan::new(&work(), vec!["m".to_owned()]);
        let arrivals: Vec<Duration> = plan.arrivals(50.0).take(5000).collect();
        assert!(arrivals.is_sorted());
        let mean = arrivals[4999].as_secs_f64() / 5000.0;
        assert!((0.019..0.021).contains(&mean), "{mean}");
        // Of exponential gaps, a share of 1 - 1/e is shorter than the mean.
        let short = arrivals.windows(2).filter(|pair| (pair[1] - pair[0]).as_secs_f64() < 0.02).count();
        assert!((3000..3320).contains(&short), "{short}");
        assert!(plan.arrivals(50.0).take(5000).eq(arrivals));
    }

    #[test]
    fn lengths_and_shares_are_as_asked() {
        let plan = Plan::new(&work(), vec!["m".to_owned()]);
        let (mut hang_ups, mut shared) = (0, 0);
        for index in 0..400 {
            let planned = plan.request(index, 0);
            let count = planned.body["prompt"].as_str().unwrap().split(' ').count();
            assert!((3..=7).contains(&count) || (13..=17).contains(&count), "{count}");
            shared += u32::from(count > 7);
            let max_tokens = planned.body["max_tokens"].as_u64().unwrap();
            assert!((2..=5).contains(&max_tokens));
            if let Some(Disconnect::AfterChunks(n)) = planned.disconnect {
                assert!(u64::from(n) <= max_tokens);
            }
            hang_ups += u32::from(planned.disconnect.is_some());
        }
        assert!((60..=140).contains(&hang_ups), "{hang_ups}");
        assert!((150..=250).contains(&shared), "{shared}");
    }
}
