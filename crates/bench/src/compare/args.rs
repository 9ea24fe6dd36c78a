//! The command line of `compare`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::rows::Row;
use super::tuning::Tuning;

/// Settings of a comparison.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// The tokenworks program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub tokenworks: Option<PathBuf>,
    /// Folder with llama.cpp's llama-bench, llama-batched-bench and llama-server, as far as the rows need them
    #[arg(long, value_name = "DIR")]
    pub llama_bin: PathBuf,
    /// Folder with ik_llama.cpp's llama-bench and llama-batched-bench, as far as the rows need them
    #[arg(long, value_name = "DIR")]
    pub ik_bin: Option<PathBuf>,
    /// GGUF file that all sides run, and its label in the report (q4_1, q4_0, q8_0 and gemma have targets); repeat it for
    /// more files. Rows with a server, depth and curves use the first
    #[arg(long = "model", value_name = "FILE[=LABEL]", required = true)]
    pub models: Vec<ModelArg>,
    /// Rounds: in each, every row is measured once on each side; medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Rounds of the growth curves
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub curve_rounds: u32,
    /// Measure only these rows
    #[arg(long, value_enum, value_name = "ROWS", value_delimiter = ',')]
    pub only: Vec<Row>,
    /// Folder for report, plots, raw figures and logs
    #[arg(long, value_name = "DIR", default_value = "compare")]
    pub out: PathBuf,
    /// Compute threads of each side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Do not look for the peers' best settings: take this physical batch and flash attention, e.g. 512,on
    #[arg(long, value_name = "UB,on|off")]
    pub fixed_peer: Option<Tuning>,
    /// Seconds after which one measurement is given up
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

impl CompareArgs {
    /// The report and its rows tell models apart by their labels.
    pub(super) fn check_labels(&self) -> Result<(), String> {
        let twice =
            self.models.iter().enumerate().find(|(i, model)| self.models[..*i].iter().any(|m| m.label == model.label));
        twice.map_or(Ok(()), |(_, model)| {
            let (label, path) = (&model.label, model.path.display());
            Err(format!("--model: two files are called {label}; give one another label, like --model {path}={label}-2"))
        })
    }

    /// How long one measurement may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// A model file and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelArg {
    /// The file.
    pub path: PathBuf,
    /// Its name in the report.
    pub label: String,
}

impl FromStr for ModelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file that has the whole text as its name keeps it.
        let (path, label) = match text.rsplit_once('=') {
            Some((path, label)) if !PathBuf::from(text).exists() => (PathBuf::from(path), Some(label.to_owned())),
            _ => (PathBuf::from(text), None),
        };
        if path.as_os_str().is_empty() || label.as_deref() == Some("") {
            return Err("must be FILE or FILE=LABEL".to_owned());
        }
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let label = label.or(stem).ok_or_else(|| "must be FILE or FILE=LABEL".to_owned())?;
        Ok(Self { path, label })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn models_have_labels() {
        let model = |path: &str, label: &str| ModelArg { path: path.into(), label: label.to_owned() };
        assert_eq!("a/b.gguf=Q4_1".parse(), Ok(model("a/b.gguf", "Q4_1")));
        assert_eq!("a/b.gguf".parse(), Ok(model("a/b.gguf", "b")));
        for bad in ["", "=x", "a.gguf="] {
            assert!(bad.parse::<ModelArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn models_are_told_apart() {
        let line = |models: &str| {
            let words = format!("tokenworks-bench compare --llama-bin x {models}");
            match Cli::try_parse_from(words.split_whitespace()).unwrap().command {
                Command::Compare(args) => args.check_labels(),
                _ => unreachable!("another command"),
            }
        };
        assert_eq!(line("--model a.gguf=A --model a.gguf=B"), Ok(()));
        let error = line("--model x/a.gguf --model y/a.gguf").unwrap_err();
        assert!(error.contains("two files are called a;") && error.contains("--model y/a.gguf=a-2"), "{error}");
    }
}
