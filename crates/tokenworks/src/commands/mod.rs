//! The commands, one file each.

pub mod answer;
pub mod bench;
pub mod calibrate;
pub mod chat;
pub mod config;
pub mod customers;
pub mod divergence;
pub mod experiments;
pub mod input;
pub mod keys;
pub mod ledger;
pub mod perplexity;
pub mod plan;
pub mod plans;
pub mod plant;
pub mod prices;
pub mod pull;
pub mod quantize;
pub mod report;
pub mod run;
pub mod serve;
pub mod statement;
pub mod tfp;
pub mod tokenize;

use crate::catalogue::{Catalogue, ModelRef};
use crate::config::Settings;
use crate::environment::Environment;
use crate::error::Result;
use crate::output::Output;
use crate::progress::Watch;

/// What every command gets.
#[derive(Clone, Debug)]
pub struct Context {
    /// The environment.
    pub environment: Environment,
    /// The checked settings.
    pub settings: Settings,
    /// Where results and notes go.
    pub output: Output,
    /// Is told how far the fetch of a model has come.
    pub(crate) watch: Option<Watch>,
}

impl Context {
    /// The catalogue.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue<'_> {
        Catalogue::new(&self.settings, &self.environment.hub, self.output).watched(self.watch.clone())
    }

    /// The model of this name, or the configured one.
    ///
    /// # Errors
    /// No such model.
    pub fn model(&self, name: Option<&str>) -> Result<ModelRef> {
        ModelRef::parse(name.unwrap_or(&self.settings.model), &self.settings)
    }
}
