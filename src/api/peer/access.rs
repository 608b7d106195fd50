//! What admits a member to another.

use std::sync::Arc;

use secrecy::SecretString;

use crate::tls::Identity;

/// The token, and what proves the caller's name where TLS is spoken.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) token: SecretString,
    /// None: plain HTTP, for a network that is trusted.
    pub(super) identity: Option<Arc<Identity>>,
}

impl Access {
    /// The shared token of the cluster, and the identity of this member if its peers speak TLS.
    #[must_use]
    pub const fn new(token: SecretString, identity: Option<Arc<Identity>>) -> Self {
        Self { token, identity }
    }
}

/// The token alone.
impl From<SecretString> for Access {
    fn from(token: SecretString) -> Self {
        Self::new(token, None)
    }
}

/// The token alone.
impl From<&str> for Access {
    fn from(token: &str) -> Self {
        Self::new(token.into(), None)
    }
}
