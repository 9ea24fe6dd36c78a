//! `quantize`: a model's file, or its folder, written anew as one GGUF file with smaller weights.

mod plan;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use formats::gguf::{Gguf, Origin, TensorHead, TensorInfo, TensorType, Value, header_bytes};
use kernels::{MatrixBuilder, ThreadPool, WeightMemory, encode};
use model::{ModelConfig, weight_type};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokenizer::GgufTokenizer;

use self::plan::Planned;
use super::Context;
use super::divergence::{self, Evaluation, Windows};
use super::pull::consent;
use crate::assembly::{self, file_error};
use crate::cli;
use crate::error::{Error, Result, chain};
use crate::output::{bytes, table};
use crate::progress::Bar;

/// Weights that are in memory as floats at a time, unless a row is longer.
const CHUNK_WEIGHTS: u64 = 2 << 20;

/// As `quantize --json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    source: String,
    out: String,
    tensors: Vec<Group>,
    bytes_before: u64,
    bytes_after: u64,
    bits_per_weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<Evaluation>,
}

/// Tensors that were treated alike.
#[derive(Debug, Serialize)]
struct Group {
    from: &'static str,
    to: &'static str,
    tensors: usize,
    bytes_before: u64,
    bytes_after: u64,
}

/// Runs `quantize`.
///
/// # Errors
/// No such model, one that is quantized already, a folder whose tokenizer GGUF has no words for, a file that is there already,
/// or no room for the new one.
pub fn run(context: &Context, args: &cli::Quantize) -> Result<()> {
    check_options(args)?;
    let reference = context.model(Some(&args.model))?;
    let gguf = assembly::open(context, &reference, &|builtin| consent(context, builtin, false))?;
    let path = gguf.path().to_owned();
    let gguf = gguf.into_gguf_order().map_err(|e| file_error(&path, &e))?;
    let plan = plan::plan(&gguf, args.to, args.allow_requantize)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&gguf, args.to));
    check_out(&gguf, &out, args)?;
    let keys = metadata(context, &gguf, args.to)?;
    // Whatever speaks against the comparison is told before the work.
    let windows = args.evaluate.as_deref().map(|text| Windows::read(&gguf, text, args)).transpose()?;
    let pool = assembly::thread_pool(context)?;
    write(&gguf, (&plan, &keys), args, (&out, &pool))?;
    let evaluation = windows.map(|windows| divergence::measure((&gguf, &out), &windows, &pool)).transpose()?;
    let report = report(reference.name, (&gguf, &out), &plan, evaluation)?;
    if report.bytes_after >= report.bytes_before {
        context.output.note(format_args!("note: the new file is no smaller than the one before"));
    }
    if args.json { context.output.json(&report) } else { context.output.text(shown(&report)) }
}

/// Refuses options that would do nothing, or something else than was meant.
fn check_options(args: &cli::Quantize) -> Result<()> {
    if args.out.as_deref() == Some(Path::new("-")) {
        return Err(Error::usage("--out - would not write to standard output: a GGUF file is written under a name")
            .hint("name a file, such as --out model.gguf; one that is called - is ./-"));
    }
    let of_evaluation = [("--ctx", args.ctx), ("--chunks", args.chunks)];
    match of_evaluation.into_iter().find(|(_, given)| given.is_some() && args.evaluate.is_none()) {
        None => Ok(()),
        Some((option, _)) => Err(Error::usage(format!("{option} does nothing without --evaluate"))
            .hint(format!("add --evaluate TEXT, or leave {option} out"))),
    }
}

