//! The command line.

pub mod books;
pub mod experiments;
pub mod plan;
pub mod tfp;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::FlagValue;

/// An AI factory in one program: makes tokens from open-weight models and meters every one.
#[derive(Debug, Parser)]
#[command(name = "tokenworks", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Example:\n  tokenworks serve        fetch the default model if missing, and serve it\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 130 interrupted")]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Configuration file [default: ./tokenworks.toml, then the one in your configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for data that cannot be fetched again
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Folder for fetched models
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<String>,
    /// Compute threads [default: one for each processor]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<String>,
    /// off, error, warn, info, debug or trace, also for single parts: info,server=debug
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve models over the OpenAI API
    #[command(after_help = "Example:\n  tokenworks serve smollm2-135m --port 8080")]
    Serve(Serve),
    /// Answer one prompt on standard output
    #[command(after_help = "Examples:\n  tokenworks run \"Name three rivers.\"\n  \
        cat notes.txt | tokenworks run \"Sum this up:\" --max-tokens 100\n  \
        tokenworks run --raw \"The capital of France is\" --temperature 0")]
    Run(Run),
    /// Talk to a model
    #[command(after_help = "Example:\n  tokenworks chat smollm2-135m --system \"Answer briefly.\"\n\n\
        Inside: /help, /reset, /exit")]
    Chat(Chat),
    /// Fetch a model
    #[command(after_help = "Examples:\n  tokenworks pull smollm2-135m\n  \
        tokenworks pull gemma3-270m --accept-license\n  tokenworks pull hf:owner/repo/model-Q4_0.gguf")]
    Pull(Pull),
    /// List the models; load, unload and pin those of the running server
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  tokenworks models --json\n  tokenworks models load mine"
    )]
    Models(Models),
    /// Show a text's tokens
    #[command(after_help = "Examples:\n  tokenworks tokenize \"darkness brightness\"\n  \
        echo \"some text\" | tokenworks tokenize --json")]
    Tokenize(Tokenize),
    /// Measure prefill, decode and batched decode
    #[command(after_help = "Examples:\n  tokenworks bench smollm2-135m --json\n  \
        tokenworks bench smollm2-135m --prompt 128,2048 --depth 8000 --sequences 32 --sequences-depth 128\n\n\
        Without --prompt, --depth and --sequences: --prompt 512 --depth 0,4096 --sequences 1,8,16, as far as the model's \
        context allows. With any of them, only what is named is measured.")]
    Bench(Bench),
    /// Measure how long steps of each class of work take, by which they are shared over requests
    #[command(after_help = "Example:\n  tokenworks calibrate smollm2-135m\n\n\
        Runs planned work on this machine (prompts short and long, streams alone and together, with long context, beside \
        prompts, with guessed tokens), fits the time of a step's terms to every second step, and compares what they predict \
        of the others with what was measured. `serve` starts from the result, and goes on fitting.")]
    Calibrate(Calibrate),
    /// Write a model, from a GGUF file or a folder of safetensors, as a GGUF file with smaller weights
    #[command(after_help = "Examples:\n  tokenworks quantize model-F16.gguf --to q4_k\n  \
        tokenworks quantize ./SmolLM2-360M --to q8_0\n  \
        tokenworks quantize model-F16.gguf --to q5_0 --out small.gguf --evaluate book.txt\n\n\
        Matrices become TYPE. The output projection (and an embedding that serves as one) keeps at least 6 bits: q6_k, or \
        q8_0. Rows that are no multiple of 256 take q5_0, q5_1 or q8_0 in place of q4_k, q5_k or q6_k. Norms and routers stay \
        as they are (those of a folder become f32).")]
    Quantize(Quantize),
    /// Measure a model's quality
    #[command(subcommand)]
    Eval(Eval),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(Config),
    /// Customers: organisations, teams, projects, people, payments, invoices
    #[command(subcommand)]
    Customers(books::Customers),
    /// API keys
    #[command(subcommand)]
    Keys(books::Keys),
    /// Plans: pools, limits, calendars
    #[command(subcommand)]
    Plans(books::Plans),
    /// Prices of models
    #[command(subcommand)]
    Prices(books::Prices),
    /// Tokens by kind and revenue, by customer, model and tag; the plant's income statement
    #[command(after_help = "Examples:\n  tokenworks report --from 2026-11-01 --to 2026-11-30 --by customer,model\n  \
        tokenworks report --statement --from 2026-11-01 --to 2026-11-30 --compare-from 2026-10-01 --compare-to 2026-10-31")]
    Report(books::Report),
    /// Show the plant sheet, by which costs are reckoned
    #[command(subcommand)]
    Plant(books::Plant),
    /// What tokens cost and bring at a load, mix, price and utilisation; break-even, scale, one more machine
    #[command(
        after_help = "Examples:\n  tokenworks plan --tokens-per-second 60 --input \"0.50 per 1M\" --output \"1.50 per 1M\"\n  \
        tokenworks plan --gflop-per-token 350 --peak-tflops 312 --share 0.4 --price \"10 per 1M\" --rent-per-hour 2.50 --load 200\n\n\
        Without a speed it is the one that these books measured in the last 30 days. Figures of the plant that are\n\
        not given come from the sheet in --plant, that of the configuration, or an example, which the output says."
    )]
    Plan(Box<plan::Plan>),
    /// Value of outcomes per 1M tokens (TFP), with its interval, by what requests were for; who comes back
    #[command(
        after_help = "Examples:\n  tokenworks tfp --from 2026-11-01 --by prompt_version --denominator output\n  \
        tokenworks tfp --by end_user --top 20\n  tokenworks tfp --retention project --weeks 26"
    )]
    Tfp(tfp::Tfp),
    /// Experiments: arms compared by what their tokens bring, which one may look at at any time
    #[command(subcommand)]
    Experiments(experiments::Experiments),
    /// Verify, export, back up and restore the ledger
    #[command(subcommand)]
    Ledger(books::Ledger),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  tokenworks completions bash > ~/.local/share/bash-completion/completions/tokenworks"
    )]
    Completions(Completions),
    /// Renders chat templates for another process of this program
    #[command(name = crate::renderer::COMMAND, hide = true)]
    TemplateWorker,
}

