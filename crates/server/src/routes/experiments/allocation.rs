//! Thompson's weights: once an hour those of each running experiment that has them are written anew, as its next version.

use std::sync::Arc;
use std::time::Duration;

use economics::books::{Books, ChangeError, Expected};
use economics::directory::authority::Authority;
use economics::directory::record::Record;
use economics::experiment::{Allocation, Experiment, State};
use tokio::time::{MissedTickBehavior, interval};

use super::results::Results;
use crate::app::{App, in_turn, unix_ms};
use crate::error::ApiError;

/// Who the audit says changed the weights. No id of a key holds a `/`.
const ACTOR: &str = "server/thompson";
/// How long weights stay at least.
const KEPT_MS: i64 = 3_600_000;
/// How often is looked for weights that are old.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Looks after the weights as long as the server runs.
pub(crate) async fn keep_allocating(app: Arc<App>) {
    let Some(books) = app.books.clone() else { return };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let books = Arc::clone(&books);
        let turn = in_turn(Arc::clone(&app.books_turns), move || {
            reallocate(&books, unix_ms());
            Ok(())
        });
        if let Err(error) = turn.await {
            tracing::warn!("weights of experiments stay as they are for now: {}", error.message());
        }
    }
}

/// Writes the weights anew of all experiments whose weights are old.
pub(super) fn reallocate(books: &Books, now_ms: i64) {
    let due = |one: &&Arc<Experiment>| {
        let is_old = one.weights_from.is_none_or(|from| now_ms >= from.saturating_add(KEPT_MS));
        one.state == State::Running && one.allocation == Allocation::Thompson && is_old
    };
    let due: Vec<Arc<Experiment>> = books.directory().experiments().filter(due).cloned().collect();
    for experiment in due {
        match renew(books, &experiment, now_ms) {
            Ok(true) => tracing::info!(experiment = experiment.id, "the weights of its arms were written anew"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(experiment = experiment.id, "its weights stay as they are: {}", error.message());
            }
        }
    }
}

/// Writes the weights anew, where they are others and nobody else changed the experiment.
fn renew(books: &Books, experiment: &Experiment, now_ms: i64) -> Result<bool, ApiError> {
    let results = Results::read(books, experiment, now_ms)?;
    let Some(shares) = results.thompson()? else { return Ok(false) };
    let mut next = experiment.clone();
    for allocated in shares {
        if let Some(arm) = next.arms.get_mut(allocated.place) {
            arm.weight = allocated.weight;
        }
    }
    if next.weights() == experiment.weights() {
        return Ok(false);
    }
    let expected = Expected::Versions(vec![results.version()]);
    let build = |_: &economics::Directory| Ok(Record::Experiment(next.clone()));
    match books.change_with((Authority::Plant, &expected), ACTOR, now_ms, build) {
        Ok(_) => Ok(true),
        Err(ChangeError::Stale { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
