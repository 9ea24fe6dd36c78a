//! Energy from a tree as Linux shows it: two packages with memory and cores, the platform, and the second way to them.
#![cfg(test)]
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use metering::energy::{Energy, EnergySource, PowerRange, Sampler};
use tempfile::TempDir;

const SECOND_NS: u64 = 1_000_000_000;
const PACKAGE_RANGE_UJ: u64 = 262_143_328_850;
const DRAM_RANGE_UJ: u64 = 65_712_999_613;
const IDLE_UJ: u64 = 40_000_000;

/// The domains of a machine of two sockets: folder below that of the control type, name, range, first reading.
const DOMAINS: [(&str, &str, u64, u64); 8] = [
    ("intel-rapl/intel-rapl:0", "package-0", PACKAGE_RANGE_UJ, 1_000_000_000),
    ("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core", PACKAGE_RANGE_UJ, 600_000_000),
    ("intel-rapl/intel-rapl:0/intel-rapl:0:1", "dram", DRAM_RANGE_UJ, 65_712_999_000),
    ("intel-rapl/intel-rapl:1", "package-1", PACKAGE_RANGE_UJ, 262_143_000_000),
    ("intel-rapl/intel-rapl:1/intel-rapl:1:0", "core", PACKAGE_RANGE_UJ, 500_000_000),
    ("intel-rapl/intel-rapl:1/intel-rapl:1:1", "dram", DRAM_RANGE_UJ, 7),
    ("intel-rapl/intel-rapl:2", "psys", PACKAGE_RANGE_UJ, 9_000_000_000),
    ("intel-rapl-mmio/intel-rapl-mmio:0", "package-0", PACKAGE_RANGE_UJ, 1_000_000_000),
];
const COUNTED: [&str; 4] = ["package-0", "package-0/dram", "package-1", "package-1/dram"];

/// `/sys` with `devices/virtual/powercap` and, in `class/powercap`, links to every folder in it.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(machine.root()).unwrap();
        for (folder, name, range_uj, energy_uj) in DOMAINS {
            let device = machine.device(folder);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("name"), format!("{name}\n")).unwrap();
            fs::write(device.join("enabled"), "1\n").unwrap();
            fs::write(device.join("constraint_0_max_power_uw"), "225000000\n").unwrap();
            fs::write(device.join("max_energy_range_uj"), format!("{range_uj}\n")).unwrap();
            machine.set(folder, energy_uj);
            symlink(&device, machine.root().join(device.file_name().unwrap())).unwrap();
        }
        for control in ["intel-rapl", "intel-rapl-mmio"] {
            symlink(machine.device(control), machine.root().join(control)).unwrap();
        }
        machine
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("class/powercap")
    }

    fn device(&self, folder: &str) -> PathBuf {
        self.0.path().join("devices/virtual/powercap").join(folder)
    }

    fn set(&self, folder: &str, energy_uj: u64) {
        self.write(folder, &format!("{energy_uj}\n"));
    }

    fn write(&self, folder: &str, content: &str) {
        fs::write(self.device(folder).join("energy_uj"), content).unwrap();
    }

    fn read(&self, folder: &str) -> u64 {
        fs::read_to_string(self.device(folder).join("energy_uj")).unwrap().trim().parse().unwrap()
    }

    /// Lets every domain use so much, with wrap-arounds as the hardware makes them.
    fn use_uj(&self, amounts_uj: [u64; 8]) {
        for ((folder, _, range_uj, _), amount_uj) in DOMAINS.into_iter().zip(amounts_uj) {
            self.set(folder, (self.read(folder) + amount_uj) % range_uj);
        }
    }

    fn sampler(&self) -> Sampler {
        sampler(&self.root())
    }
}

/// 40 W idle, 140 W full.
fn sampler(root: &Path) -> Sampler {
    Sampler::powercap(root, PowerRange::new(40_000, 140_000).unwrap(), 0)
}

#[track_caller]
fn assert_measured(energy: &Energy, total_uj: u64) {
    let domains = COUNTED.map(str::to_owned).to_vec();
    assert_eq!((energy.total_uj, &energy.source), (total_uj, &EnergySource::Counter { domains }));
    assert_eq!(energy.idle_uj + energy.active_uj, energy.total_uj);
}

