//! The shared token: who holds it may control the cluster.

use std::hint::black_box;

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};

use super::error::Refusal;

/// The token that is asked for.
pub(crate) struct Token(SecretString);

impl Token {
    pub(crate) const fn new(token: SecretString) -> Self {
        Self(token)
    }

    /// Lets a request through that carries `Authorization: Bearer <token>`.
    ///
    /// # Errors
    /// 401, with a sentence that tells a missing token from a wrong one, and nothing about the right one.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(Refusal::no_token("this call needs the token: `Authorization: Bearer <token>`"));
        };
        let bytes = value.as_bytes();
        let (scheme, given) = bytes.split_at(bytes.len().min("Bearer ".len()));
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err(Refusal::no_token("the token is given as `Authorization: Bearer <token>`"));
        }
        if same(self.0.expose_secret().as_bytes(), given.trim_ascii()) {
            Ok(())
        } else {
            Err(Refusal::no_token(
                "the token is not the one of this cluster; see `api.token_file` in locum.toml",
            ))
        }
    }
}

/// Whether both are the same, in a time that depends on the length of `given` alone: how far a guess was right must
/// not show. No token at all is never the same.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let mut differ = usize::from(expected.is_empty()) | (expected.len() ^ given.len());
    for (place, byte) in given.iter().enumerate() {
        let other = expected.get(place % expected.len().max(1)).copied().unwrap_or(0);
        differ = black_box(differ | usize::from(byte ^ other));
    }
    differ == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(same(b"secret", b"secret"));
        for wrong in [b"".as_slice(), b"s", b"secre", b"secrets", b"Secret", b"secretsecret"] {
            assert!(!same(b"secret", wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_token_admits_nobody() {
        assert!(!same(b"", b"") && !same(b"", b"x"));
    }
}
