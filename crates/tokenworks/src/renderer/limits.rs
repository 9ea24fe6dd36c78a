//! What a worker forbids itself.

use std::io;
use std::time::Duration;

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits this process's memory to what it has and so many bytes more; no core dumps.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub(super) fn memory(more_bytes: u64) -> io::Result<()> {
    set(Resource::Core, 0)?;
    // Elsewhere addresses are no measure of memory, and only the time is limited.
    #[cfg(target_os = "linux")]
    {
        let used = crate::memory::address_space().ok_or_else(|| io::Error::other("cannot read /proc/self/status"))?;
        set(Resource::As, used.saturating_add(more_bytes))?;
        // Where all memory of the machine or the control group is used up, this process is the one to end. That it may not
        // say so takes nothing from the limit above.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = more_bytes;
    Ok(())
}

/// Ends this process when it uses more than so much processor time from now on: the backstop for when nobody is left to
/// end it.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub(super) fn time(more: Duration) -> io::Result<()> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    // In whole seconds, and those used are rounded down: one more, so that a parent who watches is always first.
    set(Resource::Cpu, u64::try_from(used).unwrap_or(0).saturating_add(more.as_secs() + 1))
}

/// Sets a limit that can be raised again, within what the system allows.
#[cfg(unix)]
fn set(resource: Resource, wanted: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

#[cfg(not(unix))]
pub(super) fn memory(_: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn time(_: Duration) -> io::Result<()> {
    Ok(())
}