/// `serve`
#[derive(Args, Debug)]
pub struct Serve {
    /// Built-in names, hf:owner/repo/file.gguf, or paths [default: the configured model]
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on; 0 takes a free one [default: 8080]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Memory for each model's KV cache, e.g. 512MiB
    #[arg(long, value_name = "SIZE")]
    pub kv_memory: Option<String>,
    /// How keys and values are kept: f16 or q8_0 [default: f16]
    #[arg(long, value_name = "TYPE")]
    pub kv_type: Option<String>,
    /// Accept the terms of a model that must be fetched first
    #[arg(long)]
    pub accept_license: bool,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
pub struct Sampling {
    /// Most tokens to make [default: to the end of the context]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub temperature: f32,
    /// Choose among the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub top_p: f32,
    /// Choose among the K likeliest tokens; 0 = all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: u32,
    /// Leave out tokens with less than this share of the likeliest one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f32,
    /// Above 1 makes repetition rarer
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `run`
#[derive(Args, Debug)]
pub struct Run {
    /// The prompt; standard input is added below it when that is no terminal
    pub prompt: Option<String>,
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    #[arg(long, short, value_name = "MODEL")]
    pub model: Option<String>,
    /// LoRA adapter: a name of the model's configuration, or the path of a folder or GGUF file
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<String>,
    /// Go on from the text as it is, without the chat template
    #[arg(long)]
    pub raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Print text and usage as JSON
    #[arg(long)]
    pub json: bool,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: Sampling,
}

/// `chat`
#[derive(Args, Debug)]
pub struct Chat {
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    pub model: Option<String>,
    /// LoRA adapter: a name of the model's configuration, or the path of a folder or GGUF file
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<String>,
    /// What the model is told before the talk
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: Sampling,
}

/// `pull`
#[derive(Args, Debug)]
pub struct Pull {
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    pub model: Option<String>,
    /// Accept the model's terms without being asked
    #[arg(long)]
    pub accept_license: bool,
    /// Print name, path and size as JSON
    #[arg(long)]
    pub json: bool,
}

/// `models`
#[derive(Args, Debug)]
pub struct Models {
    /// What to do with a model of the running server [default: list all]
    #[command(subcommand)]
    pub act: Option<ModelAct>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with a model of the running server.
#[derive(Debug, Subcommand)]
pub enum ModelAct {
    /// Load a model that is offered; idle ones that are not pinned make room
    #[command(after_help = "Example:\n  tokenworks models load mine")]
    Load(NamedModel),
    /// Unload a model once its requests have ended; it is loaded again when it is asked for
    #[command(after_help = "Example:\n  tokenworks models unload mine")]
    Unload(NamedModel),
    /// Keep a model in memory, whatever else is to be loaded
    #[command(after_help = "Example:\n  tokenworks models pin mine")]
    Pin(NamedModel),
    /// Let a model leave memory when it is idle
    #[command(after_help = "Example:\n  tokenworks models unpin mine")]
    Unpin(NamedModel),
    /// List, load and unload LoRA adapters of a model; requests choose one as MODEL:ADAPTER
    #[command(subcommand)]
    Adapter(AdapterAct),
}

/// What to do with the adapters of a model of the running server.
#[derive(Debug, Subcommand)]
pub enum AdapterAct {
    /// List the adapters of a model
    #[command(after_help = "Example:\n  tokenworks models adapter list mine")]
    List(NamedModel),
    /// Load an adapter: a folder of PEFT (adapter_config.json, adapter_model.safetensors) or a GGUF file
    #[command(after_help = "Example:\n  tokenworks models adapter load mine legal adapters/legal")]
    Load(LoadAdapter),
    /// Unload an adapter once its requests have ended
    #[command(after_help = "Example:\n  tokenworks models adapter unload mine legal")]
    Unload(NamedAdapter),
}

/// An adapter of a model of the running server.
#[derive(Args, Debug)]
pub struct NamedAdapter {
    /// Name of the model
    pub model: String,
    /// Name of the adapter
    pub adapter: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// An adapter to be loaded.
#[derive(Args, Debug)]
pub struct LoadAdapter {
    /// Which it shall be.
    #[command(flatten)]
    pub named: NamedAdapter,
    /// Folder or file
    pub path: PathBuf,
}

/// A model of the running server.
#[derive(Args, Debug)]
pub struct NamedModel {
    /// Its name, or another that it answers to
    pub name: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `tokenize`
#[derive(Args, Debug)]
pub struct Tokenize {
    /// The text [default: standard input]
    pub text: Option<String>,
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    #[arg(long, short, value_name = "MODEL")]
    pub model: Option<String>,
    /// Put the model's own start token in front
    #[arg(long)]
    pub add_special: bool,
    /// Read special tokens written in the text
    #[arg(long)]
    pub parse_special: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `bench`
#[derive(Args, Debug)]
pub struct Bench {
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    pub model: Option<String>,
    /// Lengths of the prompts of the prefill measurements, e.g. 512,2048
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt: Vec<u32>,
    /// Decode of one sequence after so many tokens of context, e.g. 0,4096
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub depth: Vec<u32>,
    /// Decode of so many sequences together, e.g. 1,8,16
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub sequences: Vec<u32>,
    /// Tokens of context that each of these sequences has [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub sequences_depth: Option<u32>,
    /// Steps of each decode measurement
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub decode_tokens: u32,
    /// Each measurement is repeated; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repetitions: u32,
    /// How keys and values are kept: f16 or q8_0 [default: f16]
    #[arg(long, value_name = "TYPE")]
    pub kv_type: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `calibrate`
#[derive(Args, Debug)]
pub struct Calibrate {
    /// Built-in name, hf:owner/repo/file.gguf, or path [default: the configured model]
    pub model: Option<String>,
    /// How often the work is done
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `quantize`
#[derive(Args, Debug)]
pub struct Quantize {
    /// Built-in name, hf:owner/repo/file.gguf, or path
    pub model: String,
    /// How weights are stored
    #[arg(long, value_enum, value_name = "TYPE", ignore_case = true)]
    pub to: QuantizedType,
    /// The new file [default: the model's name with TYPE, in the current folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the new file if it is there already
    #[arg(long)]
    pub force: bool,
    /// Take a model whose weights are quantized already; what was lost then stays lost
    #[arg(long)]
    pub allow_requantize: bool,
    /// Afterwards, compare both models on this text: perplexity, KL divergence, same likeliest token
    #[arg(long, value_name = "TEXT")]
    pub evaluate: Option<PathBuf>,
    /// Tokens of a window of that text [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    pub ctx: Option<u32>,
    /// Compare only the first N windows of that text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Types that weights can be brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "the names of the types")]
pub enum QuantizedType {
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_1")]
    Q4_1,
    #[value(name = "q4_k")]
    Q4K,
    #[value(name = "q5_k")]
    Q5K,
    #[value(name = "q6_k")]
    Q6K,
    #[value(name = "f16")]
    F16,
    #[value(name = "bf16")]
    BF16,
    #[value(name = "f32")]
    F32,
}

/// `eval`
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Perplexity of a text: non-overlapping windows, the second half of each is scored
    #[command(after_help = "Example:\n  tokenworks eval perplexity smollm2-135m book.txt --ctx 512 --chunks 20 --json")]
    Perplexity(Perplexity),
    /// KL divergence of a model's answers from those of llama.cpp, whose llama-perplexity stored them
    #[command(
        after_help = "Example:\n  llama-perplexity -m model.gguf -f book.txt --kl-divergence-base book.logits\n  \
                            tokenworks eval divergence model.gguf book.logits --json"
    )]
    Divergence(Divergence),
}

/// `eval perplexity`
#[derive(Args, Debug)]
pub struct Perplexity {
    /// Built-in name, hf:owner/repo/file.gguf, or path
    pub model: String,
    /// A text file
    pub file: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    pub ctx: u32,
    /// Score only the first N windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// How keys and values are kept: f16 or q8_0 [default: f16]
    #[arg(long, value_name = "TYPE")]
    pub kv_type: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `eval divergence`
#[derive(Args, Debug)]
pub struct Divergence {
    /// Built-in name, hf:owner/repo/file.gguf, or path
    pub model: String,
    /// A file that llama-perplexity --kl-divergence-base wrote
    pub base: PathBuf,
    /// Score only the first N windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the configuration: whatever `serve` would refuse
    #[command(after_help = "Example:\n  tokenworks config check examples/tokenworks.toml --json")]
    Check(Check),
    /// Show every setting, its value and where it was set
    #[command(after_help = "Example:\n  tokenworks config show --json")]
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `config check`
#[derive(Args, Debug)]
pub struct Check {
    /// The file to check, like --config
    pub file: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

/// `completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    pub shell: clap_complete::Shell,
}

impl Cli {
    /// The flags that set keys of the configuration.
    #[must_use]
    pub fn settings(&self) -> Vec<FlagValue> {
        let mut values = Vec::new();
        let mut set = |flag, key, text: &Option<String>| {
            if let Some(text) = text {
                values.push((flag, key, text.clone()));
            }
        };
        set("--data-dir", "data_dir", &self.global.data_dir);
        set("--cache-dir", "cache_dir", &self.global.cache_dir);
        set("--threads", "threads", &self.global.threads);
        set("--log-level", "log.level", &self.global.log_level);
        set("--log-format", "log.format", &self.global.log_format);
        if let Command::Serve(serve) = &self.command {
            set("--host", "server.host", &serve.host);
            set("--port", "server.port", &serve.port);
            set("--kv-memory", "engine.kv_memory", &serve.kv_memory);
        }
        match &self.command {
            Command::Serve(Serve { kv_type, .. })
            | Command::Bench(Bench { kv_type, .. })
            | Command::Eval(Eval::Perplexity(Perplexity { kv_type, .. })) => {
                set("--kv-type", "engine.kv_type", kv_type);
            }
            _ => {}
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else if command.get_name() != "help" && !command.is_hide_set() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{}", command.get_name());
            }
        }
        check(&Cli::command());
    }
}
