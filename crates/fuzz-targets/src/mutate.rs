//! Changes of inputs that keep their form, so that what lies behind the reading is reached: libFuzzer's own changes of bytes
//! mostly break lengths and brackets.

mod gguf;
mod json;

pub use self::gguf::mutate_gguf;
pub use self::json::mutate_json;
