//! The bar that shows how far long work on a file is.

use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use service::Fetching;

/// How far a fetch has come, for those who do not see its bar.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Arc<Mutex<Option<Fetching>>>);

impl Watch {
    /// How far it has come now; `None`: nothing is being fetched.
    #[must_use]
    pub(crate) fn now(&self) -> Option<Fetching> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of an unknown total while `total` is 0.
    fn begin(&self, total: u64) {
        self.put(Some(Fetching { bytes: 0, total: (total > 0).then_some(total) }));
    }

    fn put(&self, fetching: Option<Fetching>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fetching;
    }
}

/// A progress bar on standard error; hidden when that is no terminal.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    shown: ProgressBar,
    watch: Option<Watch>,
}

impl Bar {
    /// A bar for something of this many bytes.
    #[must_use]
    pub(crate) fn new(label: &str, bytes: u64) -> Self {
        Self::styled(label, bytes, "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}")
    }

    /// A bar for something of this many tokens.
    #[must_use]
    pub(crate) fn of_tokens(label: &str, tokens: u64) -> Self {
        Self::styled(label, tokens, "{msg} [{bar:30}] {human_pos}/{human_len} tokens {per_sec} {eta}")
    }

    fn styled(label: &str, whole: u64, template: &str) -> Self {
        let bar = ProgressBar::new(whole).with_message(label.to_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { shown: bar, watch: None }
    }

    /// Tells a watch, too, until [`Self::fetched`].
    #[must_use]
    pub(crate) fn watched(mut self, watch: Option<Watch>) -> Self {
        if let Some(watch) = &watch {
            watch.begin(self.shown.length().unwrap_or(0));
        }
        self.watch = watch;
        self
    }

    /// The watch, while something is being fetched: what comes late is not told.
    fn watching(&self) -> Option<(&Watch, Fetching)> {
        self.watch.as_ref().and_then(|watch| Some((watch, watch.now()?)))
    }

    /// Sets the whole and starts again from nothing.
    pub(crate) fn start(&self, bytes: u64) {
        self.shown.set_length(bytes);
        self.shown.set_position(0);
        if let Some((watch, _)) = self.watching() {
            watch.begin(bytes);
        }
    }

    /// Says what is being done now.
    pub(crate) fn label(&self, label: &str) {
        self.shown.set_message(label.to_owned());
    }

    /// How much is there now.
    pub(crate) fn set(&self, done: u64) {
        self.shown.set_position(done);
        if let Some((watch, fetching)) = self.watching() {
            watch.put(Some(Fetching { bytes: done, ..fetching }));
        }
    }

    /// All is fetched; what the bar shows from now on is other work.
    pub(crate) fn fetched(&self) {
        if let Some(watch) = &self.watch {
            watch.put(None);
        }
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.fetched();
        self.shown.finish_and_clear();
    }
}