/// The new file's metadata; that of a folder gets its tokenizer's.
fn metadata(context: &Context, gguf: &Gguf, to: cli::QuantizedType) -> Result<BTreeMap<String, Value>> {
    let mut keys = plan::metadata(gguf, to);
    if gguf.origin() == Origin::HuggingFace {
        // What does not fit to the weights is told first.
        assembly::read_tokenizer(gguf)?;
        let failed = |e: &dyn std::error::Error| file_error(gguf.path(), e);
        let rows = ModelConfig::from_gguf(gguf).map_err(|e| failed(&e))?.vocab_size;
        let tokenizer = GgufTokenizer::from_folder(gguf.path(), rows).map_err(|e| failed(&e))?;
        keys.extend(tokenizer.keys);
        for left_out in tokenizer.left_out {
            context.output.note(format_args!("note: a GGUF file has no place for {left_out}"));
        }
    }
    Ok(keys)
}

/// The model's name with the type, in the current folder: `model-F16.gguf` becomes `model-Q4_K.gguf`.
fn default_out(gguf: &Gguf, to: cli::QuantizedType) -> PathBuf {
    match gguf.origin() {
        Origin::Gguf { .. } => named_after(gguf.path().file_stem(), to),
        // `.` and the like have a name only when they are followed.
        Origin::HuggingFace => named_after(gguf.path().canonicalize().unwrap_or_default().file_name(), to),
    }
}

fn named_after(stem: Option<&OsStr>, to: cli::QuantizedType) -> PathBuf {
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let is_type = |end: &str| TensorType::ALL.iter().any(|ty| end.eq_ignore_ascii_case(ty.name()));
    let stem = without_shard(&stem);
    let base = match stem.rsplit_once(['-', '.']) {
        Some((base, end)) if is_type(end) && !base.is_empty() => base,
        _ => stem,
    };
    PathBuf::from(format!("{base}-{}.gguf", plan::tensor_type(to)))
}

/// `model-00001-of-00003`, which names a part of a model, without what says so.
fn without_shard(stem: &str) -> &str {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let parts = stem.rsplit_once("-of-").and_then(|(first, count)| Some((first.rsplit_once('-')?, count)));
    match parts {
        Some(((base, index), count)) if number(index) && number(count) && !base.is_empty() => base,
        _ => stem,
    }
}

/// Whether the new file may get this name.
fn check_out(gguf: &Gguf, out: &Path, args: &cli::Quantize) -> Result<()> {
    let Ok(metadata) = out.symlink_metadata() else { return Ok(()) };
    let out_is = |what: &str| Error::usage(format!("{} is {what}", out.display()));
    if gguf.reads_from(out) || belongs_to_folder(gguf, out) {
        Err(out_is("a file of the model itself").hint("name another file with --out"))
    } else if args.evaluate.as_deref().is_some_and(|text| is_same(text, out)) {
        Err(out_is("the text that --evaluate reads").hint("name another file with --out"))
    } else if !metadata.is_file() {
        Err(out_is("there already, and no regular file").hint("name another file with --out"))
    } else if !args.force {
        Err(out_is("there already").hint("name another file with --out, or replace it with --force"))
    } else {
        Ok(())
    }
}

