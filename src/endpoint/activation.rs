//! Listening sockets that the service manager holds (systemd's socket activation, `sd_listen_fds(3)`): clients who come while
//! the member restarts wait in the socket's queue, instead of being refused. `SO_REUSEPORT` would not do: the queue of the
//! process that ends is lost, and while none runs, nobody listens.

use std::{io, net};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The socket of this name (`FileDescriptorName=`), if there is one.
pub(super) fn listener(name: &str) -> io::Result<Option<net::TcpListener>> {
    let Some((descriptor, _)) = sd_notify::listen_fds_with_names()?.find(|(_, its)| its == name) else {
        return Ok(None);
    };
    // A copy of it: a bare number cannot be owned without `unsafe`.
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let listener = net::TcpListener::from(pidfd_getfd(this, descriptor, PidfdGetfdFlags::empty())?);
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}
