//! How much memory there is, and how much of it the weights and KV caches of the models get.
//!
//! All models of a server share one memory: `engine.memory`, or what is free at its start. Before any is loaded, each of
//! those to be loaded at the start is set aside the bytes of its file and a KV cache ([`KvDemand::set_aside`]): what is
//! configured, else a whole context or, if that is less, its part of a quarter of the memory. If these do not fit together
//! nothing is loaded. Then they are loaded in turn, and each may make its cache larger ([`KvDemand::budget`]), up to a
//! quarter of what nobody else has or is set aside. A model that is loaded on demand is set aside the same before idle ones
//! are unloaded for it.

use model::{KvType, ModelConfig};

use crate::config::{EngineSettings, ModelSettings};
use crate::error::{Error, Result};
use crate::output::{bytes, grouped};

/// Tokens in a KV block.
const BLOCK_TOKENS: u64 = model::BLOCK_TOKENS as u64;
/// Without a setting the KV cache holds at most so many whole contexts (states: as many as sequences may run), …
const DEFAULT_CONTEXTS: u64 = 16;
/// … has at most so many bytes (unless one context needs more) …
const DEFAULT_MOST: u64 = 1 << 30;
/// … and takes at most this share (one part of so many) of the memory that is free …
const DEFAULT_SHARE: u64 = 4;
/// … or so many bytes where the system does not tell what is free.
const DEFAULT_UNKNOWN: u64 = 1 << 30;
/// With less than so many blocks no talk is possible.
const LEAST_BLOCKS: u64 = 8;

/// Bytes that a model takes, or needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Of weights.
    pub weights: u64,
    /// Of the KV cache.
    pub kv: u64,
}

impl Need {
    /// Both.
    #[must_use]
    pub fn total(self) -> u64 {
        self.weights.saturating_add(self.kv)
    }
}

/// What other models leave to a KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvRoom {
    /// Bytes that it may take at most; `None`: nothing bounds it but the free memory.
    pub most: Option<u64>,
    /// Bytes that were set aside for it.
    pub set_aside: u64,
}

/// What the size of a KV cache depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvDemand {
    /// The key that sets its size.
    pub key: String,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Whether a block is the state of a whole sequence.
    pub states: bool,
    /// Most sequences that may run at a time.
    pub max_running: u64,
    /// Longest sequence in tokens.
    pub context_len: u64,
    /// Bytes asked for by the configuration.
    pub wanted: Option<u64>,
    /// Bytes that are free, when the system tells.
    pub available: Option<u64>,
    /// Bytes that were set aside for it; the default is no smaller if they are free.
    pub set_aside: u64,
}

/// A KV cache that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvBudget {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Tokens that fit; of states, as long as sequences may be.
    pub tokens: u64,
    /// The longest sequence: the context, as far as it fits.
    pub context_len: u64,
    /// Whether a block is the state of a whole sequence.
    pub states: bool,
}

impl KvDemand {
    /// What a model of this name asks for with these settings, and the memory that is free now.
    ///
    /// # Errors
    /// A longer context is set than the model has.
    pub fn of(name: &str, model: &ModelConfig, own: &ModelSettings, engine: &EngineSettings) -> Result<Self> {
        let has = model.context_len;
        let (key, context_len) = match (own.context_len, engine.context_len) {
            (Some(wanted), _) => (format!("models.{name}.context_len"), wanted),
            (None, wanted) => ("engine.context_len".to_owned(), wanted.unwrap_or(has)),
        };
        if context_len > has {
            return Err(Error::usage(format!("{key} is {context_len}, but {name} has a context of {has}"))
                .hint(format!("set {key} to at most {has}")));
        }
        let kv_type = own.kv_type(engine);
        let block_bytes = model.kv_block_bytes(kv_type).ok_or_else(|| {
            Error::failure(format!("a KV block of {name} does not fit memory")).hint("choose another model")
        })?;
        Ok(Self {
            key: if own.kv_memory.is_some() {
                format!("models.{name}.kv_memory")
            } else {
                "engine.kv_memory".to_owned()
            },
            kv_type,
            block_bytes: block_bytes as u64,
            states: model.state_space.is_some(),
            max_running: engine.max_running as u64,
            context_len: context_len as u64,
            wanted: own.kv_memory.or(engine.kv_memory),
            available: available(),
            set_aside: 0,
        })
    }

    /// The same demand beside other models.
    #[must_use]
    pub fn within(self, room: KvRoom) -> Self {
        let available = self.available.into_iter().chain(room.most).min();
        Self { available, set_aside: room.set_aside, ..self }
    }