/// Half of the interval of a second was busy.
#[track_caller]
fn assert_estimated(sampler: &Sampler, energy: &Energy, reason: &str) {
    assert_eq!(energy.source, EnergySource::Estimated);
    assert_eq!((energy.total_uj, energy.idle_uj, energy.active_uj), (90_000_000, IDLE_UJ, 50_000_000));
    let given = sampler.estimate_reason().unwrap();
    assert!(given.contains(reason), "{given:?} should say {reason:?}");
}

#[test]
fn packages_and_memory_are_added_up_and_nothing_twice() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    assert_eq!(sampler.source().to_string(), "counter (package-0, package-0/dram, package-1, package-1/dram)");
    machine.use_uj([
        100_000_000,
        70_000_000,
        10_000_000,
        200_000_000,
        90_000_000,
        20_000_000,
        400_000_000,
        100_000_000,
    ]);
    let energy = sampler.sample(SECOND_NS, SECOND_NS / 2).unwrap();
    assert_measured(&energy, 330_000_000);
    assert_eq!((energy.idle_uj, energy.active_uj), (IDLE_UJ, 290_000_000));
    assert_eq!((energy.interval_ns, energy.busy_ns), (SECOND_NS, SECOND_NS / 2));
    assert_eq!(sampler.estimate_reason(), None);
    machine.use_uj([1_000_000; 8]);
    let energy = sampler.sample(2 * SECOND_NS, 0).unwrap();
    assert_measured(&energy, 4_000_000);
    assert_eq!((energy.idle_uj, energy.active_uj), (4_000_000, 0), "less than idle power is all idle");
}

#[test]
fn sums_over_many_intervals_with_wrap_arounds_are_exact() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    let mut wraps = 0;
    for second in 1..=400 {
        let before = machine.read(DOMAINS[2].0);
        let amounts = [1, 7, 29, 13, 17, 19, 23, 11].map(|prime| prime * 30_000_000 + second * second % 1_000_003);
        machine.use_uj(amounts);
        wraps += u32::from(machine.read(DOMAINS[2].0) < before);
        let sum: u64 = [0, 2, 3, 5].map(|counted| amounts[counted]).iter().sum();
        assert_measured(&sampler.sample(second * SECOND_NS, 0).unwrap(), sum);
    }
    assert!(wraps >= 5, "{wraps}");
}

#[test]
fn a_domain_that_vanishes_is_estimated_until_it_is_back() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    let dram = DOMAINS[5].0;
    fs::remove_file(machine.device(dram).join("energy_uj")).unwrap();
    let energy = sampler.sample(SECOND_NS, SECOND_NS / 2).unwrap();
    assert_estimated(&sampler, &energy, "package-1/dram: energy_uj: not there");
    machine.set(dram, 1_000);
    let energy = sampler.sample(2 * SECOND_NS, SECOND_NS / 2).unwrap();
    assert_estimated(&sampler, &energy, "package-1/dram: energy_uj: the reading before it failed");
    machine.use_uj([5_000_000; 8]);
    assert_measured(&sampler.sample(3 * SECOND_NS, SECOND_NS / 2).unwrap(), 20_000_000);
    assert_eq!(sampler.estimate_reason(), None);
}

#[test]
fn an_unreadable_counter_is_no_zero() {
    let machine = Machine::new();
    let package = machine.device(DOMAINS[0].0).join("energy_uj");
    fs::remove_file(&package).unwrap();
    fs::create_dir(&package).unwrap();
    let mut sampler = machine.sampler();
    for second in 1..4 {
        machine.set(DOMAINS[3].0, 262_143_000_000 + second);
        let energy = sampler.sample(second * SECOND_NS, SECOND_NS / 2).unwrap();
        assert_estimated(&sampler, &energy, "package-0: energy_uj: ");
    }
}

