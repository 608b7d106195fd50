//! The real clock. No other file reads one.

use jiff::Timestamp;

use crate::{model::Mono, ports::Clock};

/// The kernel's boot-time and wall clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Mono(time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}
