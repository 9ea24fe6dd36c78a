//! Which instruction set the kernels use.

use std::sync::OnceLock;

/// An instruction set. All give the same bits; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Portable code: the reference.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX2 plus 8-bit dot products on 256-bit vectors (AVX-512 VNNI with VL).
    Vnni,
    /// The same on 512-bit vectors (AVX-512 F, BW, DQ, VL and VNNI).
    Avx512,
    /// Avx512, and 8-bit products of tiles (AMX) for many columns.
    Amx,
}

impl Isa {
    /// The best one this processor has; asked once.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Scalar)
    }

    /// All that this processor has, slowest first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();
        AVAILABLE.get_or_init(Self::detect)
    }

    fn detect() -> Vec<Self> {
        let mut all = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if avx2 {
                all.push(Self::Avx2);
            }
            if avx2 && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
                all.push(Self::Vnni);
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq");
                if wide {
                    all.push(Self::Avx512);
                    if crate::avx512::amx_allowed() {
                        all.push(Self::Amx);
                    }
                }
            }
        }
        all
    }

    /// The name shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Vnni => "avx512-vnni (256 bit)",
            Self::Avx512 => "avx512-vnni",
            Self::Amx => "avx512-vnni + amx-int8",
        }
    }
}
