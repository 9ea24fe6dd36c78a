//! The one-time link to a plant's first admin key.
//!
//! Its token is 256 random bits, kept as a hash in memory only: it ends with the server. Looking at the page does not use
//! it up, since programs that preview links do that as well.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::hex;

/// Where the links begin.
pub(crate) const CLAIM_PATH: &str = "/admin/claim/";

/// The link of this server, if it gave one.
#[derive(Debug, Default)]
pub(crate) struct Claim(Mutex<Option<Link>>);

#[derive(Clone, Copy, Debug)]
struct Link {
    hash: [u8; 32],
    used: bool,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A guess.
    Unknown,
    /// Right, and not used yet.
    Open,
    /// Right once.
    Used,
}

impl Claim {
    /// Makes a new token; an older one ends.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub(crate) fn open(&self) -> std::io::Result<String> {
        let mut random = [0; 32];
        OsRng.try_fill_bytes(&mut random).map_err(std::io::Error::other)?;
        let token = hex(&random);
        *self.link() = Some(Link { hash: hash(&token), used: false });
        Ok(token)
    }

    /// What `token` is.
    pub(crate) fn look(&self, token: &str) -> Token {
        check(self.link().as_ref(), token)
    }

    /// As [`Claim::look`]; an open token is used up with it.
    pub(crate) fn take(&self, token: &str) -> Token {
        let mut link = self.link();
        let found = check(link.as_ref(), token);
        if let (Token::Open, Some(link)) = (found, link.as_mut()) {
            link.used = true;
        }
        found
    }

    /// Makes a token that was taken in vain valid again.
    pub(crate) fn give_back(&self) {
        if let Some(link) = self.link().as_mut() {
            link.used = false;
        }
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Compares in constant time, also where there is no link.
fn check(link: Option<&Link>, token: &str) -> Token {
    let known = link.map_or([0; 32], |link| link.hash);
    let same = bool::from(known.ct_eq(&hash(token)));
    match link {
        Some(link) if same && link.used => Token::Used,
        Some(_) if same => Token::Open,
        _ => Token::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once() {
        let claim = Claim::default();
        assert_eq!(claim.take(""), Token::Unknown);
        let token = claim.open().unwrap();
        assert_eq!(token.len(), 64);
        for guess in ["", "0", &token[..63], &token.to_uppercase().replace(char::is_numeric, "0"), &"0".repeat(64)] {
            assert_eq!(claim.take(guess), Token::Unknown, "{guess}");
        }
        assert_eq!((claim.look(&token), claim.look(&token)), (Token::Open, Token::Open));
        assert_eq!(
            (claim.take(&token), claim.take(&token), claim.look(&token)),
            (Token::Open, Token::Used, Token::Used)
        );
        claim.give_back();
        assert_eq!(claim.take(&token), Token::Open);
        let newer = claim.open().unwrap();
        assert_eq!((claim.look(&token), claim.look(&newer)), (Token::Unknown, Token::Open));
    }
}
