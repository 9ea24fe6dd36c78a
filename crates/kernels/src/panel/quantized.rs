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
        $crate::panel::with_quantized!(
            $ty, $T => $run, Q4_0, Q4_1, Q5_0, Q5_1, Q2K, Q3K, Q4K, Q5K, Q6K, IQ4NL, IQ4XS, MXFP4; Q8_0
        )
    };
    ($ty:expr, $T:ident => $run:expr, $($name:ident),+; $last:ident) => {
        match $ty {
            $($crate::WeightType::$name => {
                type $T = $crate::panel::kinds::$name;
                $run
            })+
            _ => {
                type $T = $crate::panel::kinds::$last;
                $run
            }
        }
    };
}
pub(crate) use with_quantized;