#[test]
fn garbage_is_no_reading() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    let long = "1".repeat(10_000);
    let garbage = ["", "-5\n", "12.5\n", "1e9\n", "energy\n", "0x10\n", "99999999999999999999\n", &long];
    for (second, content) in (1..).zip(garbage) {
        machine.write(DOMAINS[3].0, content);
        let energy = sampler.sample(second * SECOND_NS, SECOND_NS / 2).unwrap();
        assert_estimated(&sampler, &energy, "package-1: energy_uj: not a whole number of microjoules");
    }
    fs::write(machine.device(DOMAINS[3].0).join("energy_uj"), [0xff, 0xfe]).unwrap();
    let energy = sampler.sample(20 * SECOND_NS, 6 * SECOND_NS).unwrap();
    assert_eq!(energy.source, EnergySource::Estimated);
    fs::write(machine.device(DOMAINS[3].0).join("max_energy_range_uj"), "much\n").unwrap();
    machine.set(DOMAINS[3].0, 5);
    let energy = sampler.sample(21 * SECOND_NS, SECOND_NS / 2).unwrap();
    assert_estimated(&sampler, &energy, "package-1: max_energy_range_uj: not a whole number");
}

#[test]
fn a_gap_longer_than_a_wrap_around_is_estimated() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    machine.use_uj([1_000_000; 8]);
    let energy = sampler.sample(66 * SECOND_NS, 0).unwrap();
    assert_eq!((energy.total_uj, energy.source), (66 * IDLE_UJ, EnergySource::Estimated));
    let reason = sampler.estimate_reason().unwrap();
    assert!(reason.contains("package-0/dram: energy_uj: more than 65 s between two readings"), "{reason}");
    machine.use_uj([1_000_000; 8]);
    assert_measured(&sampler.sample(67 * SECOND_NS, 0).unwrap(), 4_000_000);
}

#[test]
fn a_counter_that_was_reset_is_no_wrap_around() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    machine.set(DOMAINS[0].0, 3);
    let energy = sampler.sample(SECOND_NS, SECOND_NS / 2).unwrap();
    assert_estimated(&sampler, &energy, "package-0: energy_uj: jumped");
}

#[test]
fn without_counters_the_reason_is_kept() {
    let empty = tempfile::tempdir().unwrap();
    for root in [empty.path().to_owned(), empty.path().join("missing")] {
        let mut sampler = sampler(&root);
        assert_eq!(sampler.source(), EnergySource::Estimated);
        let energy = sampler.sample(SECOND_NS, SECOND_NS / 2).unwrap();
        assert_estimated(&sampler, &energy, "no processor counters in ");
    }
    let machine = Machine::new();
    fs::remove_dir_all(machine.device(DOMAINS[0].0)).unwrap();
    fs::remove_dir_all(machine.device(DOMAINS[3].0)).unwrap();
    assert_eq!(machine.sampler().source(), EnergySource::Estimated, "the platform and the second way do not count");
}

#[test]
fn clocks_that_stand_still_or_go_back_make_no_interval() {
    let machine = Machine::new();
    let mut sampler = machine.sampler();
    assert_eq!(sampler.sample(0, 100), None);
    machine.use_uj([1_000_000; 8]);
    let first = sampler.sample(SECOND_NS, SECOND_NS / 4).unwrap();
    assert_measured(&first, 4_000_000);
    assert_eq!(first.busy_ns, SECOND_NS / 4 + 100, "busy time reported without an interval is in the next one");
    machine.use_uj([1_000_000; 8]);
    assert_eq!(sampler.sample(SECOND_NS / 2, 0), None);
    machine.use_uj([1_000_000; 8]);
    assert_measured(&sampler.sample(SECOND_NS, 0).unwrap(), 8_000_000);
}

#[test]
fn a_step_longer_than_an_interval_is_spread_over_those_after_it() {
    let mut sampler = Sampler::estimated(PowerRange::new(40_000, 140_000).unwrap(), 0);
    let busy = [0, 0, 5 * SECOND_NS / 2, 0, SECOND_NS / 10, 0];
    let found = (1..).zip(busy).map(|(second, busy_ns)| sampler.sample(second * SECOND_NS, busy_ns).unwrap());
    let active: Vec<u64> = found.map(|energy| energy.active_uj).collect();
    assert_eq!(active, [0, 0, 100_000_000, 100_000_000, 60_000_000, 0]);
    assert_eq!(sampler.estimate_reason(), None, "estimates were asked for");
}

#[test]
fn the_source_is_labelled_wherever_it_is_written() {
    let source = EnergySource::Counter { domains: vec!["package-0".to_owned()] };
    let text = serde_json::to_string(&[source, EnergySource::Nvml, EnergySource::Estimated]).unwrap();
    assert_eq!(text, r#"[{"counter":{"domains":["package-0"]}},"nvml","estimated"]"#);
}
