//! The secret that webhooks are signed with, in the form of Standard Webhooks: `whsec_` and base64.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::secret_file;

/// Bytes of a new secret.
const SECRET_BYTES: usize = 32;
const KEY: &str = "books.webhook_secret_file";

/// The key under which events are signed. It is never shown, so it has no `Debug`.
pub(super) struct Secret(Hmac<Sha256>);

impl Secret {
    /// The secret in a file; made when there is none yet.
    ///
    /// # Errors
    /// It cannot be read or written, or is no such secret.
    pub(super) fn load(file: &Path) -> Result<Self> {
        if let Some(secret) = Self::existing(file)? {
            return Ok(secret);
        }
        let mut random = [0_u8; SECRET_BYTES];
        OsRng
            .try_fill_bytes(&mut random)
            .map_err(|e| Error::failure("the system gives no random numbers").because(e))?;
        Self::of(file, &secret_file::make(file, &format!("whsec_{}", STANDARD.encode(random)), KEY)?)
    }

    /// The secret in a file, if it was made already.
    ///
    /// # Errors
    /// It cannot be read, or is no such secret.
    pub(super) fn existing(file: &Path) -> Result<Option<Self>> {
        secret_file::read(file, KEY)?.map(|text| Self::of(file, &text)).transpose()
    }

    fn of(file: &Path, text: &[u8]) -> Result<Self> {
        let key = text.strip_prefix(b"whsec_").and_then(|text| STANDARD.decode(text).ok());
        let key = key.filter(|key| (24..=64).contains(&key.len()));
        key.and_then(|key| Hmac::new_from_slice(&key).ok()).map(Self).ok_or_else(|| {
            Error::usage(format!("{} holds no secret for webhooks", file.display()))
                .because("expected whsec_ and 24 to 64 bytes in base64")
                .hint(format!("remove the file, then the next start makes one; or set {KEY} to the right file"))
        })
    }

    /// The header `webhook-signature` of a message.
    pub(super) fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specifications_libraries() {
        let secret = Secret::of(Path::new("x"), b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_secret_is_made_once_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub").join("webhook-secret");
        assert!(Secret::existing(&file).unwrap().is_none());
        let first = Secret::load(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!((text.len(), &text[..6]), (6 + 44, "whsec_"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(Secret::load(&file).unwrap().sign("a", 1, "b"), first.sign("a", 1, "b"));
        for bad in
            ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa!!"]
        {
            std::fs::write(&file, bad).unwrap();
            let error = Secret::load(&file).map(drop).unwrap_err();
            assert!(error.what.contains("holds no secret") && error.hint.is_some(), "{error:?}");
            assert!(bad.len() < 7 || !format!("{error:?}").contains(bad), "{error:?}");
        }
    }
}