/// Whether a file stands in the folder that the model is, beside its weights: its configuration, its tokenizer, or what else
/// came with it. GGUF files do not.
fn belongs_to_folder(gguf: &Gguf, file: &Path) -> bool {
    let of_model = gguf.origin() == Origin::HuggingFace && file.extension().is_none_or(|end| end != "gguf");
    of_model && file.canonicalize().is_ok_and(|file| file.parent().is_some_and(|folder| is_same(folder, gguf.path())))
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Writes the file: complete under its name, or not at all.
fn write(
    gguf: &Gguf,
    (plan, keys): (&[Planned<'_>], &BTreeMap<String, Value>),
    args: &cli::Quantize,
    (out, pool): (&Path, &ThreadPool),
) -> Result<()> {
    let failed = |e: io::Error| {
        Error::failure(format!("cannot write {}", out.display()))
            .because(e)
            .hint("see that there is room, or name another file with --out")
    };
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = out.file_name().ok_or_else(|| Error::usage(format!("--out {} names no file", out.display())))?;
    let temporary = tempfile::Builder::new()
        .prefix(name)
        .suffix(".part")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    remove_when_stopped(temporary.path().to_owned());
    let heads: Vec<TensorHead<'_>> = plan.iter().map(Planned::head).collect();
    let keys = keys.iter().map(|(key, value)| (key.as_str(), value));
    let (header, room) = header_bytes(keys, &heads)
        .and_then(|header| Ok((header, heads.iter().map(TensorHead::byte_len).sum::<std::result::Result<u64, _>>()?)))
        .map_err(|e| file_error(gguf.path(), &e))?;
    take_room(temporary.as_file(), room).map_err(failed)?;
    let mut file = BufWriter::with_capacity(1 << 20, temporary);
    file.write_all(&header).map_err(failed)?;
    let bar = Bar::new("quantizing", plan.iter().map(|planned| planned.tensor.byte_len).sum());
    let mut done = 0;
    let mut converter = Converter::new(gguf, pool);
    for (planned, head) in plan.iter().zip(&heads) {
        converter.convert(planned, |encoded, read| {
            done += read;
            bar.set(done);
            file.write_all(encoded).map_err(failed)
        })?;
        let padding = head.padding().map_err(|e| file_error(gguf.path(), &e))?;
        file.write_all(&vec![0; padding]).map_err(failed)?;
    }
    bar.done();
    let temporary: NamedTempFile = file.into_inner().map_err(|e| failed(e.into_error()))?;
    temporary.as_file().sync_all().map_err(failed)?;
    let placed = if args.force { temporary.persist(out) } else { temporary.persist_noclobber(out) };
    placed.map(|_file| ()).map_err(|e| failed(e.error))
}

/// On Ctrl-C and SIGTERM removes the unfinished file before the program ends. Where signals cannot be waited for, it stays.
fn remove_when_stopped(unfinished: PathBuf) {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    // Signals are caught from here on, so none ends the program before the thread waits for them.
    let both = runtime.block_on(async { (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) });
    let (Ok(mut interrupt), Ok(mut terminate)) = both else { return };
    std::thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        // It has its own name by then, or is gone: both are well.
        let _ = std::fs::remove_file(&unfinished);
        std::process::exit(code);
    });
}

/// Takes room on the disk before the work, so that a full one is told at once. Where the file system cannot, writing tells.
fn take_room(file: &File, room: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, room) {
        Err(e @ (Errno::NOSPC | Errno::DQUOT)) => {
            let e = io::Error::from(e);
            Err(io::Error::new(e.kind(), format!("{e}: it takes {}", bytes(room))))
        }
        _ => Ok(()),
    }
}

/// Reads tensors and encodes them, some rows at a time.
struct Converter<'a> {
    gguf: &'a Gguf,
    pool: &'a ThreadPool,
    read: Vec<u8>,
    values: Vec<f32>,
    encoded: Vec<u8>,
}

impl<'a> Converter<'a> {
    fn new(gguf: &'a Gguf, pool: &'a ThreadPool) -> Self {
        Self { gguf, pool, read: Vec::new(), values: Vec::new(), encoded: Vec::new() }
    }

    /// Hands the tensor's new bytes on in order, with the number of bytes that were read for them.
    fn convert(&mut self, planned: &Planned<'_>, mut each: impl FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
        let tensor = planned.tensor;
        let step = (CHUNK_WEIGHTS / tensor.row_len().max(1)).max(1);
        let mut row = 0;
        while row < tensor.rows() {
            let end = tensor.rows().min(row + step);
            self.gguf.read_tensor(tensor, row..end, &mut self.read).map_err(|e| file_error(self.gguf.path(), &e))?;
            let read = self.read.len() as u64;
            if planned.to == tensor.ty {
                each(&self.read, read)?;
            } else {
                self.encode(tensor, planned.to, row)?;
                each(&self.encoded, read)?;
            }
            row = end;
        }
        Ok(())
    }

