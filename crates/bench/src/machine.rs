//! What the figures were measured on.

use std::path::Path;

/// Clock ticks a second in /proc: the same on all Linux machines.
const TICKS_PER_SECOND: f64 = 100.0;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Lines about the machine, for the report.
pub(crate) fn describe() -> Vec<String> {
    let cpu = read("/proc/cpuinfo");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = vec![format!("processor: {}, {cores} logical cores in use", processor(&cpu))];
    lines.push(format!("instruction sets: {}", instruction_sets(&cpu)));
    if let Some(bytes) = field(&read("/proc/meminfo"), "MemTotal").and_then(kibibytes) {
        lines.push(format!("memory: {} MiB", bytes >> 20));
    }
    lines.push(format!("system: {} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()));
    lines.push(format!("huge pages: {}", read("/sys/kernel/mm/transparent_hugepage/enabled").trim()));
    lines
}

/// Load averages now: what else runs.
pub(crate) fn load() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor time that a process has used, in seconds.
pub(crate) fn processor_seconds(pid: u32) -> Option<f64> {
    parse_stat(&read(&format!("/proc/{pid}/stat")))
}

/// A file's size in bytes.
pub(crate) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

fn processor(cpuinfo: &str) -> String {
    let name = field(cpuinfo, "model name").unwrap_or(std::env::consts::ARCH);
    let details = ["cpu family", "model", "stepping"].map(|key| field(cpuinfo, key).unwrap_or("?"));
    format!("{name} (family {}, model {}, stepping {})", details[0], details[1], details[2])
}

fn instruction_sets(cpuinfo: &str) -> String {
    let flags: Vec<&str> = field(cpuinfo, "flags").unwrap_or_default().split_whitespace().collect();
    let known = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "amx_tile", "amx_int8"];
    known.into_iter().filter(|name| flags.contains(name)).collect::<Vec<_>>().join(" ")
}

/// Value of the first line `KEY : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// User and system time; the name in parentheses may hold anything.
fn parse_stat(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 200";
        assert_eq!(parse_stat(stat), Some(3.0));
        assert_eq!(parse_stat(""), None);
        let cpu = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A Xeon\nflags\t\t: fma avx2 avx2x\n";
        assert_eq!(processor(cpu), "A Xeon (family 6, model 143, stepping ?)");
        assert_eq!(instruction_sets(cpu), "avx2 fma");
        assert_eq!(field("MemTotal:       2048 kB\n", "MemTotal").and_then(kibibytes), Some(2 << 20));
    }
}
