//! Resident memory of a process, as the Linux kernel reports it.

/// Resident bytes now, or `None` when the process is gone or the system does not say.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_read() {
        assert_eq!(parse_resident("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(parse_resident("Name:\tx\n"), None);
        assert_eq!(parse_resident("VmRSS:\t lots kB\n"), None);
    }
}
