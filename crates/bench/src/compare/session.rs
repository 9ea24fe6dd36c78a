//! The programs and files of a comparison, and how one measurement is made.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::args::CompareArgs;
use super::offline::{self, Job, Point, Work};
use super::rows::Row;
use super::serving;
use super::tuning::Tuning;
use crate::http::Target;
use crate::process::{Invocation, Running};

/// How long a server may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Added to the seed of the chats that come before those that are timed.
const FIRST_CHATS_SEED: u64 = 1_000_000;
/// How often a starting server is asked.
const READY_INTERVAL: Duration = Duration::from_millis(5);

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    Tokenworks,
    LlamaCpp,
    IkLlamaCpp,
}

/// All sides.
pub(super) const SIDES: [Side; 3] = [Side::Tokenworks, Side::LlamaCpp, Side::IkLlamaCpp];

impl Side {
    /// Its place in [`SIDES`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokenworks => "tokenworks",
            Self::LlamaCpp => "llama.cpp",
            Self::IkLlamaCpp => "ik_llama.cpp",
        }
    }
}

/// A model file that all sides run.
#[derive(Clone, Debug)]
pub(super) struct ModelFile {
    pub(super) path: PathBuf,
    pub(super) label: String,
}

/// What is measured, by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) row: Row,
    pub(super) side: Side,
    pub(super) model: &'a ModelFile,
    pub(super) tuning: Tuning,
    /// Decides prompts.
    pub(super) seed: u64,
    /// Of measurements without a server, within one start of the program; of a long context one is made.
    pub(super) repetitions: u32,
}

/// The values of a row's figures, and the share of the limit that bounds ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) values: Vec<f64>,
    pub(super) share: Option<f64>,
}

/// Slots of a server and the tokens of each.
#[derive(Clone, Copy, Debug)]
struct Shape {
    slots: u32,
    context: u32,
}

impl Shape {
    fn of(row: Row) -> Self {
        match row {
            Row::Chats16 => Self { slots: 16, context: 512 },
            Row::Gap => Self { slots: 5, context: 2048 },
            Row::Prefix | Row::CurvePrefix => Self { slots: 1, context: 4096 },
            _ => Self { slots: 8, context: 512 },
        }
    }

    fn tokens(self) -> u32 {
        self.slots * self.context
    }
}

/// A server at work, with a data folder that goes with it.
pub(super) struct Served {
    running: Option<Running>,
    pub(super) url: String,
    pub(super) target: Target,
    data: PathBuf,
}

