//! Writes incidents to the store, behind the loop's back: recovery never waits for its own record.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::{
    model::Incident,
    ports::Outcome,
    store::{Leadership, Records},
};

/// How often a write is tried before it is given up; the next change of the incident carries everything anyway.
const TRIES: u32 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// States that may wait to be written.
const WAITING: usize = 256;

type Job = (Leadership, Incident);

pub(super) struct Recorder {
    jobs: mpsc::Sender<Job>,
}

impl Recorder {
    pub(super) fn new(records: Records) -> Self {
        let (jobs, mut inbox) = mpsc::channel::<Job>(WAITING);
        tokio::spawn(async move {
            while let Some(mut job) = inbox.recv().await {
                // Of several states of one incident only the last is worth a write.
                while let Ok(next) = inbox.try_recv() {
                    if next.1.id != job.1.id {
                        save(&records, &job).await;
                    }
                    job = next;
                }
                save(&records, &job).await;
            }
        });
        Self { jobs }
    }

    /// Saves the incident as it is now.
    pub(super) fn save(&self, leadership: Leadership, incident: Incident) {
        if let Err(error) = self.jobs.try_send((leadership, incident)) {
            tracing::warn!(%error, "an incident's state was not saved");
        }
    }
}

async fn save(records: &Records, (leadership, incident): &Job) {
    for _ in 0..TRIES {
        match records.save_incident(leadership, incident).await {
            Ok(Outcome::Committed(_)) => return,
            Ok(Outcome::GuardFailed) => {
                return tracing::warn!(id = %incident.id, "incident not saved: leadership was lost");
            }
            Err(error) => tracing::warn!(%error, id = %incident.id, "save the incident"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
