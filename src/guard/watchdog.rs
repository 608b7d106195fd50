//! The machine's own watchdog: it resets the machine if the guard cannot tell for a while that all is under control.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::model::Mono;

/// How often it is told that all is well. Watchdogs wait for ten seconds at the least, and for a minute usually.
const PET: Duration = Duration::from_secs(1);

/// A watchdog device (`watchdog-api` of the kernel's documentation). Writing anything holds it off; to be closed
/// without a reset it must be written a `V` last.
pub(super) struct Watchdog {
    path: PathBuf,
    open: Option<File>,
    last: Mono,
}

impl Watchdog {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None, last: Mono(0) }
    }

    /// Begins to need to be told.
    pub(super) fn arm(&mut self) {
        if self.open.is_none() {
            self.open = File::options().write(true).open(&self.path).ok();
            self.last = Mono(0);
        }
    }

    /// Tells it that all is well, if it is time for that.
    pub(super) fn pet(&mut self, now: Mono) {
        if now >= self.due()
            && let Some(mut device) = self.open.as_ref()
        {
            self.last = now;
            // A device that does not take it resets the machine, as it is there to.
            let _ = device.write_all(b"\0");
        }
    }

    /// Needs to be told nothing any more.
    pub(super) fn disarm(&mut self) {
        if let Some(mut device) = self.open.take() {
            let _ = device.write_all(b"V");
        }
    }

    /// When it is to be told next; None: not armed.
    pub(super) fn next(&self) -> Option<Mono> {
        self.open.is_some().then(|| self.due())
    }

    fn due(&self) -> Mono {
        if self.last == Mono(0) { Mono(0) } else { self.last.plus(PET) }
    }
}
