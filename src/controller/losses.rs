//! What failovers lost, as the old primary's own agent tells it when it comes back, which may be long after.

use crate::model::{AgentFacts, Incident, IncidentKind, LostTail, NodeId, Server, View};

/// How many are kept in mind. Fewer: the loss of a node that stays away through many failovers is never recorded.
const KEPT: usize = 64;

/// Failovers that ended, or were cut off by the next incident, before the old primary's disk was read; oldest first.
#[derive(Default)]
pub(super) struct Unread(Vec<Incident>);

impl Unread {
    /// Notes a failover whose loss is not known yet.
    pub(super) fn note(&mut self, closed: &Incident) {
        let loses = matches!(closed.kind, IncidentKind::Failover | IncidentKind::LeftRecovery);
        if loses && !is_recorded(closed) {
            self.0.push(closed.clone());
            self.0.drain(..self.0.len().saturating_sub(KEPT));
        }
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Those that are complete now.
    pub(super) fn read(&mut self, view: &View, open: Option<&Incident>) -> Vec<Incident> {
        let mut ended: Vec<NodeId> = open.and_then(|incident| incident.from.clone()).into_iter().collect();
        let (mut read, mut left) = (Vec::new(), Vec::new());
        for mut incident in self.0.drain(..).rev() {
            let Some(old) = incident.from.clone() else { continue };
            if ended.contains(&old) {
                // It was primary again since: what it tells is of that term.
                continue;
            }
            if view.agent(&old).is_some_and(|agent| tells(&mut incident, agent)) {
                read.push(incident);
            } else {
                left.push(incident);
            }
            ended.push(old);
        }
        left.reverse();
        self.0 = left;
        read
    }
}

/// Fills in what was lost. True once it is known, or nothing can have been.
pub(super) fn is_known(incident: &mut Incident, view: &View) -> bool {
    let Some(old) = incident.from.as_ref().filter(|_| incident.kind == IncidentKind::Failover) else {
        return true;
    };
    if is_recorded(incident) {
        return true;
    }
    if incident.to.as_ref() == Some(old) {
        // It was declared again, with everything it had.
        (incident.rpo.lost_bytes, incident.rpo.lost_transactions) = (Some(0), Some(0));
        return true;
    }
    let Some(agent) = view.agent(old) else { return false };
    if let (Server::Down(down), Some(live)) = (&agent.server.value, &incident.live)
        && let Some(end) = down.wal_end
    {
        incident.rpo.written_after_bytes = Some(end.bytes_since(live.primary));
    }
    tells(incident, agent)
}

const fn is_recorded(incident: &Incident) -> bool {
    incident.rpo.lost_bytes.is_some() || incident.rpo.lost_unknown.is_some()
}

/// What the old primary says of it. It may have missed further failovers: what it gave up is still what it had written in its own
/// last term.
fn tells(incident: &mut Incident, agent: &AgentFacts) -> bool {
    let streams = matches!(&agent.server.value, Server::Standby(standby) if standby.streaming);
    let same = incident.from_name.as_ref().is_none_or(|name| *name == agent.standby_name);
    if incident.kind == IncidentKind::LeftRecovery {
        return stray_tells(incident, agent);
    }
    match agent.lost.as_ref().filter(|lost| lost.under.epoch >= incident.epoch && lost.stray.is_none()) {
        Some(lost) => note(incident, lost),
        // It streams from the new primary without having been rewound or cloned: it had nothing of its own.
        None if streams && same => {
            (incident.rpo.lost_bytes, incident.rpo.lost_transactions) = (Some(0), Some(0));
        }
        // Every clone has a name of its own, and one that is made over an old primary tells what that had.
        None if streams => {
            incident.rpo.lost_unknown =
                Some("the node came back with another data directory, and its own was not read".into());
        }
        None => {}
    }
    if is_recorded(incident)
        && !incident.rpo.doubt.as_ref().is_some_and(|why| why.contains("went back in time"))
    {
        incident.rpo.doubt = None;
    }
    is_recorded(incident)
}

/// What a standby wrote after it had left recovery: known when it gave that up.
fn stray_tells(incident: &mut Incident, agent: &AgentFacts) -> bool {
    match agent.lost.as_ref().filter(|lost| lost.stray == Some(incident.started_at)) {
        Some(lost) => note(incident, lost),
        None if agent.strayed.is_none_or(|stray| stray.at != incident.started_at) => {
            let why = "the node follows again, and does not tell what it wrote after it had left recovery";
            incident.rpo.lost_unknown = Some(why.into());
        }
        None => {}
    }
    is_recorded(incident)
}

/// What the old primary's agent found. Where WAL was gone, what could be read is shown, and not taken for all of it.
fn note(incident: &mut Incident, lost: &LostTail) {
    let rpo = &mut incident.rpo;
    rpo.salvage.clone_from(&lost.salvage);
    rpo.lost_unknown.clone_from(&lost.unknown);
    rpo.lost_tables.clone_from(&lost.tables);
    rpo.lost_first.clone_from(&lost.first);
    rpo.lost_notes.clone_from(&lost.notes);
    if lost.unknown.is_none() {
        (rpo.lost_bytes, rpo.lost_transactions) = (Some(lost.bytes), Some(lost.transactions));
        rpo.written_after_bytes = incident.live.as_ref().map(|live| lost.end.bytes_since(live.primary));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Cause, Epoch, Incarnation, IncidentId, Objectives, RpoAtOnset, Stamp, StandbyName, Version},
        planner::fixture::{down, healthy, seoul, standby, tokyo},
    };

