//! The bar that shows how far long work on a file is.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error; hidden when that is no terminal.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for something of this many bytes.
    #[must_use]
    pub(crate) fn new(label: &str, bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes).with_message(label.to_owned());
        let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
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
    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
