//! Measurements without a server: `tokenworks bench`, and the bench tools of llama.cpp and its relatives. Command lines
//! and how the output is read.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::session::Side;
use super::tuning::Tuning;

/// Tokens that each sequence has before a batched decode.
const TOGETHER_DEPTH: u32 = 128;

/// What is measured, once for each number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A prompt of so many tokens.
    Prefill(Vec<u32>),
    /// Decode of one sequence after so many tokens.
    Depth(Vec<u32>),
    /// Decode of so many sequences together.
    Together(Vec<u32>),
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) work: Work,
    /// Steps of a decode.
    pub(super) decode_tokens: u32,
    pub(super) repetitions: u32,
}

/// What was measured at one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) at: u32,
    pub(super) tokens_per_second: f64,
    /// Of the limit that bounds it, where the program says so.
    pub(super) share_of_limit: Option<f64>,
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn joined(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

impl Job {
    /// Arguments of `tokenworks`.
    pub(super) fn tokenworks(&self, model: &Path, threads: u32) -> Vec<String> {
        let model = model.to_string_lossy();
        let mut all = words(&["bench", &model, "--json", "--threads", &threads.to_string()]);
        all.extend(match &self.work {
            Work::Prefill(lengths) => words(&["--prompt", &joined(lengths)]),
            Work::Depth(depths) => words(&["--depth", &joined(depths)]),
            Work::Together(counts) => {
                words(&["--sequences", &joined(counts), "--sequences-depth", &TOGETHER_DEPTH.to_string()])
            }
        });
        let (tokens, repetitions) = (self.decode_tokens.to_string(), self.repetitions.to_string());
        all.extend(words(&["--decode-tokens", &tokens, "--repetitions", &repetitions]));
        all
    }

    /// The tool of a peer for it, and its arguments. Keys and values are F16 on all sides.
    pub(super) fn peer(&self, side: Side, model: &Path, tuning: Tuning, threads: u32) -> (&'static str, Vec<String>) {
        let (model, threads, ubatch) = (model.to_string_lossy(), threads.to_string(), tuning.ubatch.to_string());
        let mut all =
            words(&["-m", &model, "-t", &threads, "-b", "2048", "-ub", &ubatch, "-ctk", "f16", "-ctv", "f16"]);
        let tool = match &self.work {
            Work::Prefill(lengths) => {
                all.extend(words(&["-p", &joined(lengths), "-n", "0"]));
                "llama-bench"
            }
            Work::Depth(depths) => {
                let tokens = self.decode_tokens.to_string();
                match depths.iter().any(|depth| *depth > 0) {
                    // It has no -d, but decode after a prompt.
                    true if side == Side::IkLlamaCpp => {
                        all.extend(words(&["-p", "0", "-n", "0"]));
                        depths.iter().for_each(|depth| all.extend(words(&["-gp", &format!("{depth},{tokens}")])));
                    }
                    true => all.extend(words(&["-p", "0", "-n", &tokens, "-d", &joined(depths)])),
                    false => all.extend(words(&["-p", "0", "-n", &tokens])),
                }
                "llama-bench"
            }
            Work::Together(counts) => {
                let context = counts.iter().max().unwrap_or(&1) * (TOGETHER_DEPTH + self.decode_tokens);
                all.extend(words(&["-tb", &threads, "-c", &context.to_string(), "-npp", &TOGETHER_DEPTH.to_string()]));
                all.extend(words(&["-ntg", &self.decode_tokens.to_string(), "-npl", &joined(counts)]));
                "llama-batched-bench"
            }
        };
        let flash = tuning.flash_attention;
        if tool == "llama-bench" {
            all.extend(words(&[
                "-fa",
                if flash { "1" } else { "0" },
                "-r",
                &self.repetitions.to_string(),
                "-o",
                "json",
            ]));
            if tuning.repack {
                all.extend(words(&["-rtr", "1"]));
            }
        } else {
            all.extend(words(&["-fa", if flash { "on" } else { "off" }]));
            if tuning.repack {
                all.extend(words(&["-rtr"]));
            }
        }
        (tool, all)
    }

    /// Reads `tokenworks bench --json`.
    pub(super) fn read_tokenworks(&self, output: &str) -> Result<Vec<Point>, String> {
        let report: Value = parse(output, "tokenworks bench")?;
        let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let key = match self.work {
            Work::Prefill(_) => "prompt",
            Work::Depth(_) => "depth",
            Work::Together(_) => "sequences",
        };
        let found = rows.iter().filter_map(|row| {
            let at = row[key].as_u64()?.try_into().ok()?;
            let tokens_per_second = row["tokens_per_second"].as_f64()?;
            Some(Point { at, tokens_per_second, share_of_limit: row["share_of_limit"].as_f64() })
        });
        self.all_there(found.collect(), "tokenworks bench")
    }

    /// Reads the peer's tool: JSON of `llama-bench`, the table or JSON lines of `llama-batched-bench`.
    pub(super) fn read_peer(&self, output: &str) -> Result<Vec<Point>, String> {
        match self.work {
            Work::Prefill(_) => self.all_there(read_bench(output, &["n_prompt"])?, "llama-bench"),
            // ik_llama.cpp decodes after a prompt; it knows no depth.
            Work::Depth(_) => self.all_there(read_bench(output, &["n_depth", "n_prompt"])?, "llama-bench"),
            Work::Together(_) => self.all_there(read_batched(output), "llama-batched-bench"),
        }
    }

    fn all_there(&self, points: Vec<Point>, program: &str) -> Result<Vec<Point>, String> {
        let (Work::Prefill(asked) | Work::Depth(asked) | Work::Together(asked)) = &self.work;
        match asked.iter().find(|number| !points.iter().any(|point| point.at == **number)) {
            None => Ok(points),
            Some(missing) => Err(format!("{program} gave no figure for {missing}")),
        }
    }
}

/// Reads what a program printed as JSON.
pub(super) fn parse<T: DeserializeOwned>(output: &str, program: &str) -> Result<T, String> {
    if output.trim().is_empty() {
        return Err(format!("{program} printed no result"));
    }
    serde_json::from_str(output).map_err(|e| format!("{program} printed no result that can be read: {e}"))
}

/// `keys` name where a test stands; the first that it has counts.
fn read_bench(output: &str, keys: &[&str]) -> Result<Vec<Point>, String> {
    let tests: Vec<Value> = parse(output, "llama-bench")?;
    let points = tests.iter().filter_map(|test| {
        let samples: Vec<f64> = test["samples_ts"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let tokens_per_second = super::results::median(&samples).or_else(|| test["avg_ts"].as_f64())?;
        let at = keys.iter().find_map(|key| test[*key].as_u64())?.try_into().ok()?;
        Some(Point { at, tokens_per_second, share_of_limit: None })
    });
    Ok(points.collect())
}

fn read_batched(output: &str) -> Vec<Point> {
    let point = |at, tokens_per_second| Point { at, tokens_per_second, share_of_limit: None };
    let json = |line: &str| {
        let row: Value = serde_json::from_str(line).ok()?;
        Some(point(row["pl"].as_u64()?.try_into().ok()?, row["speed_tg"].as_f64()?))
    };
    // | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |
    let table = |line: &str| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, count, _, _, _, _, speed, _, _] = cells.as_slice() else { return None };
        Some(point(count.parse().ok()?, speed.parse().ok()?))
    };
    output.lines().filter_map(|line| json(line).or_else(|| table(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(work: Work) -> Job {
        Job { work, decode_tokens: 64, repetitions: 2 }
    }

    fn speeds(points: &[Point]) -> Vec<(u32, f64)> {
        points.iter().map(|p| (p.at, p.tokens_per_second)).collect()
    }

    #[test]
    fn llama_bench_is_read() {
        let output = r#"[
          {"build_commit": "abc", "n_ubatch": 512, "n_prompt": 512, "n_gen": 0, "n_depth": 0,
           "avg_ts": 300.5, "samples_ts": [ 310.0, 290.0, 305.0 ]},
          {"n_prompt": 1024, "n_gen": 0, "n_depth": 0, "avg_ts": 250.5}
        ]"#;
        let points = job(Work::Prefill(vec![512, 1024])).read_peer(output).unwrap();
        assert_eq!(speeds(&points), [(512, 305.0), (1024, 250.5)]);
        let error = job(Work::Prefill(vec![512, 2048])).read_peer(output).unwrap_err();
        assert_eq!(error, "llama-bench gave no figure for 2048");
        let decode = r#"[{"n_prompt": 0, "n_gen": 64, "samples_ts": [100.0]}]"#;
        assert_eq!(speeds(&job(Work::Depth(vec![0])).read_peer(decode).unwrap()), [(0, 100.0)]);
        assert!(job(Work::Depth(vec![0])).read_peer("[ {").is_err(), "a crash cuts the list");
    }

    #[test]
    fn llama_batched_bench_is_read_in_both_forms() {
        let table = "
main: n_kv_max = 3072, n_batch = 2048

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |     64 |    8 |   1536 |    4.000 |   256.00 |    4.000 |   128.00 |    8.000 |   192.00 |
|   128 |     64 |   16 |   3072 |    8.000 |   256.00 |    8.000 |   131.50 |   16.000 |   192.00 |
";
        let job = job(Work::Together(vec![8, 16]));
        assert_eq!(speeds(&job.read_peer(table).unwrap()), [(8, 128.0), (16, 131.5)]);
        let lines = "noise\n{\"pp\": 128, \"tg\": 64, \"pl\": 8, \"speed_pp\": 256.0, \"speed_tg\": 128.0}\n\
                     {\"pp\": 128, \"tg\": 64, \"pl\": 16, \"speed_pp\": 256.0, \"speed_tg\": 131.5}\n";
        assert_eq!(speeds(&job.read_peer(lines).unwrap()), [(8, 128.0), (16, 131.5)]);
        assert!(job.read_peer("").unwrap_err().contains("no figure for 8"));
    }

    #[test]
    fn our_bench_is_read() {
        let output = r#"{"rows": [
          {"work": "decode", "sequences": 8, "depth": 128, "tokens_per_second": 400.5, "slowest": 1.0,
           "limit": "integer_peak", "share_of_limit": 0.25}]}"#;
        let points = job(Work::Together(vec![8])).read_tokenworks(output).unwrap();
        assert_eq!(points, [Point { at: 8, tokens_per_second: 400.5, share_of_limit: Some(0.25) }]);
        assert!(job(Work::Together(vec![8])).read_tokenworks("error: x").is_err());
        let error = job(Work::Together(vec![8])).read_tokenworks("\n").unwrap_err();
        assert_eq!(error, "tokenworks bench printed no result");
    }

    #[test]
    fn both_sides_are_asked_the_same() {
        let job = job(Work::Together(vec![8, 16]));
        let ours = job.tokenworks(Path::new("/m.gguf"), 2).join(" ");
        assert!(ours.ends_with("--sequences 8,16 --sequences-depth 128 --decode-tokens 64 --repetitions 2"), "{ours}");
        let (tool, theirs) = job.peer(Side::LlamaCpp, Path::new("/m.gguf"), Tuning::DEFAULT, 2);
        let theirs = theirs.join(" ");
        assert_eq!(tool, "llama-batched-bench");
        assert!(theirs.ends_with("-tb 2 -c 3072 -npp 128 -ntg 64 -npl 8,16 -fa on"), "{theirs}");
        let job = Job { work: Work::Depth(vec![4096]), ..job };
        let of = |side| job.peer(side, Path::new("/m.gguf"), Tuning::DEFAULT, 2).1.join(" ");
        assert!(of(Side::LlamaCpp).contains("-p 0 -n 64 -d 4096 -fa 1"), "{}", of(Side::LlamaCpp));
        assert!(of(Side::IkLlamaCpp).contains("-p 0 -n 0 -gp 4096,64 -fa 1"), "{}", of(Side::IkLlamaCpp));
        let answer = r#"[{"n_prompt": 4096, "n_gen": 64, "samples_ts": [30.0]}]"#;
        assert_eq!(speeds(&job.read_peer(answer).unwrap()), [(4096, 30.0)]);
    }
}