    /// From seoul to tokyo, in that epoch.
    fn failover(epoch: u64) -> Incident {
        Incident {
            id: IncidentId(format!("e{epoch}")),
            kind: IncidentKind::Failover,
            cause: Cause { summary: String::new(), evidence: Vec::new() },
            operation: None,
            epoch: Epoch(epoch),
            from: Some(seoul()),
            from_name: Some(StandbyName("locum_seoul_1".into())),
            to: Some(tokyo()),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            leader: tokyo(),
            marks: Vec::new(),
            rpo: RpoAtOnset::default(),
            live: None,
            objectives: Objectives { rto_ms: 5_000.0, rpo_ms: 0.0 },
            connections_cut: 0,
            connections_held: 0,
            repoints: Vec::new(),
            connections_refused: 0,
            longest_gap_ms: None,
            deviations: Vec::new(),
            abandoned: None,
            closed: true,
        }
    }

    /// Seoul, as it is seen, and what it gave up under an epoch.
    fn seen(server: Server, name: &str, lost: Option<u64>) -> View {
        let mut view = healthy();
        view.server(&seoul(), server);
        let agent = view.agent_mut(&seoul());
        agent.standby_name = StandbyName(name.into());
        agent.lost = lost.map(|epoch| LostTail {
            under: Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(1) },
            bytes: 80,
            transactions: 3,
            ..LostTail::default()
        });
        view
    }

    fn read(unread: &mut Unread, view: &View, open: Option<&Incident>) -> Vec<(String, Option<u64>)> {
        let read = unread.read(view, open);
        read.into_iter().map(|incident| (incident.id.0, incident.rpo.lost_transactions)).collect()
    }

    #[test]
    fn a_loss_that_is_told_under_a_later_epoch_is_that_of_the_last_term() {
        let mut unread = Unread::default();
        unread.note(&failover(2));
        let away = seen(Server::Down(down(true)), "locum_seoul_1", None);
        assert_eq!(read(&mut unread, &away, None), []);
        let earlier = seen(Server::Down(down(true)), "locum_seoul_1", Some(1));
        assert_eq!(read(&mut unread, &earlier, None), [], "that was given up before");
        let back = seen(Server::Down(down(true)), "locum_seoul_1", Some(3));
        assert_eq!(read(&mut unread, &back, None), [("e2".to_owned(), Some(3))]);
        assert_eq!(read(&mut unread, &back, None), [], "it is recorded once");
    }

    #[test]
    fn what_a_node_tells_is_never_of_a_term_before_its_last() {
        let back = seen(Server::Down(down(true)), "locum_seoul_1", Some(6));
        let mut unread = Unread::default();
        unread.note(&failover(2));
        unread.note(&failover(5));
        assert_eq!(read(&mut unread, &back, None), [("e5".to_owned(), Some(3))]);
        assert_eq!(read(&mut unread, &back, None), []);
        unread.note(&failover(2));
        assert_eq!(read(&mut unread, &back, Some(&failover(5))), [], "the later one is still open");
    }

    #[test]
    fn who_streams_lost_nothing_unless_it_is_another_data_directory() {
        let verdict = |name: &str| {
            let view = seen(Server::Standby(standby()), name, None);
            let mut incident = failover(2);
            assert!(is_known(&mut incident, &view));
            (incident.rpo.lost_transactions, incident.rpo.lost_unknown.is_some())
        };
        assert_eq!(verdict("locum_seoul_1"), (Some(0), false));
        assert_eq!(verdict("locum_seoul_2"), (None, true));
    }
}
