//! Counters of NVIDIA devices, by way of the driver's library (NVML). Untried: never run on a machine with such a device.

use nvml_wrapper::Nvml;

use super::{Counter, EnergySource};

/// All devices that the driver shows.
pub(super) struct Devices {
    nvml: Nvml,
    /// The last reading of each, in millijoules since the driver was loaded; `None`: it failed.
    before_mj: Vec<Option<u64>>,
}

impl Devices {
    /// Loads the library and reads every device for the first time.
    ///
    /// # Errors
    /// No library, or no device.
    pub(super) fn open() -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| format!("nvml: {error}"))?;
        let count = nvml.device_count().map_err(|error| format!("nvml: {error}"))?;
        if count == 0 {
            return Err("nvml: the driver shows no device".to_owned());
        }
        let before_mj = (0..count).map(|index| read_mj(&nvml, index).ok()).collect();
        Ok(Self { nvml, before_mj })
    }
}

impl Counter for Devices {
    fn source(&self) -> EnergySource {
        EnergySource::Nvml
    }

    /// 64 bits of millijoules do not wrap around; the counters begin anew when the driver is loaded anew.
    fn advance(&mut self, _interval_ns: u64) -> Result<u64, String> {
        let (mut total_uj, mut failure) = (0_u64, None);
        for (index, before_mj) in (0..).zip(&mut self.before_mj) {
            let now_mj = read_mj(&self.nvml, index);
            let last_mj = std::mem::replace(before_mj, now_mj.as_ref().ok().copied());
            let used_mj = now_mj.and_then(|now| last_mj.and_then(|last| now.checked_sub(last)).ok_or_else(restarted));
            match used_mj {
                Ok(mj) => total_uj = total_uj.saturating_add(mj.saturating_mul(1000)),
                Err(cause) => failure = failure.or_else(|| Some(format!("nvml device {index}: {cause}"))),
            }
        }
        failure.map_or(Ok(total_uj), Err)
    }
}

fn restarted() -> String {
    "its counter begins anew, it counts from here again".to_owned()
}

fn read_mj(nvml: &Nvml, index: u32) -> Result<u64, String> {
    let energy = nvml.device_by_index(index).and_then(|device| device.total_energy_consumption());
    energy.map_err(|error| error.to_string())
}