    /// Bytes to set aside before the model is loaded, when `room` bytes are there beside its weights, for its cache and
    /// those of all `models`.
    #[must_use]
    pub fn set_aside(&self, room: Option<u64>, models: u64) -> u64 {
        let share = room.map_or(DEFAULT_UNKNOWN, |room| room / DEFAULT_SHARE) / models.max(1);
        self.wanted.unwrap_or_else(|| self.per_context().min(share).max(self.least()))
    }

    /// The longest sequence once the model is loaded, if it does not hang on what is free by then: with a cache of the size
    /// that is configured, or where a whole context is set aside.
    #[must_use]
    pub fn sure_context_len(&self, set_aside: u64) -> Option<u64> {
        match self.wanted {
            Some(_) => Some(Self { available: None, ..self.clone() }.budget().ok()?.context_len),
            None => (set_aside >= self.per_context()).then_some(self.context_len),
        }
    }

    /// Tokens that a block stands for.
    fn block_tokens(&self) -> u64 {
        if self.states { self.context_len.max(1) } else { BLOCK_TOKENS }
    }

    /// Bytes of a whole context.
    fn per_context(&self) -> u64 {
        self.context_len.div_ceil(self.block_tokens()).saturating_mul(self.block_bytes.max(1))
    }

    /// The fewest bytes that are of use.
    fn least(&self) -> u64 {
        LEAST_BLOCKS.min(self.context_len.div_ceil(self.block_tokens())).max(1).saturating_mul(self.block_bytes.max(1))
    }

    /// The size of the KV cache: what was asked for, or by arithmetic.
    ///
    /// # Errors
    /// What was asked for is too small or too large; the message shows the arithmetic.
    pub fn budget(&self) -> Result<KvBudget> {
        let block = self.block_bytes.max(1);
        let (per_context, least) = (self.per_context(), self.least());
        let room = self.available.unwrap_or(u64::MAX);
        let size = match self.wanted {
            Some(wanted) => wanted,
            None => {
                let share = self.available.map_or(DEFAULT_UNKNOWN, |a| (a / DEFAULT_SHARE).max(self.set_aside.min(a)));
                let contexts = if self.states { self.max_running } else { DEFAULT_CONTEXTS };
                per_context.saturating_mul(contexts).min(DEFAULT_MOST.max(per_context)).min(share).max(least)
            }
        };
        let blocks = size / block;
        let arithmetic = self.arithmetic();
        if size < least {
            return Err(Error::usage(format!("a KV cache of {} is too small for this model", bytes(size)))
                .because(arithmetic)
                .hint(format!("set {} to at least \"{}\"", self.key, setting(least))));
        }
        if size > room {
            return Err(Error::usage(format!("a KV cache of {} does not fit into memory", bytes(size)))
                .because(arithmetic)
                .hint(match self.wanted {
                    Some(_) => {
                        format!("set {} lower, for example \"512MiB\", or leave it out to have it chosen", self.key)
                    }
                    None => "end other programs, or choose a smaller model".to_owned(),
                }));
        }
        let block_tokens = self.block_tokens();
        let fits = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let context_len = engine::context_within(fits(self.context_len), fits(blocks), fits(block_tokens)) as u64;
        let tokens = blocks.saturating_mul(block_tokens);
        Ok(KvBudget { blocks, bytes: blocks * block, tokens, context_len, states: self.states })
    }

    /// That sequences are shorter with this KV cache than they may be, and what changes it.
    #[must_use]
    pub fn cut(&self, kv: &KvBudget) -> Option<String> {
        (kv.context_len < self.context_len).then(|| {
            format!(
                "cut from {} to {} tokens, which the KV cache holds; for all set {} to at least \"{}\"",
                grouped(self.context_len),
                grouped(kv.context_len),
                self.key,
                setting(self.per_context())
            )
        })
    }

    fn arithmetic(&self) -> String {
        let needed = if self.states {
            format!("each sequence needs {} for its state, however long it is", bytes(self.block_bytes))
        } else {
            format!(
                "{} tokens need {} as {}; a whole context of {} tokens needs {}",
                grouped(BLOCK_TOKENS),
                bytes(self.block_bytes.max(1)),
                self.kv_type.name(),
                grouped(self.context_len),
                bytes(self.per_context()),
            )
        };
        format!("{needed}; free now: {}", self.available.map_or_else(|| "unknown".to_owned(), bytes))
    }
}

impl KvBudget {
    /// What it is, for people.
    #[must_use]
    pub fn shown(&self, kv_type: KvType) -> String {
        let (bytes, blocks) = (bytes(self.bytes), grouped(self.blocks));
        if self.states {
            let sequences = if self.blocks == 1 { "sequence" } else { "sequences" };
            return format!("{bytes} = states of {blocks} {sequences}");
        }
        format!("{bytes} of {} = {} tokens in {blocks} blocks", kv_type.name(), grouped(self.tokens))
    }

