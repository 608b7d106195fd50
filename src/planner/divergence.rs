//! Who has WAL that the present primary's history does not have.
//!
//! SAFETY, "The returning primary": divergence is judged by system identifier and by the switch position in the
//! timeline history, never by the timeline number alone.

use std::time::Duration;

use super::rejoin::PATIENCE;
use crate::model::{AgentFacts, Down, Intent, Primary, Server, Standby, Switch};

/// The switch, if this node may have something beyond it that the present primary has not.
pub(super) fn own_switch(intent: &Intent, agent: &AgentFacts) -> Option<Switch> {
    let strays = match &agent.server.value {
        Server::Down(down) => intent.switch.is_some_and(|switch| received_more(switch, down)),
        _ => false,
    };
    intent.switch.filter(|_| agent.primary_since.is_some() || strays)
}

/// Whether a stopped node has WAL that the present primary's history does not. None: not known yet.
///
/// A node whose latest checkpoint lies on a timeline after the one that was left got it from the present primary.
pub(super) fn of_stopped(intent: &Intent, agent: &AgentFacts, down: &Down, lost: Duration) -> Option<bool> {
    if agent.strayed.is_some() {
        return Some(true);
    }
    let Some(switch) = intent.switch else { return Some(false) };
    if agent.primary_since.is_none() {
        // It wrote nothing of its own. What it is to be cloned for is seen when it streams in vain.
        let control = down.control.filter(|control| control.timeline <= switch.timeline);
        let unknown = control.is_some() && down.wal_end.is_none() && !down.wal_gone && lost < PATIENCE;
        return (!unknown).then(|| received_more(switch, down));
    }
    let Some(control) = down.control else { return Some(true) };
    if down.wal_gone {
        // It cannot be started either. What is left of it is saved, and what was lost is said to be unknown.
        return Some(true);
    }
    if control.timeline > switch.timeline {
        return Some(false);
    }
    if control.timeline < switch.timeline {
        return Some(true);
    }
    down.wal_end.map(|end| end > switch.at)
}

/// Whether `pg_rewind` can be trusted to see that histories have parted. It compares numbers: a standby that left recovery
/// by itself may have begun a timeline of the very number that the present primary is on, and would be left as it is.
pub(super) fn is_seen_by_rewind(agent: &AgentFacts, down: &Down, primary: &Primary) -> bool {
    agent.strayed.is_none() || down.wal_timeline.is_some_and(|own| own != primary.timeline)
}

/// A standby was further than the one that was promoted: its host was away then, or a rescue brought WAL to it before
/// another one was declared. The timeline tells it from one that followed the present primary past the switch.
fn received_more(switch: Switch, down: &Down) -> bool {
    down.wal_timeline == Some(switch.timeline) && down.wal_end.is_some_and(|end| end > switch.at)
}

/// The same of one that runs, by what it has replayed.
pub(super) fn of_running(intent: &Intent, standby: &Standby) -> bool {
    let beyond = |switch: Switch| standby.timeline == switch.timeline && standby.replayed > switch.at;
    !standby.streaming && intent.switch.is_some_and(beyond)
}
