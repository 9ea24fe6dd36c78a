//! The processors' counters of energy, by way of Linux powercap (RAPL on Intel and AMD).
//!
//! `/sys/class/powercap` holds a folder for each domain: `intel-rapl:N` is a processor package (or a die of one), named
//! `package-N`, and `intel-rapl:N:M` a part of it. Counted are packages and `dram`, which a package's counter leaves out.
//! Not counted, since they would count twice: `core` and `uncore` (parts of the package), `psys` (the whole platform: what
//! it covers differs by vendor, and packages are in it), and `intel-rapl-mmio` (another way to the same counters).
//!
//! `energy_uj` grows to `max_energy_range_uj` and begins at 0 again; one such wrap-around from one reading to the next is
//! made good, to one unit of the counter (61 microjoules or less). Two in a row could not be told: readings must follow each
//! other sooner than a domain of [`MAX_DOMAIN_WATTS`] could wrap around. The smallest usual range, 65 kJ, allows 65 s;
//! once a second is far within. (Format: Documentation/power/powercap/powercap.rst of Linux.)

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Counter, EnergySource};

/// Where Linux shows the domains.
pub const POWERCAP_ROOT: &str = "/sys/class/powercap";

/// No domain draws more.
const MAX_DOMAIN_WATTS: u64 = 1000;
/// The counters are written about every millisecond and read not quite when the clock is: a jump counts as one only when it
/// is beyond what could come in so much more time.
const SLACK_US: u64 = 1_000_000;
/// Most domains read; a machine has some for each package.
const MAX_DOMAINS: usize = 1024;
/// A number with its line end is shorter.
const MAX_FILE_BYTES: u64 = 64;

struct Domain {
    label: String,
    folder: PathBuf,
    /// The last reading; `None`: it failed.
    before_uj: Option<u64>,
}

/// All domains that are counted, read once.
pub(super) struct Powercap {
    domains: Vec<Domain>,
}

impl Powercap {
    /// Finds the domains below `root` and reads them for the first time; one that cannot be read fails in
    /// [`Counter::advance`].
    ///
    /// # Errors
    /// No domain is there.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let none = |cause: String| format!("no processor counters in {}: {cause}", root.display());
        let entries = fs::read_dir(root).map_err(|error| none(error.kind().to_string()))?;
        let mut zones: Vec<(Vec<u32>, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((zone(entry.file_name().to_str()?)?, entry.path())))
            .take(MAX_DOMAINS)
            .collect();
        // Each package is followed by its parts.
        zones.sort();
        let mut packages: Vec<(u32, String)> = Vec::new();
        let mut domains = Vec::new();
        for (numbers, folder) in zones {
            let Ok(name) = read(&folder.join("name")) else { continue };
            let label = match numbers[..] {
                [number] if name.starts_with("package-") => {
                    packages.push((number, name.clone()));
                    name
                }
                [number, _] if name == "dram" => match packages.iter().find(|(package, _)| *package == number) {
                    Some((_, package)) => format!("{package}/{name}"),
                    None => continue,
                },
                _ => continue,
            };
            let before_uj = read_uj(&folder, "energy_uj").ok();
            domains.push(Domain { label, folder, before_uj });
        }
        if domains.is_empty() { Err(none("no package-N is there".to_owned())) } else { Ok(Self { domains }) }
    }
}

impl Counter for Powercap {
    fn source(&self) -> EnergySource {
        EnergySource::Counter { domains: self.domains.iter().map(|domain| domain.label.clone()).collect() }
    }

    fn advance(&mut self, interval_ns: u64) -> Result<u64, String> {
        let (mut total_uj, mut failure) = (0_u64, None);
        // All are read, whatever fails: the next interval starts here for each.
        for domain in &mut self.domains {
            match domain.advance(interval_ns) {
                Ok(uj) => total_uj = total_uj.saturating_add(uj),
                Err(cause) => failure = failure.or_else(|| Some(format!("{}: {cause}", domain.label))),
            }
        }
        failure.map_or(Ok(total_uj), Err)
    }
}