    /// The KV cache of a draft model beside this one: for as many tokens. `available` bytes were free before both.
    ///
    /// # Errors
    /// They do not fit together; the message shows the arithmetic. Or the model has states, for which nothing is guessed.
    pub fn of_draft(&self, name: &str, draft: &ModelConfig, demand: &KvDemand) -> Result<Self> {
        if self.states {
            return Err(Error::usage(format!("{name} cannot guess for a model that keeps a state"))
                .because("a state goes forward only: it cannot take a wrong guess back")
                .hint("remove draft_model"));
        }
        let block = draft.kv_block_bytes(demand.kv_type).map_or(u64::MAX, |block| block as u64);
        let all = block.saturating_mul(self.blocks);
        let room = demand.available.map_or(u64::MAX, |available| available.saturating_sub(self.bytes));
        if all > room {
            let cause = format!(
                "{} tokens need {} for the model and {} for {name}, which guesses ahead; free now: {}",
                grouped(self.tokens),
                bytes(self.bytes),
                bytes(all),
                demand.available.map_or_else(|| "unknown".to_owned(), bytes),
            );
            return Err(Error::usage("the KV cache of the draft model does not fit into memory beside the model's")
                .because(cause)
                .hint(format!("set {} lower, or remove draft_model", demand.key)));
        }
        Ok(Self { bytes: all, ..*self })
    }
}

/// A size as the configuration takes it, no less than this.
fn setting(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{}KiB", bytes.div_ceil(1 << 10)) } else { format!("{}MiB", bytes.div_ceil(1 << 20)) }
}

/// Bytes of memory that are free for us: the system's word, bounded by the control group's limit. `None` where the
/// system does not tell.
#[must_use]
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = field(&meminfo, "MemAvailable:")?.saturating_mul(1024);
    Some(group_room().map_or(free, |room| room.min(free)))
}

/// Bytes of memory of the whole machine.
#[must_use]
pub fn total() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    field(&meminfo, "MemTotal:").map(|kib| kib.saturating_mul(1024))
}

/// Bytes of addresses that this process has taken.
#[cfg(target_os = "linux")]
pub(crate) fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmSize:").map(|kib| kib.saturating_mul(1024))
}

