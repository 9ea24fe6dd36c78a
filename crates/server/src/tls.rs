//! TLS by certificate files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::TlsFiles;

/// What is wrong with the certificate files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    #[error("{} and {} do not go together: {source}", certificate.display(), private_key.display())]
    Pair { certificate: PathBuf, private_key: PathBuf, source: rustls::Error },
}

fn file(path: &Path, message: impl Into<String>) -> TlsError {
    TlsError::File { path: path.to_owned(), message: message.into() }
}

/// Reads the files once; errors name the file.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let path = &files.certificate;
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(path, format!("cannot be read as PEM certificates: {error}")))?;
    if chain.is_empty() {
        return Err(file(path, "holds no certificate; it must be a PEM file with the server's certificate first"));
    }
    let path = &files.private_key;
    let key = PrivateKeyDer::from_pem_file(path)
        .map_err(|error| file(path, format!("cannot be read as a PEM private key: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |source| TlsError::Pair {
        certificate: files.certificate.clone(),
        private_key: files.private_key.clone(),
        source,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
