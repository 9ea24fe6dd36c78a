//! Random numbers that depend on seed, candidate and place only.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The number in 0..1 with which candidate `stream` draws its token number `index`. It depends on nothing else, so a
/// preempted sequence goes on exactly as it would have.
pub(crate) fn draw(seed: u64, stream: u32, index: u32) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(stream));
    rng.set_word_pos(2 * u128::from(index));
    let bits = rng.next_u64() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let bits = bits as f64;
    bits / 9_007_199_254_740_992.0
}
