//! The quantized types as parameters of the kernels.

use super::Layout;

/// A quantized type, known when the kernels are compiled.
pub(crate) trait Quantized {
    const LAYOUT: Layout;
}

/// One type for each quantized [`WeightType`](crate::WeightType), of its name.
pub(crate) mod kinds {
    use super::{Layout, Quantized};
    use crate::WeightType;

    macro_rules! kinds {
        ($($name:ident),+) => {$(
            pub(crate) enum $name {}

            impl Quantized for $name {
                const LAYOUT: Layout = Layout::of(WeightType::$name);
            }
        )+};
    }

    kinds!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, IQ4NL, IQ4XS, MXFP4);
}

/// `$run` with `$T` for the quantized type `$ty`; float types have kernels of their own and must not come here.
macro_rules! with_quantized {
    ($ty:expr, $T:ident => $run:expr) => {
        match $ty {
            $crate::WeightType::Q4_0 => {
                type $T = $crate::panel::kinds::Q4_0;
                $run
            }
            $crate::WeightType::Q4_1 => {
                type $T = $crate::panel::kinds::Q4_1;
                $run
            }
            $crate::WeightType::Q5_0 => {
                type $T = $crate::panel::kinds::Q5_0;
                $run
            }
            $crate::WeightType::Q5_1 => {
                type $T = $crate::panel::kinds::Q5_1;
                $run
            }
            $crate::WeightType::Q2K => {
                type $T = $crate::panel::kinds::Q2K;
                $run
            }
            $crate::WeightType::Q3K => {
                type $T = $crate::panel::kinds::Q3K;
                $run
            }
            $crate::WeightType::Q4K => {
                type $T = $crate::panel::kinds::Q4K;
                $run
            }
            $crate::WeightType::Q5K => {
                type $T = $crate::panel::kinds::Q5K;
                $run
            }
            $crate::WeightType::Q6K => {
                type $T = $crate::panel::kinds::Q6K;
                $run
            }
            $crate::WeightType::IQ4NL => {
                type $T = $crate::panel::kinds::IQ4NL;
                $run
            }
            $crate::WeightType::IQ4XS => {
                type $T = $crate::panel::kinds::IQ4XS;
                $run
            }
            $crate::WeightType::MXFP4 => {
                type $T = $crate::panel::kinds::MXFP4;
                $run
            }
            _ => {
                type $T = $crate::panel::kinds::Q8_0;
                $run
            }
        }
    };
}
pub(crate) use with_quantized;