impl Served {
    fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }

    fn check(&mut self) -> Result<(), String> {
        self.running.as_mut().map_or(Ok(()), Running::check)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running = None;
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// A comparison's programs, files and notes.
pub(super) struct Session<'a> {
    pub(super) args: &'a CompareArgs,
    tokenworks: PathBuf,
    runtime: &'a Runtime,
    logs: PathBuf,
    kv_bytes_per_token: RefCell<BTreeMap<PathBuf, u64>>,
    runs: Cell<u32>,
    /// One command for each row, model and side.
    pub(super) commands: RefCell<BTreeMap<(Row, String, Side), String>>,
    /// What llama.cpp says of where it put the weights.
    pub(super) buffers: RefCell<BTreeSet<String>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(args: &'a CompareArgs, runtime: &'a Runtime, logs: PathBuf) -> Result<Self, String> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("tokenworks"));
        let tokenworks = args.tokenworks.clone().or_else(beside).ok_or("give --tokenworks")?;
        let tokenworks = absolute(&tokenworks).map_err(|e| {
            format!("--tokenworks {e}; build it (cargo build --release -p tokenworks), or name another program")
        })?;
        Ok(Self {
            args,
            tokenworks,
            runtime,
            logs,
            kv_bytes_per_token: RefCell::default(),
            runs: Cell::new(0),
            commands: RefCell::default(),
            buffers: RefCell::default(),
        })
    }

    /// Makes one measurement.
    pub(super) fn sample(&self, case: &Case<'_>) -> Result<Sample, String> {
        let one = |work| {
            let repetitions = if case.row == Row::Depth { 1 } else { case.repetitions };
            let points = self.offline(case, &Job { work, decode_tokens: 64, repetitions })?;
            let point = points.first().ok_or("no figure")?;
            Ok(Sample { values: vec![point.tokens_per_second], share: point.share_of_limit })
        };
        match case.row {
            Row::Prefill => one(Work::Prefill(vec![512])),
            Row::Decode => one(Work::Depth(vec![0])),
            Row::Depth => one(Work::Depth(vec![4096])),
            Row::Decode8 => one(Work::Together(vec![8])),
            Row::Decode16 => one(Work::Together(vec![16])),
            _ => self.served(case).map(|values| Sample { values, share: None }),
        }
    }

    /// A measurement without a server.
    pub(super) fn offline(&self, case: &Case<'_>, job: &Job) -> Result<Vec<Point>, String> {
        let threads = self.args.threads;
        if case.side == Side::Tokenworks {
            let run = self.invocation(self.tokenworks.clone(), job.tokenworks(&case.model.path, threads));
            self.note(case, &run);
            return job.read_tokenworks(&run.run(self.args.timeout())?.0);
        }
        let (tool, arguments) = job.peer(case.side, &case.model.path, case.tuning, threads);
        let run = self.invocation(self.peer(case.side, tool)?, arguments);
        self.note(case, &run);
        let (out, err) = run.run(self.args.timeout())?;
        job.read_peer(&out).or_else(|error| job.read_peer(&err).map_err(|_other| error))
    }

    fn served(&self, case: &Case<'_>) -> Result<Vec<f64>, String> {
        let started = Instant::now();
        let mut server = self.serve(case)?;
        self.runtime
            .block_on(async {
                if case.row == Row::Start {
                    first_answer(&mut server).await?;
                    return Ok(vec![started.elapsed().as_secs_f64()]);
                }
                first_answer(&mut server).await?;
                let (target, pid) = (&server.target, server.pid());
                match case.row {
                    Row::Chats8 => {
                        // Memory under so many chats: later ones find the caches full of ended ones.
                        let first = serving::chats(&server.url, pid, (8, 1), case.seed + FIRST_CHATS_SEED).await?;
                        let chats = serving::chats(&server.url, pid, (8, 2), case.seed).await?;
                        Ok(vec![chats.tokens_per_second, chats.ttft_ms, chats.itl_ms, first.memory_mib])
                    }
                    Row::Chats16 => {
                        let chats = serving::chats(&server.url, pid, (16, 2), case.seed).await?;
                        Ok(vec![chats.tokens_per_second, chats.ttft_ms, chats.itl_ms])
                    }
                    Row::Gap => Ok(vec![serving::gap(target, case.seed).await?]),
                    Row::Prefix => Ok(vec![serving::first_token_after_prefix(target, 100, case.seed).await?]),
                    Row::Idle => Ok(vec![serving::idle_share(pid).await?]),
                    _ => Err("no measurement of a server".to_owned()),
                }
            })
            .map_err(|error: String| {
                // That it died says more than that it does not answer.
                server.check().err().unwrap_or(error)
            })
            .inspect(|_| self.look_at_buffers(case, &server))
    }

    /// First tokens' times at some shares of the prompt, in milliseconds.
    pub(super) fn prefix_curve(&self, case: &Case<'_>, shares: &[u32]) -> Result<Vec<f64>, String> {
        let mut server = self.serve(case)?;
        self.runtime.block_on(async {
            first_answer(&mut server).await?;
            let mut values = Vec::new();
            for share in shares {
                let seed = case.seed * 1000 + u64::from(*share);
                values.push(serving::first_token_after_prefix(&server.target, *share, seed).await?);
            }
            Ok(values)
        })
    }

    /// Starts a server for a row; it may not be ready yet.
    fn serve(&self, case: &Case<'_>) -> Result<Served, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("no free port: {e}"))?.port();
        drop(listener);
        let data = std::env::temp_dir().join(format!("tokenworks-compare-{}-{}", std::process::id(), self.runs.get()));
        let run = if case.side == Side::Tokenworks {
            self.our_server(case, port, &data)?
        } else {
            self.invocation(self.peer(case.side, "llama-server")?, self.peer_server(case, port))
        };
        self.note(case, &run);
        let url = format!("http://127.0.0.1:{port}");
        let target = Target::parse(&url, None).map_err(|e| e.to_string())?;
        Ok(Served { running: Some(run.start()?), url, target, data })
    }

    fn our_server(&self, case: &Case<'_>, port: u16, data: &Path) -> Result<Invocation, String> {
        let shape = Shape::of(case.row);
        let kv = self.kv_bytes_per_token(&case.model.path)? * u64::from(shape.tokens());
        let words = [
            "serve",
            &case.model.path.to_string_lossy(),
            "--port",
            &port.to_string(),
            "--threads",
            &self.args.threads.to_string(),
            "--kv-memory",
            &format!("{}KiB", kv.div_ceil(1024)),
            "--data-dir",
            &data.to_string_lossy(),
            "--log-level",
            "warn",
        ]
        .map(str::to_owned);
        let mut run = self.invocation(self.tokenworks.clone(), words.to_vec());
        run.environment.push(("TOKENWORKS_ENGINE_CONTEXT_LEN", shape.context.to_string()));
        Ok(run)
    }

    fn peer_server(&self, case: &Case<'_>, port: u16) -> Vec<String> {
        let (shape, threads) = (Shape::of(case.row), self.args.threads.to_string());
        let flash = if case.tuning.flash_attention { "on" } else { "off" };
        let (ubatch, slots, tokens) =
            (case.tuning.ubatch.to_string(), shape.slots.to_string(), shape.tokens().to_string());
        let model = case.model.path.to_string_lossy();
        let (listen, work) = (
            ["-m", &*model, "--host", "127.0.0.1", "--port", &port.to_string(), "--no-webui"].map(str::to_owned),
            [
                "-t", &*threads, "-tb", &threads, "-np", &slots, "-c", &tokens, "-b", "2048", "-ub", &ubatch, "-fa",
                flash,
            ]
            .map(str::to_owned),
        );
        let types = ["-ctk", "f16", "-ctv", "f16"].map(str::to_owned);
        [&listen[..], &work, &types].concat()
    }

    /// What `tokenworks bench --json` says of a model and of the machine.
    pub(super) fn probe(&self, model: &Path) -> Result<Value, String> {
        let threads = self.args.threads.to_string();
        let words = ["bench", &model.to_string_lossy(), "--json", "--threads", &threads, "--prompt", "1"];
        let run = self.invocation(self.tokenworks.clone(), words.map(str::to_owned).to_vec());
        let (out, _) = run.run(self.args.timeout())?;
        let program = format!("{} bench", self.tokenworks.display());
        let report: Value = offline::parse(&out, &program)
            .map_err(|e| format!("{e}; name the tokenworks program built with this one: --tokenworks FILE"))?;
        let bytes = report["kv_bytes_per_token"].as_u64().ok_or("tokenworks bench gives no kv_bytes_per_token")?;
        self.kv_bytes_per_token.borrow_mut().insert(model.to_owned(), bytes);
        Ok(report)
    }

    fn kv_bytes_per_token(&self, model: &Path) -> Result<u64, String> {
        self.kv_bytes_per_token
            .borrow()
            .get(model)
            .copied()
            .ok_or_else(|| "the size of a token's KV is unknown".to_owned())
    }

    /// What our program says of its version.
    pub(super) fn our_version(&self) -> Result<String, String> {
        self.version(self.tokenworks.clone())
    }

    /// What a peer's program says of its version, or another beside it: llama-bench of ik_llama.cpp does not tell it.
    pub(super) fn peer_version(&self, side: Side, tool: &str) -> String {
        let ask = |tool: &str| self.version(self.peer(side, tool)?);
        let beside = || {
            let mut others = ["llama-server", "llama-batched-bench"].into_iter().filter(|other| *other != tool);
            others.find_map(|other| Some(format!("{other} beside it: {}", ask(other).ok()?)))
        };
        match (ask(tool), beside) {
            (Ok(told), _) => format!("{tool}: {told}"),
            (Err(_untold), beside) => {
                format!("{tool}: does not tell{}", beside().map_or_else(String::new, |told| format!("; {told}")))
            }
        }
    }

    fn version(&self, program: PathBuf) -> Result<String, String> {
        let (out, err) = self.invocation(program, vec!["--version".to_owned()]).run(Duration::from_secs(60))?;
        let lines = format!("{out}\n{err}");
        let told = lines.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect::<Vec<_>>();
        Ok(told.join("; "))
    }

    /// The file of a peer's program.
    pub(super) fn peer(&self, side: Side, tool: &str) -> Result<PathBuf, String> {
        let (folder, option) = match side {
            Side::IkLlamaCpp => (self.args.ik_bin.as_ref(), "--ik-bin"),
            _ => (Some(&self.args.llama_bin), "--llama-bin"),
        };
        let folder = folder.ok_or_else(|| format!("{option} was not given"))?;
        let file = absolute(&folder.join(tool)).ok().filter(|file| file.is_file());
        file.ok_or_else(|| {
            let what =
                if folder.is_dir() { format!("{tool} is not there") } else { "there is no such folder".to_owned() };
            format!("{option} {}: {what}", folder.display())
        })
    }

    fn invocation(&self, program: PathBuf, arguments: Vec<String>) -> Invocation {
        self.runs.set(self.runs.get() + 1);
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = self.logs.join(format!("{:04}-{name}", self.runs.get()));
        Invocation { program, arguments, environment: Vec::new(), log }
    }

    /// The last command stays: it has the settings that were found best.
    fn note(&self, case: &Case<'_>, run: &Invocation) {
        self.commands.borrow_mut().insert((case.row, case.model.label.clone(), case.side), run.shown());
    }

    fn look_at_buffers(&self, case: &Case<'_>, server: &Served) {
        let (Side::LlamaCpp, Some(running)) = (case.side, &server.running) else { return };
        for line in running.stderr().lines().filter(|line| line.contains("model buffer size")) {
            let told = line.split_once(": ").map_or(line, |(_, rest)| rest);
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            self.buffers.borrow_mut().insert(format!("{}: {told}", case.model.label));
        }
    }
}

/// Asks until a first answer comes.
async fn first_answer(server: &mut Served) -> Result<(), String> {
    let started = Instant::now();
    loop {
        if serving::one_token(&server.target).await.is_ok() {
            return Ok(());
        }
        server.check()?;
        if started.elapsed() > READY_LIMIT {
            return Err(format!("the server gave no answer within {} s", READY_LIMIT.as_secs()));
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

/// The file's path from the root, since programs are started elsewhere.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))
}
