//! What operators asked for and what became of it.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{
    Incident, Intent, NodeId, Operation, OperationState, Rejoin, Request, RequestKind, Scheduled, View,
};

/// Operations remembered.
const KEPT: usize = 32;

#[derive(Default)]
pub(super) struct Operations {
    list: VecDeque<Operation>,
    /// The nodes that requests about one are for, by operation.
    about: BTreeMap<String, NodeId>,
}

impl Operations {
    pub(super) fn list(&self) -> Vec<Operation> {
        self.list.iter().cloned().collect()
    }

    fn find(&mut self, id: &str) -> Option<&mut Operation> {
        self.list.iter_mut().find(|operation| operation.id == id)
    }

    pub(super) fn refuse(&mut self, id: &str, blockers: Vec<String>) {
        if let Some(operation) = self.find(id) {
            // What had begun was given up.
            operation.state = match operation.state {
                OperationState::Pending | OperationState::Scheduled => OperationState::Refused,
                OperationState::Running => OperationState::Failed,
                // It was told before.
                OperationState::Done | OperationState::Refused | OperationState::Failed => return,
            };
            operation.messages = blockers;
        }
    }

    /// The intent changed. Returns the requests that are thereby dealt with.
    pub(super) fn declared(&mut self, before: Option<&Intent>, next: &Intent) -> Vec<String> {
        let paused = before.is_some_and(|before| before.paused) != next.paused;
        let handover = next.handover.as_ref().map(|handover| &handover.operation);
        let rejoin = next.rejoin.as_ref().map(|asked| &asked.operation);
        let mut dealt = Vec::new();
        for operation in &mut self.list {
            let pauses =
                (operation.kind == "pause" && next.paused) || (operation.kind == "resume" && !next.paused);
            if operation.state == OperationState::Pending && pauses && (paused || before.is_some()) {
                operation.state = OperationState::Done;
                dealt.push(operation.id.clone());
            }
            let accepted = before.map_or(0, |before| before.incarnation.0) < next.incarnation.0;
            if operation.state == OperationState::Pending && operation.kind == "accept-store" && accepted {
                operation.state = OperationState::Done;
                dealt.push(operation.id.clone());
            }
            if let Some(node) = self.about.get(&operation.id) {
                let had = operation.state;
                serve(operation, node, next);
                if had == OperationState::Pending && operation.state != had {
                    dealt.push(operation.id.clone());
                }
            }
            if next.scheduled.as_ref().is_some_and(|asked| asked.operation == operation.id)
                && operation.state == OperationState::Pending
            {
                operation.state = OperationState::Scheduled;
                dealt.push(operation.id.clone());
            }
            if operation.state == OperationState::Scheduled && handover == Some(&operation.id) {
                operation.state = OperationState::Running;
            }
            let taken = [handover, rejoin].contains(&Some(&operation.id));
            if operation.state == OperationState::Pending && taken {
                operation.state = OperationState::Running;
                dealt.push(operation.id.clone());
            }
        }
        let dropped = before.and_then(|before| before.handover.as_ref()).filter(|_| next.handover.is_none());
        let moved = before.is_some_and(|before| before.epoch != next.epoch);
        if let Some(handover) = dropped
            && let Some(operation) = self.find(&handover.operation)
            && !(moved && next.primary.as_ref() == Some(&handover.to))
        {
            operation.state = OperationState::Failed;
            operation.messages.push("taken back; see the incident for the reason".to_owned());
        }
        if let Some(scheduled) = before.and_then(|before| before.scheduled.as_ref())
            && next.scheduled.is_none()
        {
            dealt.extend(self.unscheduled(scheduled, moved));
        }
        let ended = before.and_then(|before| before.rejoin.as_ref()).filter(|_| next.rejoin.is_none());
        if let Some(asked) = ended {
            self.rejoined(asked, next, moved);
        }
        dealt
    }

    /// A scheduled switchover is scheduled no more. What was begun, or was refused with its reason, is left. Returns the request
    /// that asked for that.
    fn unscheduled(&mut self, scheduled: &Scheduled, moved: bool) -> Option<String> {
        let cancels = |operation: &&mut Operation| {
            operation.kind == "cancel" && operation.state == OperationState::Pending
        };
        let cancel = self.list.iter_mut().find(cancels).map(|operation| {
            operation.state = OperationState::Done;
            operation.id.clone()
        });
        if let Some(operation) = self.find(&scheduled.operation)
            && operation.state == OperationState::Scheduled
        {
            operation.state = OperationState::Refused;
            let why = if moved { "another primary was declared before its time" } else { "it was cancelled" };
            operation.messages = vec![why.to_owned()];
        }
        cancel
    }