/// What is left below the limit of this process's control group (version 2), when it has one.
fn group_room() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    // Pages of files that nobody needs count as used, but are given back at once.
    let stat = read("memory.stat").unwrap_or_default();
    let cached = field(&stat, "inactive_file ").unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn demand(wanted: Option<u64>, available: Option<u64>) -> KvDemand {
        // 1 MiB for 32 tokens, 64 MiB for a context.
        let kv_type = KvType::F16;
        KvDemand {
            key: "models.m.kv_memory".to_owned(),
            kv_type,
            block_bytes: MIB,
            states: false,
            max_running: 24,
            context_len: 2048,
            wanted,
            available,
            set_aside: 0,
        }
    }

    #[test]
    fn by_arithmetic() {
        // 16 contexts fit a quarter of the free memory.
        let small = KvDemand { context_len: 320, ..demand(None, Some(16 << 30)) };
        assert_eq!(small.budget().unwrap().bytes, 16 * 10 * MIB);
        // Longer ones take no more than a gibibyte, unless one context needs more.
        assert_eq!(demand(None, Some(1 << 40)).budget().unwrap().bytes, 1 << 30);
        let long = KvDemand { context_len: 1 << 16, ..demand(None, Some(1 << 40)) };
        assert_eq!(long.budget().unwrap().bytes, 2 << 30);
        // Else a quarter.
        assert_eq!(demand(None, Some(400 * MIB)).budget().unwrap().bytes, 100 * MIB);
        // Nothing known.
        assert_eq!(demand(None, None).budget().unwrap().bytes, 1 << 30);
        assert_eq!(
            demand(Some(100 * MIB + 5), None).budget().unwrap(),
            KvBudget { blocks: 100, bytes: 100 * MIB, tokens: 3200, context_len: 2048, states: false }
        );
    }

    /// As many states as sequences may run, however long these are; one at least.
    #[test]
    fn states() {
        let states = |wanted, available| KvDemand { states: true, context_len: 1 << 20, ..demand(wanted, available) };
        let budget = states(None, Some(1 << 40)).budget().unwrap();
        let expected = KvBudget { blocks: 24, bytes: 24 * MIB, tokens: 24 << 20, context_len: 1 << 20, states: true };
        assert_eq!(budget, expected);
        assert_eq!(states(None, None).cut(&expected), None, "a state is as good for a long sequence");
        assert_eq!(budget.shown(KvType::F16), "24.0 MiB = states of 24 sequences");
        assert_eq!(states(None, Some(20 * MIB)).budget().unwrap().blocks, 5);
        assert_eq!(states(Some(3 * MIB), None).budget().unwrap().blocks, 3);
        assert_eq!(states(None, None).set_aside(Some(1 << 30), 8), MIB);
        let error = states(Some(MIB - 1), Some(1 << 30)).budget().unwrap_err();
        assert!(error.cause.unwrap().contains("each sequence needs 1.0 MiB for its state"));
        assert!(error.hint.unwrap().contains("at least \"1MiB\""));
    }

    #[test]
    fn beside_other_models() {
        // A context, while it is no more than the part of a quarter; what is configured; at least what is of use.
        for (wanted, room, models, expected) in [
            (None, Some(1 << 30), 1, 64 * MIB),
            (None, Some(1 << 30), 8, 32 * MIB),
            (None, Some(64 * MIB), 4, 8 * MIB),
            (None, None, 1, 64 * MIB),
            (Some(300 * MIB), Some(64 * MIB), 4, 300 * MIB),
        ] {
            assert_eq!(demand(wanted, None).set_aside(room, models), expected, "{wanted:?} {room:?} {models}");
        }
        // What was set aside is taken also where it is all that others leave; more only by the default.
        let within = |most, set_aside| demand(None, Some(1 << 30)).within(KvRoom { most, set_aside }).budget();
        assert_eq!(within(Some(64 * MIB), 64 * MIB).unwrap().bytes, 64 * MIB);
        assert_eq!(within(Some(400 * MIB), 64 * MIB).unwrap().bytes, 100 * MIB);
        assert_eq!(within(Some(40 * MIB), 64 * MIB).unwrap().bytes, 40 * MIB);
        assert_eq!(within(None, 0).unwrap().bytes, 256 * MIB);
        let error = within(Some(4 * MIB), 64 * MIB).unwrap_err();
        assert!(error.what.contains("does not fit into memory"), "{error:?}");
    }

    #[test]
    fn a_context_that_does_not_fit_is_cut_aloud() {
        let demand = demand(Some(10 * MIB), None);
        let budget = demand.budget().unwrap();
        assert_eq!(budget.context_len, 320);
        let told = "cut from 2,048 to 320 tokens, which the KV cache holds; for all set models.m.kv_memory to at least \"64MiB\"";
        assert_eq!(demand.cut(&budget).as_deref(), Some(told));
        assert_eq!(demand.sure_context_len(10 * MIB), Some(320));
        let whole = KvDemand { wanted: Some(64 * MIB), ..demand };
        assert_eq!(whole.cut(&whole.budget().unwrap()), None);
        // Without a setting it is sure only where a whole context is set aside.
        let any = KvDemand { wanted: None, ..whole };
        assert_eq!([64 * MIB, 64 * MIB - 1].map(|set_aside| any.sure_context_len(set_aside)), [Some(2048), None]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_arithmetic() {
        let small = demand(Some(7 * MIB), None).budget().unwrap_err();
        assert!(small.what.contains("7.0 MiB is too small"), "{small:?}");
        let cause = small.cause.unwrap();
        assert!(cause.contains("32 tokens need 1.0 MiB as f16") && cause.contains("2,048 tokens needs 64.0 MiB"));
        assert!(small.hint.unwrap().contains("models.m.kv_memory to at least \"8MiB\""));
        let large = demand(Some(64 << 30), Some(1 << 30)).budget().unwrap_err();
        assert!(large.what.contains("64.0 GiB does not fit"), "{large:?}");
        assert!(large.cause.unwrap().contains("free now: 1.0 GiB"));
        assert!(large.hint.unwrap().contains("set models.m.kv_memory lower"));
    }

    #[test]
    fn a_draft_has_room_for_as_many_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        test_support::TinyModel::llama().write(&path).unwrap();
        let draft = ModelConfig::from_gguf(&formats::gguf::Gguf::open(&path).unwrap()).unwrap();
        let block = draft.kv_block_bytes(KvType::F16).unwrap() as u64;
        let demand = demand(Some(10 * MIB), Some(10 * MIB + 10 * block));
        let budget = demand.budget().unwrap();
        let expected = KvBudget { blocks: 10, bytes: 10 * block, tokens: 320, context_len: 320, states: false };
        assert_eq!(budget.of_draft("small", &draft, &demand).unwrap(), expected);
        let less = KvDemand { available: demand.available.map(|free| free - 1), ..demand };
        let error = budget.of_draft("small", &draft, &less).unwrap_err();
        assert!(error.cause.unwrap().contains("320 tokens need 10.0 MiB for the model and"));
        assert!(error.hint.unwrap().contains("models.m.kv_memory lower, or remove draft_model"));
    }

    #[test]
    fn fields() {
        assert_eq!(field("MemTotal:  12 kB\nMemAvailable:   5 kB\n", "MemAvailable:"), Some(5));
        assert_eq!(field("x", "MemAvailable:"), None);
    }
}
