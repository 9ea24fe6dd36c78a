//! The file that keeps what `calibrate` measured of a model: `calibrations/NAME.json` in the data folder. It is good for
//! weights of the same shapes, the same threads, machine and program only; else an engine starts as if it were not there, and
//! says why.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use engine::{Calibration, CalibrationCell};
use formats::gguf::Gguf;
use kernels::Isa;
use model::KvType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::commands::Context;
use crate::error::{Error, Result};
use crate::secret_file::make_folder;

/// No such file is longer.
const MAX_BYTES: u64 = 4 << 20;

/// What a calibration is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// SHA-256 of the names, types and sizes of all weights: steps take the same time whatever numbers stand in them.
    pub shapes_sha256: String,
    /// Bytes of the model's file, or of all of them.
    pub file_bytes: u64,
    /// How keys and values are kept.
    pub kv_type: String,
    /// Compute threads.
    pub threads: usize,
    /// The processor and its instructions that are used.
    pub machine: String,
    /// The program's version.
    pub version: String,
}

impl Conditions {
    /// Those of a model here and now.
    #[must_use]
    pub fn of(context: &Context, gguf: &Gguf, kv_type: KvType) -> Self {
        let mut hash = Sha256::new();
        for tensor in gguf.tensors() {
            hash.update(format!("{} {:?} {:?}\n", tensor.name, tensor.ty, tensor.dims));
        }
        Self {
            shapes_sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            file_bytes: gguf.file_len(),
            kv_type: kv_type.name().to_owned(),
            threads: context.settings.threads,
            machine: format!("{}, {}", processor(), Isa::best().name()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The first of them that is another here; `None`: all are the same.
    fn difference(&self, here: &Self) -> Option<String> {
        let facts = [
            ("hash of shapes", &self.shapes_sha256, &here.shapes_sha256),
            ("file size", &self.file_bytes.to_string(), &here.file_bytes.to_string()),
            ("kv_type", &self.kv_type, &here.kv_type),
            ("number of threads", &self.threads.to_string(), &here.threads.to_string()),
            ("machine", &self.machine, &here.machine),
            ("program version", &self.version, &here.version),
        ];
        let other = facts.into_iter().find(|(_, then, now)| then != now);
        other.map(|(what, then, now)| format!("its {what} is {then}, here it is {now}"))
    }
}

/// As the file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// When it was measured, RFC 3339.
    pub measured: String,
    /// What it is good for.
    pub conditions: Conditions,
    /// The time of each term of a step, in ns.
    terms: Vec<f64>,
    cells: Vec<KeptCell>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCell {
    kind: [u32; 3],
    features: Vec<f64>,
    ns: f64,
    count: f64,
}

impl Kept {
    /// `calibration`, measured at `measured`.
    #[must_use]
    pub fn new(calibration: &Calibration, measured: String, conditions: Conditions) -> Self {
        let cell = |cell: &CalibrationCell| {
            let CalibrationCell { kind, features, ns, count } = cell.clone();
            KeptCell { kind, features, ns, count }
        };
        let cells = calibration.cells.iter().map(cell).collect();
        Self { measured, conditions, terms: calibration.terms.clone(), cells }
    }

    /// What an engine starts from.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        let cell = |cell: &KeptCell| {
            let KeptCell { kind, features, ns, count } = cell.clone();
            CalibrationCell { kind, features, ns, count }
        };
        Calibration { terms: self.terms.clone(), cells: self.cells.iter().map(cell).collect() }
    }
}

/// What an engine starts from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// What is known of its steps.
    pub calibration: Option<Calibration>,
    /// For people: when it was measured, or why there is nothing to start from.
    pub note: String,
}

/// What is known of a model's steps.
#[must_use]
pub fn start(context: &Context, name: &str, here: &Conditions) -> Start {
    let file = file_of(context, name);
    let none = |note: String| Start { calibration: None, note };
    if !file.exists() {
        return none(format!("not calibrated; `tokenworks calibrate {name}` does that"));
    }
    match read(&file).and_then(|kept| kept.conditions.difference(here).map_or(Ok(kept), Err)) {
        Ok(kept) => Start { note: format!("calibrated {}", kept.measured), calibration: Some(kept.calibration()) },
        Err(why) => {
            tracing::warn!(model = name, "the calibration {} is not used: {why}", file.display());
            none(format!("the calibration is not used: {why}; run `tokenworks calibrate {name}` again"))
        }
    }
}

fn read(file: &Path) -> Result<Kept, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    opened.map_err(|e| format!("it cannot be read: {e}"))?;
    let kept: Kept = serde_json::from_str(&text).map_err(|e| format!("it is damaged: {e}"))?;
    if kept.calibration().is_readable() { Ok(kept) } else { Err("it is of another form".to_owned()) }
}

/// Keeps a model's calibration in place of the one before. Gives its file.
///
/// # Errors
/// It cannot be written.
pub fn keep(context: &Context, name: &str, kept: &Kept) -> Result<PathBuf> {
    let file = file_of(context, name);
    let refuse = |e: std::io::Error| {
        Error::failure(format!("cannot write the calibration to {}", file.display()))
            .because(e)
            .hint("set data_dir to a place you can write")
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(refuse)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(refuse)?;
    serde_json::to_writer_pretty(&mut temporary, kept).map_err(|e| refuse(e.into()))?;
    temporary.flush().map_err(refuse)?;
    temporary.as_file().sync_all().map_err(refuse)?;
    temporary.persist(&file).map_err(|e| refuse(e.error))?;
    Ok(file)
}

/// A name may hold what no file name may.
fn file_of(context: &Context, name: &str) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut file = String::new();
    for c in name.chars() {
        if is_plain(c) || (c == '.' && !file.is_empty()) {
            file.push(c);
        } else {
            file.push_str(&format!("%{:x}", u32::from(c)));
        }
    }
    context.settings.data_dir.join("calibrations").join(file + ".json")
}

/// The processor's name, where the system tells.
#[must_use]
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':')).map(|(_, n)| n.trim());
    name.map_or_else(|| format!("a processor of kind {}", std::env::consts::ARCH), str::to_owned)
}