    /// A rejoin has ended: well, unless it was given up before, or another epoch came first.
    fn rejoined(&mut self, asked: &Rejoin, next: &Intent, moved: bool) {
        let running = |operation: &&mut Operation| operation.state == OperationState::Running;
        let Some(operation) = self.find(&asked.operation).filter(running) else { return };
        if moved {
            operation.state = OperationState::Failed;
            operation.messages =
                vec!["another primary was declared first; every node is brought back to that one".to_owned()];
            return;
        }
        let how = if asked.from_scratch { "was cloned anew and streams" } else { "streams again" };
        let from = next.primary.as_ref().map_or("the primary", NodeId::as_str);
        operation.state = OperationState::Done;
        operation.messages = vec![format!("{} {how} from {from}", asked.node)];
    }

    /// Notes a request, if it is new.
    pub(super) fn note(&mut self, request: &Request) {
        if self.find(&request.operation).is_some() {
            return;
        }
        let kind = match &request.kind {
            RequestKind::Switchover { .. } | RequestKind::Schedule { .. } => "switchover",
            RequestKind::Cancel => "cancel",
            RequestKind::Pause => "pause",
            RequestKind::Resume => "resume",
            RequestKind::Rejoin { .. } => "rejoin",
            RequestKind::AcceptStore => "accept-store",
            RequestKind::Drain { node } => self.about(request, node, "drain"),
            RequestKind::Restore { node } => self.about(request, node, "restore"),
            RequestKind::Remove { node } => self.about(request, node, "remove"),
        };
        self.list.push_back(Operation {
            id: request.operation.clone(),
            kind: kind.to_owned(),
            state: OperationState::Pending,
            messages: Vec::new(),
            incident: None,
        });
        while self.list.len() > KEPT {
            let oldest = self.list.pop_front();
            oldest.map(|operation| self.about.remove(&operation.id));
        }
    }

    fn about(&mut self, request: &Request, node: &NodeId, kind: &'static str) -> &'static str {
        self.about.insert(request.operation.clone(), node.clone());
        kind
    }

    /// One that another leader has taken is known here, too.
    fn show_scheduled(&mut self, view: &View) {
        let Some(scheduled) = view.intent.as_ref().and_then(|intent| intent.scheduled.as_ref()) else {
            return;
        };
        if self.find(&scheduled.operation).is_none() {
            self.list.push_back(Operation {
                id: scheduled.operation.clone(),
                kind: "switchover".to_owned(),
                state: OperationState::Scheduled,
                messages: Vec::new(),
                incident: None,
            });
        }
    }

    /// What is being done on a node that was asked back, as it is being done.
    fn show_rejoin(&mut self, view: &View) {
        let Some(asked) = view.intent.as_ref().and_then(|intent| intent.rejoin.as_ref()) else { return };
        let job = view.agent(&asked.node).and_then(|agent| agent.job.clone());
        if let (Some(job), Some(operation)) = (job, self.find(&asked.operation))
            && operation.state == OperationState::Running
        {
            operation.messages = vec![job];
        }
    }

    /// Notes new requests, and the progress of the one under way.
    pub(super) fn observe(&mut self, view: &View, incident: Option<&Incident>) {
        view.requests.iter().for_each(|request| self.note(request));
        self.show_scheduled(view);
        self.show_rejoin(view);
        let Some(incident) = incident else { return };
        for operation in &mut self.list {
            let its_own = incident.operation.as_ref() == Some(&operation.id);
            if its_own && operation.incident.as_ref() != Some(incident) {
                operation.incident = Some(incident.clone());
                if operation.state == OperationState::Running && incident.rto_ms().is_some() {
                    operation.state = OperationState::Done;
                }
                if let Some(reason) = &incident.abandoned {
                    operation.messages = vec![reason.clone()];
                }
            }
        }
    }
}

/// Where a request about a node in service stands under this intent.
fn serve(operation: &mut Operation, node: &NodeId, next: &Intent) {
    if !matches!(operation.state, OperationState::Pending | OperationState::Running) {
        return;
    }
    let (drained, removed) = (next.drained.contains(node), next.removed.contains(node));
    operation.state = match operation.kind.as_str() {
        "drain" if drained && next.is_free_of(node) => OperationState::Done,
        "drain" if drained => OperationState::Running,
        "restore" if !drained && !removed => OperationState::Done,
        "remove" if removed => OperationState::Done,
        _ => return,
    };
    operation.messages = match (operation.kind.as_str(), operation.state) {
        ("drain", OperationState::Running) => vec![format!("{node} leaves the sync set")],
        _ => Vec::new(),
    };
}