    /// Encodes the rows that were read, which begin with row `first` of the tensor.
    fn encode(&mut self, tensor: &TensorInfo, to: TensorType, first: u64) -> Result<()> {
        let wrong = |cause: String| {
            Error::failure(format!("cannot quantize tensor \"{}\"", tensor.name.escape_debug())).because(cause)
        };
        let size = |size: u64| usize::try_from(size).map_err(|e| wrong(e.to_string()));
        let (cols, rows) = (size(tensor.row_len())?, size(self.read.len() as u64 / tensor.row_bytes().max(1))?);
        let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), weight_type(tensor.ty), rows, cols)
            .map_err(|e| wrong(chain(&e)))?;
        builder.push_rows(self.pool, &self.read).map_err(|e| wrong(format!("from row {first} on: {}", chain(&e))))?;
        let matrix = builder.finish().map_err(|e| wrong(chain(&e)))?;
        self.values.resize(rows * cols, 0.0);
        self.pool.for_each_chunk(&mut self.values, cols, |row, values| matrix.row_into(row, values));
        encode(self.pool, weight_type(to), &self.values, &mut self.encoded)
            .map_err(|e| wrong(format!("from row {first} on: {e}")))
    }
}

fn report(
    model: String,
    (gguf, out): (&Gguf, &Path),
    plan: &[Planned<'_>],
    evaluation: Option<Evaluation>,
) -> Result<Report> {
    let mut tensors: Vec<Group> = Vec::new();
    let mut weights = 0_u64;
    for planned in plan {
        let tensor = planned.tensor;
        let after = planned.head().byte_len().map_err(|e| file_error(gguf.path(), &e))?;
        weights += tensor.rows().saturating_mul(tensor.row_len());
        let (from, to) = (tensor.ty.name(), planned.to.name());
        match tensors.iter_mut().find(|group| (group.from, group.to) == (from, to)) {
            Some(group) => {
                group.tensors += 1;
                group.bytes_before += tensor.byte_len;
                group.bytes_after += after;
            }
            None => tensors.push(Group { from, to, tensors: 1, bytes_before: tensor.byte_len, bytes_after: after }),
        }
    }
    let bytes_after = tensors.iter().map(|group| group.bytes_after).sum();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bits_per_weight = bytes_after as f64 * 8.0 / weights.max(1) as f64;
    Ok(Report {
        model,
        source: gguf.path().display().to_string(),
        out: out.display().to_string(),
        bytes_before: tensors.iter().map(|group| group.bytes_before).sum(),
        bytes_after,
        tensors,
        bits_per_weight,
        evaluation,
    })
}

fn shown(report: &Report) -> String {
    let mut cells = vec![["FROM", "TO", "TENSORS", "BEFORE", "AFTER"].map(str::to_owned).to_vec()];
    for group in &report.tensors {
        cells.push(vec![
            group.from.to_owned(),
            group.to.to_owned(),
            group.tensors.to_string(),
            bytes(group.bytes_before),
            bytes(group.bytes_after),
        ]);
    }
    let mut text = table(&cells);
    text.push_str(&format!(
        "{}: {} before, {} after, {:.2} bits a weight\n",
        report.out,
        bytes(report.bytes_before),
        bytes(report.bytes_after),
        report.bits_per_weight
    ));
    if let Some(evaluation) = &report.evaluation {
        text.push_str(&evaluation.shown());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::QuantizedType;

    #[test]
    fn the_type_takes_the_place_of_that_in_the_name() {
        for (source, out) in [
            ("/models/big-F16.gguf", "big-Q4_K.gguf"),
            ("big.q8_0.gguf", "big-Q4_K.gguf"),
            ("big.gguf", "big-Q4_K.gguf"),
            ("big-model", "big-model-Q4_K.gguf"),
            ("-F16.gguf", "-F16-Q4_K.gguf"),
            ("big-00002-of-00003.gguf", "big-Q4_K.gguf"),
            ("big-F16-00002-of-00003.gguf", "big-Q4_K.gguf"),
            ("best-of-00003.gguf", "best-of-00003-Q4_K.gguf"),
        ] {
            assert_eq!(named_after(Path::new(source).file_stem(), QuantizedType::Q4K), Path::new(out), "{source}");
        }
    }
}
