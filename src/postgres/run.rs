//! Running one of PostgreSQL's programs to its end, however that comes.
//!
//! It has a process group of its own, which is killed when it does not end in time or when the caller loses interest.

use std::{
    io::{self, PipeReader, Read},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, Command},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{PgError, proc};

/// How long a program may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// In all.
    Total(Duration),
    /// Without any sign of life: a line, CPU time, or bytes read or written by it or its children.
    Stall(Duration),
}

/// How often signs of life are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How much of the end of what a program says is kept.
const SAID_BYTES: usize = 4096;

/// How much of an answer is read where all of it is wanted.
const ANSWER_BYTES: u64 = 1 << 20;

/// How long pipes may stay open after a program's end; a grandchild may hold them.
const PIPES: Duration = Duration::from_secs(2);

/// How a program ended, and the end of what it said on standard error.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

impl Ran {
    /// The error for a program that was to succeed.
    pub(super) fn failure(&self, program: &str) -> PgError {
        let said = if self.said.is_empty() { self.status.to_string() } else { self.said.clone() };
        PgError::Program { program: program.to_owned(), said }
    }
}

/// Kills a process group when dropped, unless it was disarmed.
struct Group(Option<Pid>);

impl Group {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _gone_already = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a program that is to succeed, and returns what it printed.
pub(super) async fn text(program: &str, command: Command, limit: Limit) -> Result<String, PgError> {
    let read = |out: PipeReader| {
        let mut text = String::new();
        out.take(ANSWER_BYTES).read_to_string(&mut text).map(|_| text)
    };
    let (ran, text) = run(program, command, limit, &|_| (), read).await?;
    if ran.status.success() { Ok(text) } else { Err(ran.failure(program)) }
}

/// Runs a program. `read` gets its standard output on a blocking thread, `on_line` each line of its standard error.
pub(super) async fn run<T: Send + 'static>(
    program: &str,
    mut command: Command,
    limit: Limit,
    on_line: &(dyn Fn(&str) + Send + Sync),
    read: impl FnOnce(PipeReader) -> io::Result<T> + Send + 'static,
) -> Result<(Ran, T), PgError> {
    let failed = |verb: &str, error| PgError::Io { what: format!("{verb} {program}"), error };
    let (out, into) = io::pipe().map_err(|e| failed("make a pipe for", e))?;
    command.stdin(Stdio::null()).stdout(into).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| failed("run", e))?;
    // Our end of what it writes to, or the reader would never see the end.
    drop(command);
    let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut group = Group(leader);
    let reader = tokio::task::spawn_blocking(move || read(out));

    let mut lines = Lines { pipe: child.stderr.take(), part: Vec::new(), said: String::new(), on_line };
    let mut life = Life::new(leader, limit);
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|e| failed("wait for", e))?,
            () = lines.more() => life.seen(),
            _ = tick.tick() => if let Some(why) = life.over() {
                return Err(PgError::Program { program: program.to_owned(), said: format!("{why}; {}", lines.said) });
            },
        }
    };
    group.disarm();
    let _pipe_held_by_a_grandchild = timeout(PIPES, lines.rest()).await;
    let said = lines.said.trim_end().to_owned();
    let Ok(answer) = timeout(PIPES, reader).await else {
        return Err(PgError::Nonsense(format!("{program}: its output does not end")));
    };
    let answer = answer.map_err(|e| PgError::Nonsense(format!("{program}: {e}")))?;
    Ok((Ran { status, said }, answer.map_err(|e| failed("read from", e))?))
}

/// Standard error, line by line; a progress line may end in a carriage return.
struct Lines<'a> {
    pipe: Option<ChildStderr>,
    part: Vec<u8>,
    said: String,
    on_line: &'a (dyn Fn(&str) + Send + Sync),
}

impl Lines<'_> {
    /// Reads what is there; never returns again once there will be no more.
    async fn more(&mut self) {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let mut bytes = [0; SAID_BYTES];
        match pipe.read(&mut bytes).await {
            Ok(0) | Err(_) => {
                self.pipe = None;
                self.take(b"\n");
            }
            Ok(count) => self.take(&bytes[..count]),
        }
    }

    async fn rest(&mut self) {
        while self.pipe.is_some() {
            self.more().await;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' && byte != b'\r' && self.part.len() < SAID_BYTES {
                self.part.push(byte);
            } else if !self.part.is_empty() {
                let line = String::from_utf8_lossy(&self.part).into_owned();
                self.part.clear();
                (self.on_line)(&line);
                self.keep(&line);
            }
        }
    }

    /// Keeps the end of what was said; of progress nobody wants to read more than the last.
    fn keep(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
        while self.said.len() > SAID_BYTES {
            let first = self.said.find('\n').map_or(self.said.len(), |at| at + 1);
            self.said.drain(..first);
        }
    }
}

/// Watches whether a program still gets anywhere.
struct Life {
    leader: Option<Pid>,
    limit: Limit,
    since: Instant,
    activity: u64,
}

impl Life {
    fn new(leader: Option<Pid>, limit: Limit) -> Self {
        Self { leader, limit, since: Instant::now(), activity: 0 }
    }

    fn seen(&mut self) {
        if matches!(self.limit, Limit::Stall(_)) {
            self.since = Instant::now();
        }
    }

    /// Why it is given up, if it is.
    fn over(&mut self) -> Option<String> {
        let allowed = match self.limit {
            Limit::Total(allowed) => allowed,
            Limit::Stall(allowed) => {
                let activity =
                    self.leader.map_or(0, |leader| proc::activity(leader.as_raw_pid().cast_unsigned()));
                if activity != self.activity {
                    self.activity = activity;
                    self.since = Instant::now();
                }
                allowed
            }
        };
        let waited = self.since.elapsed();
        (waited >= allowed).then(|| match self.limit {
            Limit::Total(_) => format!("not done after {waited:.0?}, killed"),
            Limit::Stall(_) => format!("no progress for {waited:.0?}, killed"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn progress_lines_end_in_either_way_and_the_last_words_are_kept() {
        let lines = Mutex::new(Vec::new());
        let note = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let script = r"printf '1%%\r2%%\r\nbad' >&2; echo out; exit 3";
        let (ran, out) =
            run("sh", shell(script), Limit::Total(PIPES), &note, io::read_to_string).await.unwrap();
        assert_eq!((ran.status.code(), out.as_str()), (Some(3), "out\n"));
        assert_eq!(*lines.lock().unwrap(), ["1%", "2%", "bad"]);
        assert!(ran.failure("sh").to_string().ends_with("bad"));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let script = "echo $$ >&2; sleep 300 & sleep 300";
        let group = Mutex::new(0);
        let note = |line: &str| *group.lock().unwrap() = line.parse().unwrap();
        let limit = Limit::Total(Duration::from_millis(500));
        assert!(run("sh", shell(script), limit, &note, io::read_to_string).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(10));
        let leader = Pid::from_raw(*group.lock().unwrap()).unwrap();
        while rustix::process::test_kill_process_group(leader).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "its group is left");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_works_in_silence_is_let_go_on_and_what_does_nothing_is_not() {
        let limit = Limit::Stall(Duration::from_millis(1500));
        let busy = run(
            "sh",
            shell("timeout --foreground 3 sh -c 'while :; do :; done'"),
            limit,
            &|_| (),
            io::read_to_string,
        );
        let idle = run("sh", shell("sleep 300"), limit, &|_| (), io::read_to_string);
        let (busy, idle) = tokio::join!(busy, idle);
        assert_eq!(busy.unwrap().0.status.code(), Some(124));
        assert!(idle.unwrap_err().to_string().contains("no progress"));
    }
}
