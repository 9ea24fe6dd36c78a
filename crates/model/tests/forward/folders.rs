//! A model has the same sizes, constants and tensors whether it comes as a GGUF file or as a folder of transformers.

use std::sync::Arc;

use formats::gguf::{Gguf, TensorInfo, TensorType};
use kernels::ThreadPool;
use model::{Model, ModelConfig};
use test_support::TinyModel;

#[test]
fn a_llama_is_the_same_from_a_folder() {
    let plain = TinyModel::llama();
    let other = TinyModel { separate_head: true, kv_heads: 1, head_dim: 24, rope_base: 5e5, ..TinyModel::llama() };
    for tiny in [plain.clone().with_weights(TensorType::BF16), plain.with_weights(TensorType::F16), other] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny.write(&path).unwrap();
        tiny.write_folder(folder.path()).unwrap();
        let (file, folder) = (Gguf::open(&path).unwrap(), Gguf::open(folder.path()).unwrap());
        let (of_file, mut of_folder) =
            (ModelConfig::from_gguf(&file).unwrap(), ModelConfig::from_gguf(&folder).unwrap());
        assert_ne!(of_file.rope_order, of_folder.rope_order);
        of_folder.rope_order = of_file.rope_order;
        assert_eq!(of_file, of_folder);
        assert_eq!(folder.get_str("llama.rope.order").unwrap(), Some("halves"));
        assert_eq!(file.tensors().len(), folder.tensors().len());
        for tensor in file.tensors() {
            let found = folder.tensor(&tensor.name).unwrap();
            assert_eq!((tensor.ty, &tensor.dims), (found.ty, &found.dims), "{}", tensor.name);
            let (own, found) = (rows(&file, tensor), rows(&folder, found));
            if ["attn_q.", "attn_k."].iter().any(|part| tensor.name.contains(part)) {
                let half = tiny.head_dim as usize / 2;
                // Values that turn together are neighbours in one order, half a head apart in the other.
                assert!(own != found && own[..2] == [found[0].as_slice(), found[half].as_slice()], "{}", tensor.name);
            } else {
                assert!(own == found, "{}", tensor.name);
            }
        }
        let ordered = Gguf::open(folder.path()).unwrap().into_gguf_order().unwrap();
        assert_eq!(ModelConfig::from_gguf(&ordered).unwrap(), of_file);
        for tensor in file.tensors() {
            let found = ordered.tensor(&tensor.name).unwrap();
            assert!(rows(&file, tensor) == rows(&ordered, found), "{}", tensor.name);
        }
        let pool = Arc::new(ThreadPool::new(1).unwrap());
        let bytes = |gguf: &Gguf| Model::load(gguf, &pool).unwrap().weight_bytes();
        assert_eq!(bytes(&file), bytes(&folder));
    }
}

/// Of a Mamba too: the logarithms of `A` become what they stand for, and the convolution loses a dimension.
#[test]
fn a_mamba_is_the_same_from_a_folder() {
    for tiny in
        [TinyModel::mamba(), TinyModel { separate_head: true, ..TinyModel::mamba().with_weights(TensorType::BF16) }]
    {
        // What a state can hold is not said in a folder.
        let tiny = TinyModel { context_len: 1 << 20, ..tiny };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny.write(&path).unwrap();
        tiny.write_folder(folder.path()).unwrap();
        let (file, folder) = (Gguf::open(&path).unwrap(), Gguf::open(folder.path()).unwrap());
        assert_eq!(ModelConfig::from_gguf(&file).unwrap(), ModelConfig::from_gguf(&folder).unwrap());
        assert_eq!(file.tensors().len(), folder.tensors().len());
        for tensor in file.tensors() {
            let found = folder.tensor(&tensor.name).unwrap();
            assert_eq!((tensor.ty, &tensor.dims), (found.ty, &found.dims), "{}", tensor.name);
            let (own, found) = (rows(&file, tensor).concat(), rows(&folder, found).concat());
            if tensor.name.ends_with("ssm_a") {
                let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
                let close = |(a, b): (&[u8; 4], &[u8; 4])| (value(a) - value(b)).abs() <= 1e-6 * value(a).abs();
                assert!(own.as_chunks().0.iter().zip(found.as_chunks().0).all(close), "{}", tensor.name);
            } else {
                assert!(own == found, "{}", tensor.name);
            }
        }
        Model::load(&folder, &Arc::new(ThreadPool::new(1).unwrap())).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_told_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::llama().write_folder(folder.path()).unwrap();
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    for (own, other, words) in [
        ("\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":2", "\"rms_norm_eps\" should be between 0 and 1, but is 2"),
        ("\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "\"num_key_value_heads\" should be a divisor"),
        ("\"vocab_size\":273", "\"vocab_size\":272", "\"vocab_size\" should be 273, the rows of"),
    ] {
        assert!(config.contains(own), "{config}");
        std::fs::write(folder.path().join("config.json"), config.replace(own, other)).unwrap();
        let message = ModelConfig::from_gguf(&Gguf::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(message.contains(&format!("config.json: {words}")), "{message}");
    }
}

/// The rows of a tensor.
fn rows(gguf: &Gguf, tensor: &TensorInfo) -> Vec<Vec<u8>> {
    let mut rows = vec![Vec::new(); usize::try_from(tensor.rows()).unwrap()];
    for (row, bytes) in (0..).zip(&mut rows) {
        gguf.read_tensor(tensor, row..row + 1, bytes).unwrap();
    }
    rows
}
