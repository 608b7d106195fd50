//! Why an endpoint cannot listen, in words that name the way out.

use std::{io, net::SocketAddr};

use crate::{config, model::EndpointName};

/// An endpoint cannot listen. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "endpoint {endpoint}: {listen} is in use by another process; stop it (`ss -ltnp` names it), \
         or choose another `listen` for this endpoint"
    )]
    Taken {
        /// Which endpoint.
        endpoint: EndpointName,
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// A port that this user may not listen on.
    #[error(
        "endpoint {endpoint}: no permission to listen on {listen}; choose a port above 1023, \
         or grant CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// Which endpoint.
        endpoint: EndpointName,
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// An address that this host does not have.
    #[error(
        "endpoint {endpoint}: this host has no address {}; set `listen` to one that `ip address` shows, \
         or to 0.0.0.0 for all of them", .listen.ip()
    )]
    NotHere {
        /// Which endpoint.
        endpoint: EndpointName,
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// Anything else the system says.
    #[error("endpoint {endpoint}: cannot listen on {listen}: {error}; check the `listen` of this endpoint")]
    System {
        /// Which endpoint.
        endpoint: EndpointName,
        /// Where it was to listen.
        listen: SocketAddr,
        /// What it says.
        error: io::Error,
    },
}

impl BindError {
    pub(super) fn new(config: &config::Endpoint, error: io::Error) -> Self {
        let (endpoint, listen) = (config.name.clone(), config.listen);
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { endpoint, listen },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { endpoint, listen },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { endpoint, listen },
            _ => Self::System { endpoint, listen, error },
        }
    }
}