impl Domain {
    fn advance(&mut self, interval_ns: u64) -> Result<u64, String> {
        let before_uj = self.before_uj.take();
        let now_uj = read_uj(&self.folder, "energy_uj")?;
        self.before_uj = Some(now_uj);
        let range_uj = read_uj(&self.folder, "max_energy_range_uj")?;
        let before_uj = before_uj.ok_or("energy_uj: the reading before it failed, it counts from here again")?;
        used_uj(before_uj, now_uj, range_uj, interval_ns / 1000)
    }
}

/// Microjoules from one reading to the next.
fn used_uj(before_uj: u64, now_uj: u64, range_uj: u64, interval_us: u64) -> Result<u64, String> {
    if range_uj < before_uj.max(now_uj) {
        return Err("energy_uj: beyond max_energy_range_uj, so wrap-arounds could not be told".to_owned());
    }
    // Microjoules by watts are microseconds.
    let longest_us = range_uj / MAX_DOMAIN_WATTS;
    if interval_us > longest_us {
        let longest_s = longest_us / 1_000_000;
        return Err(format!(
            "energy_uj: more than {longest_s} s between two readings, it may have wrapped around twice"
        ));
    }
    let used_uj = if now_uj >= before_uj { now_uj - before_uj } else { range_uj - before_uj + now_uj };
    if used_uj / MAX_DOMAIN_WATTS > interval_us.saturating_add(SLACK_US) {
        return Err(format!("energy_uj: jumped farther than {MAX_DOMAIN_WATTS} W would take it; it was reset"));
    }
    Ok(used_uj)
}

/// The numbers of a domain's folder: `intel-rapl:N` or `intel-rapl:N:M`.
fn zone(file_name: &str) -> Option<Vec<u32>> {
    let numbers: Result<Vec<u32>, _> = file_name.strip_prefix("intel-rapl:")?.split(':').map(str::parse).collect();
    numbers.ok()
}

/// A small text file without its line end.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn read_uj(folder: &Path, file: &str) -> Result<u64, String> {
    let text = read(&folder.join(file)).map_err(|error| unreadable(file, error.kind()))?;
    text.parse().ok().ok_or_else(|| format!("{file}: not a whole number of microjoules"))
}

fn unreadable(file: &str, kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::PermissionDenied => {
            format!("{file}: permission denied (readable by root only since CVE-2020-8694)")
        }
        io::ErrorKind::NotFound => format!("{file}: not there"),
        kind => format!("{file}: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrap_around_is_made_good_and_two_are_not_guessed() {
        let range = 65_000_000_000;
        assert_eq!(used_uj(5, 25, range, 1000), Ok(20));
        assert_eq!(used_uj(range - 10, 30, range, 1000), Ok(40));
        assert_eq!(used_uj(range, 0, range, 1000), Ok(0));
        assert_eq!(used_uj(0, range, range, 65_000_000), Ok(range));
        let far = used_uj(5, 25, range, 65_000_001).unwrap_err();
        assert!(far.contains("more than 65 s"), "{far}");
        assert!(used_uj(5, range + 1, range, 1000).unwrap_err().contains("beyond"));
        assert!(used_uj(range / 2, 0, range, 1_000_000).unwrap_err().contains("reset"));
        assert!(used_uj(0, 1, 0, 0).is_err(), "a range of nothing");
    }

    #[test]
    fn folders_of_domains_are_known_by_name() {
        assert_eq!(zone("intel-rapl:0"), Some(vec![0]));
        assert_eq!(zone("intel-rapl:1:12"), Some(vec![1, 12]));
        for other in ["intel-rapl", "intel-rapl:", "intel-rapl:x", "intel-rapl-mmio:0", "dtpm", "intel-rapl:0:"] {
            assert_eq!(zone(other), None, "{other}");
        }
    }

    #[test]
    fn a_counter_for_root_only_says_so() {
        let reason = unreadable("energy_uj", io::ErrorKind::PermissionDenied);
        assert_eq!(reason, "energy_uj: permission denied (readable by root only since CVE-2020-8694)");
        assert_eq!(unreadable("energy_uj", io::ErrorKind::NotFound), "energy_uj: not there");
    }
}
