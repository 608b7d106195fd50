//! The agents that are connected to the guard. A connection that ends means nothing.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};

use super::wire::{Bytes, FRAME};

/// How many there may be: one, and some that have hung.
pub(super) const PEERS: usize = 8;

/// One connection.
pub(super) struct Peer {
    stream: UnixStream,
    /// What has come of the next frame.
    part: Bytes,
    filled: usize,
}

/// What came.
pub(super) enum Heard {
    /// A whole frame.
    Frame(Bytes),
    /// Not yet a whole one.
    Nothing,
    /// The end.
    End,
}

impl Peer {
    /// Takes a connection that waits. None: there is none, or it is somebody else's.
    pub(super) fn accept(listener: &UnixListener) -> io::Result<Option<Self>> {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let uid = socket_peercred(&stream)?.uid;
        if !uid.is_root() && uid != geteuid() {
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        Ok(Some(Self { stream, part: [0; FRAME], filled: 0 }))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads on.
    pub(super) fn hear(&mut self) -> Heard {
        match self.stream.read(&mut self.part[self.filled..]) {
            Ok(0) => Heard::End,
            Ok(more) => {
                self.filled += more;
                if self.filled < FRAME {
                    return Heard::Nothing;
                }
                self.filled = 0;
                Heard::Frame(self.part)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Heard::Nothing
            }
            Err(_) => Heard::End,
        }
    }

    /// Sends a frame. False: it does not listen, and is to be dropped; it can come again.
    pub(super) fn tell(&mut self, frame: &Bytes) -> bool {
        matches!(self.stream.write(frame), Ok(FRAME))
    }
}
