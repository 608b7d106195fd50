//! The proxies beside apps (`locum endpoint`) that follow this member, and what they have parked.
//!
//! Nobody orders them: in a hand-over each asks for the sessions, parks those that are between two transactions, and says so
//! with its next question. Whoever asks for the sessions in order to stop the server is told which of them one of these
//! could still let begin a transaction. One that goes on saying nothing is waited for no longer than the drain time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    model::Mono,
    ports::{Clock, Session, SessionsLook},
};

/// How long it counts that one has parked sessions; they say so many times as often. Longer: what was parked for a hand-over that
/// was given up counts in the next one.
const STANDS: Duration = Duration::from_millis(250);

/// See the file's head.
pub struct Sidecars {
    clock: Arc<dyn Clock>,
    all: Mutex<BTreeMap<String, Sidecar>>,
}

#[derive(Default)]
struct Sidecar {
    /// Its streams of events.
    streams: usize,
    /// The last look that it was shown, and the ports that were idle then: what it parks next.
    shown: Option<(Mono, BTreeSet<u16>)>,
    /// What it has parked, and when it said so.
    parked: Option<(Mono, BTreeSet<u16>)>,
}

/// A sidecar follows for as long as this lasts.
pub struct Following {
    sidecars: Arc<Sidecars>,
    name: String,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut all = self.sidecars.all();
        let streams = all.get_mut(&self.name).map(|sidecar| {
            sidecar.streams -= 1;
            sidecar.streams
        });
        if streams == Some(0) {
            all.remove(&self.name);
        }
    }
}

impl Sidecars {
    /// Nobody follows yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, all: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Sidecar>> {
        // Nothing here panics half-way through a change.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One begins to follow.
    #[must_use]
    pub fn follows(self: &Arc<Self>, name: String) -> Following {
        self.all().entry(name.clone()).or_default().streams += 1;
        Following { sidecars: Arc::clone(self), name }
    }

    /// One that follows is shown a look, and has parked the sessions that were idle at an earlier one.
    pub fn shown(&self, name: &str, look: &SessionsLook, parked: Option<Mono>) {
        let now = self.clock.now();
        let mut all = self.all();
        let Some(sidecar) = all.get_mut(name) else { return };
        let idle = Session::idle_ports(&look.sessions);
        let before = sidecar.shown.replace((look.at, idle.clone()));
        if let Some((_, ports)) = before.filter(|(at, _)| Some(*at) == parked) {
            sidecar.parked = Some((now, ports));
        }
        // What is not idle any more it will let go.
        if let Some((_, parked)) = &mut sidecar.parked {
            parked.retain(|port| idle.contains(port));
        }
    }

    /// Marks the sessions that one of them could still let begin a transaction.
    pub fn mark(&self, sessions: &mut [Session]) {
        let now = self.clock.now();
        let all = self.all();
        let has_parked = |sidecar: &Sidecar, port: u16| {
            let parked = sidecar.parked.as_ref().filter(|(at, _)| now.since(*at) <= STANDS);
            parked.is_some_and(|(_, ports)| ports.contains(&port))
        };
        for session in sessions {
            // None of them leads one over a Unix socket.
            session.loose = session
                .client_port
                .is_some_and(|port| !all.values().all(|sidecar| has_parked(sidecar, port)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Mutex<Mono>);

    impl Clock for At {
        fn now(&self) -> Mono {
            *self.0.lock().unwrap()
        }

        fn wall(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
    }

    /// The sessions at 4 and 5, and which of them are between two transactions.
    fn look(at: u64, idle: &[u16]) -> SessionsLook {
        let session = |client_port| Session {
            client_port: Some(client_port),
            idle: idle.contains(&client_port),
            loose: false,
        };
        SessionsLook { at: Mono(at), sessions: [4, 5].map(session).to_vec() }
    }

    fn loose(sidecars: &Sidecars) -> Vec<u16> {
        let mut sessions = look(0, &[4, 5]).sessions;
        sidecars.mark(&mut sessions);
        sessions.iter().filter(|session| session.loose).filter_map(|session| session.client_port).collect()
    }

    fn begun() -> (Arc<At>, Arc<Sidecars>) {
        let clock = Arc::new(At(Mutex::default()));
        (Arc::clone(&clock), Sidecars::new(clock))
    }

    #[test]
    fn sessions_are_loose_until_every_sidecar_has_parked_them() {
        let (_, sidecars) = begun();
        assert!(loose(&sidecars).is_empty(), "nobody follows");
        let one = sidecars.follows("one".into());
        let two = sidecars.follows("two".into());
        assert_eq!(loose(&sidecars), [4, 5]);
        sidecars.shown("one", &look(1, &[4, 5]), None);
        sidecars.shown("two", &look(1, &[4]), None);
        assert_eq!(loose(&sidecars), [4, 5], "shown is not parked");
        sidecars.shown("one", &look(2, &[4, 5]), Some(Mono(1)));
        sidecars.shown("two", &look(2, &[4, 5]), Some(Mono(1)));
        assert_eq!(loose(&sidecars), [5], "it was not idle when the second one looked");
        sidecars.shown("two", &look(3, &[4, 5]), Some(Mono(2)));
        assert!(loose(&sidecars).is_empty());
        sidecars.shown("nobody", &look(3, &[]), Some(Mono(2)));
        drop(two);
        assert!(loose(&sidecars).is_empty());
        drop(one);
    }

    #[test]
    fn what_is_let_go_again_is_loose() {
        let (_, sidecars) = begun();
        let _one = sidecars.follows("one".into());
        sidecars.shown("one", &look(1, &[4, 5]), None);
        sidecars.shown("one", &look(2, &[5]), Some(Mono(1)));
        assert_eq!(loose(&sidecars), [4], "what it had begun arrived all the same");
        sidecars.shown("one", &look(3, &[4, 5]), Some(Mono(1)));
        assert_eq!(loose(&sidecars), [4], "an older look than the last");
    }

    #[test]
    fn a_word_stands_for_a_moment_and_a_sidecar_that_is_gone_is_not_waited_for() {
        let (clock, sidecars) = begun();
        let one = sidecars.follows("one".into());
        let again = sidecars.follows("one".into());
        sidecars.shown("one", &look(1, &[4, 5]), None);
        sidecars.shown("one", &look(2, &[4, 5]), Some(Mono(1)));
        *clock.0.lock().unwrap() = Mono(0).plus(STANDS);
        assert!(loose(&sidecars).is_empty());
        *clock.0.lock().unwrap() = Mono(1).plus(STANDS);
        assert_eq!(loose(&sidecars), [4, 5]);
        drop(one);
        assert_eq!(loose(&sidecars), [4, 5], "it still follows with its other stream");
        drop(again);
        assert!(loose(&sidecars).is_empty());
    }
}
