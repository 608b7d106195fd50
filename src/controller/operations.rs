//! What operators asked for and what became of it.

use std::collections::VecDeque;

use crate::model::{Incident, Intent, Operation, OperationState, Request, RequestKind, View};

/// Operations remembered.
const KEPT: usize = 32;

#[derive(Default)]
pub(super) struct Operations {
    list: VecDeque<Operation>,
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
            operation.state = OperationState::Refused;
            operation.messages = blockers;
        }
    }

    /// The intent changed. Returns the requests that are thereby dealt with.
    pub(super) fn declared(&mut self, before: Option<&Intent>, next: &Intent) -> Vec<String> {
        let paused = before.is_some_and(|before| before.paused) != next.paused;
        let taken = next.handover.as_ref().map(|handover| handover.operation.clone());
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
            if operation.state == OperationState::Pending && taken.as_ref() == Some(&operation.id) {
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
        dealt
    }

    /// Notes a request, if it is new.
    pub(super) fn note(&mut self, request: &Request) {
        if self.find(&request.operation).is_some() {
            return;
        }
        let kind = match request.kind {
            RequestKind::Switchover { .. } => "switchover",
            RequestKind::Pause => "pause",
            RequestKind::Resume => "resume",
            RequestKind::AcceptStore => "accept-store",
        };
        self.list.push_back(Operation {
            id: request.operation.clone(),
            kind: kind.to_owned(),
            state: OperationState::Pending,
            messages: Vec::new(),
            incident: None,
        });
        while self.list.len() > KEPT {
            self.list.pop_front();
        }
    }

    /// Notes new requests, and the progress of the one under way.
    pub(super) fn observe(&mut self, view: &View, incident: Option<&Incident>) {
        view.requests.iter().for_each(|request| self.note(request));
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
