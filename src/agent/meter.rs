//! How long replay on the own standby works, measured look by look.

use std::time::Duration;

use crate::{
    model::{Lsn, Mono, ReplayEffort},
    postgres::observe::{CpuTime, StandbyLook},
};

/// Of the startup process of one standby after the other.
#[derive(Debug, Default)]
pub(super) struct Meter {
    effort: ReplayEffort,
    last: Option<Look>,
}

/// What one look saw.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Mono,
    flushed: Lsn,
    replayed: Lsn,
    cpu: CpuTime,
}

impl Meter {
    /// Another postmaster: its startup process has replayed what nobody saw.
    pub(super) fn begins_anew(&mut self) {
        self.last = None;
    }

    /// A look was taken.
    pub(super) fn looked(&mut self, at: Mono, look: &StandbyLook) -> ReplayEffort {
        let now = look.cpu.map(|cpu| Look { at, flushed: look.flushed, replayed: look.replayed, cpu });
        match (self.last, now) {
            (Some(last), Some(now)) if now.replayed > last.replayed => {
                self.effort.came_to(now.replayed, worked(last, now));
            }
            (None, Some(now)) => self.effort.found_at(now.replayed),
            _ => {}
        }
        self.last = now;
        self.effort.clone()
    }
}

/// How long replay was at work between two looks. What it used of a CPU; and where it never had to wait for WAL, all the time
/// in which it was not kept from a CPU: it may have waited for its disk.
fn worked(last: Look, now: Look) -> Duration {
    let used = now.cpu.used.saturating_sub(last.cpu.used);
    let had_work = now.replayed <= last.flushed && now.replayed < now.flushed;
    if !had_work {
        return used;
    }
    let kept_waiting = now.cpu.waited.saturating_sub(last.cpu.waited);
    used.max(now.at.since(last.at).saturating_sub(kept_waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A look after so many milliseconds, of received and replayed MiB, with what was had of a CPU and waited for one in
    /// milliseconds.
    fn look(meter: &mut Meter, at_ms: u64, mib: [u64; 2], cpu_ms: Option<[u64; 2]>) -> ReplayEffort {
        let [flushed, replayed] = mib.map(|mib| Lsn(mib * MIB));
        let cpu =
            cpu_ms.map(|ms| ms.map(Duration::from_millis)).map(|[used, waited]| CpuTime { used, waited });
        let seen =
            StandbyLook { flushed, replayed, streaming: true, received_timeline: None, paused: false, cpu };
        meter.looked(Mono(at_ms * 1000), &seen)
    }

    fn last_rate(effort: &ReplayEffort) -> Option<u64> {
        effort.rate(Lsn(u64::MAX), Lsn(u64::MAX))
    }

    fn ms_each_mib(effort: &ReplayEffort) -> u64 {
        1000 * MIB / last_rate(effort).unwrap()
    }

    #[test]
    fn a_replay_that_waits_for_wal_took_what_it_used_of_a_cpu() {
        let mut meter = Meter::default();
        look(&mut meter, 0, [100, 100], Some([70, 5]));
        // Idle for a second, then 20 MiB that came and were replayed at once, in 40 ms of a second.
        look(&mut meter, 1000, [100, 100], Some([75, 5]));
        let effort = look(&mut meter, 2000, [120, 120], Some([115, 5]));
        assert_eq!(ms_each_mib(&effort), 2);
        // The look before caught it behind: it had to wait all the same.
        look(&mut meter, 3000, [140, 130], Some([135, 5]));
        assert_eq!(ms_each_mib(&look(&mut meter, 4000, [160, 160], Some([195, 5]))), 2);
    }

    #[test]
    fn one_that_is_behind_took_all_the_time_but_what_others_had_of_the_cpu() {
        let mut meter = Meter::default();
        look(&mut meter, 0, [200, 100], Some([0, 0]));
        let effort = look(&mut meter, 1000, [300, 120], Some([100, 200]));
        assert_eq!(ms_each_mib(&effort), 800 / 20);
    }

    #[test]
    fn what_nobody_saw_is_not_counted() {
        let mut meter = Meter::default();
        look(&mut meter, 0, [100, 100], Some([0, 0]));
        look(&mut meter, 1000, [120, 120], Some([20, 0]));
        // Behind, and it stands still: stopped or paused.
        for at in [2000, 3000, 4000] {
            look(&mut meter, at, [200, 120], Some([20, 0]));
        }
        assert_eq!(ms_each_mib(&look(&mut meter, 4100, [200, 121], Some([21, 99]))), 1);
        // Another postmaster has replayed some again, and more, before it could be asked.
        meter.begins_anew();
        assert_eq!(last_rate(&look(&mut meter, 5000, [500, 500], Some([900, 0]))), None);
        // A look without the times is a gap, too.
        look(&mut meter, 6000, [540, 540], Some([940, 0]));
        look(&mut meter, 7000, [600, 600], None);
        assert_eq!(last_rate(&look(&mut meter, 8000, [700, 700], Some([2000, 0]))), None);
    }
}
