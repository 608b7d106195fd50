//! The task behind [`Client`](super::Client): carries requests to the guard and what it says back, and replaces a guard
//! that has ended.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    client::{ANSWER, GuardError},
    spawn::{self, Settings},
    wire::{Ask, Bytes, FRAME, Told},
};
use crate::model::{GuardFacts, Stamp};

/// Between two tries to get a guard.
const AGAIN: Duration = Duration::from_millis(20);

/// A request of the agent.
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Result<GuardFacts, GuardError>>,
}

/// What a guard must be told that knows nothing: what the last one was told.
#[derive(Default)]
struct Wanted {
    watch: Option<Ask>,
    arm: Option<Ask>,
    /// The server is to stay in recovery.
    keep: bool,
    /// The highest stamp of a kill, so that a new guard refuses what is lower.
    killed: Option<Stamp>,
}

impl Wanted {
    /// Notes what the guard has taken.
    fn note(&mut self, ask: Ask) {
        match ask {
            Ask::Watch { .. } if self.watch != Some(ask) => {
                (self.watch, self.arm, self.keep) = (Some(ask), None, false);
            }
            Ask::Keep => self.keep = true,
            Ask::Arm { .. } => self.arm = Some(ask),
            Ask::Disarm { .. } => (self.arm, self.keep) = (None, false),
            Ask::Kill { stamp } => (self.killed, self.arm) = (Some(stamp), None),
            Ask::Watch { .. } | Ask::Hello { .. } | Ask::Quit => {}
        }
    }

    fn all(&self) -> impl Iterator<Item = Ask> {
        // A kill before there is a server kills nothing, and is remembered.
        let killed = self.killed.map(|stamp| Ask::Kill { stamp });
        // Armed first: a promotion that was ordered may be ending at this moment.
        [killed, self.watch, self.arm, self.keep.then_some(Ask::Keep)].into_iter().flatten()
    }
}

struct Link {
    hello: Ask,
    wanted: Wanted,
    facts: watch::Sender<Option<GuardFacts>>,
    requests: mpsc::Receiver<Request>,
}

/// Runs until nobody asks any more.
pub(super) async fn keep(
    settings: Settings,
    first: UnixStream,
    requests: mpsc::Receiver<Request>,
    facts: watch::Sender<Option<GuardFacts>>,
    ready: oneshot::Sender<Result<(), GuardError>>,
) {
    let hello = Ask::Hello { freeze_max: settings.freeze_max, enforce: settings.enforce };
    let mut link = Link { hello, wanted: Wanted::default(), facts, requests };
    let (mut stream, mut ready) = (Some(first), Some(ready));
    loop {
        if let Some(stream) = stream.take() {
            let Some(error) = link.converse(stream, &mut ready).await else { return };
            tracing::warn!(%error, "the guard was lost");
            link.facts.send_replace(None);
        }
        if let Some(first) = ready.take() {
            let _nobody_waits = first.send(Err(GuardError::Silent));
            return;
        }
        let asked = link.requests.recv();
        tokio::select! {
            request = asked => match request {
                // What is asked meanwhile is not done; and there is a reason to hurry.
                Some(request) => drop(request.answer.send(Err(GuardError::Silent))),
                None => return,
            },
            () = sleep(AGAIN) => {}
        }
        match timeout(ANSWER, spawn::open(&settings)).await {
            Ok(Ok(opened)) => stream = Some(opened),
            Ok(Err(error)) => tracing::warn!(%error, "there is no guard"),
            Err(_) => tracing::warn!("the guard cannot be reached in time"),
        }
    }
}

impl Link {
    /// Until the connection ends, and why. None: nobody asks any more.
    async fn converse(
        &mut self,
        mut stream: UnixStream,
        ready: &mut Option<oneshot::Sender<Result<(), GuardError>>>,
    ) -> Option<GuardError> {
        match timeout(ANSWER, self.introduce(&mut stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(self.fail(error, ready)),
            Err(_) => return Some(self.fail(GuardError::Silent, ready)),
        }
        if let Some(ready) = ready.take() {
            let _nobody_waits = ready.send(Ok(()));
        }
        let (mut reading, mut writing) = stream.split();
        let (mut frame, mut filled): (Bytes, usize) = ([0; FRAME], 0);
        let mut waiting: VecDeque<(u32, Request)> = VecDeque::new();
        let mut seq = 100_u32;
        loop {
            // Either side of this may be dropped at any time without losing anything: the frame's part is kept here.
            tokio::select! {
                read = reading.read(&mut frame[filled..]) => match read {
                    Ok(0) => return Some(GuardError::Silent),
                    Ok(more) => filled += more,
                    Err(error) => return Some(GuardError::Unreachable(error)),
                },
                request = self.requests.recv() => {
                    let request = request?;
                    // Whoever gave up has told the caller that it was not done.
                    if request.answer.is_closed() {
                        continue;
                    }
                    seq = seq.wrapping_add(1).max(1);
                    // Small against the socket's buffer; a guard that takes nothing any more is not waited for.
                    match timeout(ANSWER, writing.write_all(&request.ask.bytes(seq))).await {
                        Ok(Ok(())) => waiting.push_back((seq, request)),
                        _ => return Some(GuardError::Silent),
                    }
                }
            }
            if filled == FRAME {
                filled = 0;
                let Ok(told) = Told::parse(&frame) else { return Some(GuardError::OtherRelease) };
                self.facts.send_replace(Some(told.facts));
                self.answer(&mut waiting, told);
            }
        }
    }

    fn answer(&mut self, waiting: &mut VecDeque<(u32, Request)>, told: Told) {
        if waiting.front().is_none_or(|(seq, _)| *seq != told.seq) {
            return;
        }
        let Some((_, request)) = waiting.pop_front() else { return };
        let answer = match told.refused {
            None => {
                self.wanted.note(request.ask);
                Ok(told.facts)
            }
            Some(refused) => Err(GuardError::Refused(refused)),
        };
        let _nobody_waits = request.answer.send(answer);
    }

    /// Tells a guard everything that holds, and waits until it has taken it.
    async fn introduce(&mut self, stream: &mut UnixStream) -> Result<(), GuardError> {
        let all: Vec<Ask> = std::iter::once(self.hello).chain(self.wanted.all()).collect();
        for (seq, ask) in (1_u32..).zip(all) {
            stream.write_all(&ask.bytes(seq)).await.map_err(GuardError::Unreachable)?;
            loop {
                let mut frame = [0; FRAME];
                stream.read_exact(&mut frame).await.map_err(|_| GuardError::OtherRelease)?;
                let told = Told::parse(&frame).map_err(|_| GuardError::OtherRelease)?;
                self.facts.send_replace(Some(told.facts));
                if told.seq == seq {
                    if let Some(refused) = told.refused {
                        // A server that has ended meanwhile is nothing to be guarded.
                        tracing::info!(%refused, ?ask, "the guard refused what held before");
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// Passes the reason on to whoever waits for the first connection.
    fn fail(
        &self,
        error: GuardError,
        ready: &mut Option<oneshot::Sender<Result<(), GuardError>>>,
    ) -> GuardError {
        match ready.take() {
            Some(first) => {
                let told = first.send(Err(error)).err();
                told.and_then(Result::err).unwrap_or(GuardError::Silent)
            }
            None => error,
        }
    }
}
