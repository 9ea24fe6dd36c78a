//! The bar that shows how far long work on a file is.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error; hidden when that is no terminal.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

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
        Self(bar)
    }

    /// Sets the whole and starts again from nothing.
    pub(crate) fn start(&self, bytes: u64) {
        self.0.set_length(bytes);
        self.0.set_position(0);
    }

    /// Says what is being done now.
    pub(crate) fn label(&self, label: &str) {
        self.0.set_message(label.to_owned());
    }

    /// How much is there now.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
