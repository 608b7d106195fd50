//! Timeline history files (PostgreSQL manual, 26.3.5).

use super::{Instance, PgError, Source, disk, instance::QUICK, run};
use crate::model::{Switch, Timeline};

/// How long a server on another host may take to say whether it is a primary. Shorter: one that is busy is taken for dead.
/// Longer: a standby that is all that is left is started later by so much.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(1);

/// A line that does not belong in a history file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a timeline history: {0:?}")]
pub struct BadHistory(pub String);

/// The switches in a history file, oldest first. Comments and empty lines are skipped, as PostgreSQL does.
///
/// # Errors
/// [`BadHistory`]: a line that makes no sense, or timelines that do not grow.
pub fn parse_history(text: &str) -> Result<Vec<Switch>, BadHistory> {
    let mut switches: Vec<Switch> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let bad = || BadHistory(line.to_owned());
        let mut words = line.split_whitespace();
        let timeline = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        let at = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        let grows = switches.last().is_none_or(|before| before.timeline.0 < timeline && before.at <= at);
        if timeline == 0 || !grows {
            return Err(bad());
        }
        switches.push(Switch { timeline: Timeline(timeline), at });
    }
    Ok(switches)
}

/// The name of a timeline's history file.
pub(super) fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

impl Instance {
    /// Whether a server takes writes, as it says by the replication protocol.
    ///
    /// # Errors
    /// [`PgError`]: it does not answer.
    pub async fn is_primary(&self, source: &Source) -> Result<bool, PgError> {
        let session = source.walsender();
        let mut command = self.command("psql");
        command.args(["-X", "-A", "-t", "-w", "-c", "SHOW in_hot_standby", "-d", &session]);
        let limit = run::Limit::Total(ANSWER);
        Ok(run::text("psql", command, limit).await?.trim() == "off")
    }

    /// The switches that led to the timeline a running server is on, as it says by the replication protocol.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn history_of(&self, source: &Source) -> Result<Vec<Switch>, PgError> {
        let session = source.walsender();
        let ask = |what: String| {
            let mut command = self.command("psql");
            command.args(["-X", "-A", "-t", "-w", "-F", "\t", "-c", &what, "-d", &session]);
            run::text("psql", command, QUICK)
        };
        let identity = ask("IDENTIFY_SYSTEM".to_owned()).await?;
        let timeline = identity.split('\t').nth(1).and_then(|number| number.trim().parse().ok());
        let timeline: u32 =
            timeline.ok_or_else(|| PgError::Nonsense(format!("no timeline: {identity:?}")))?;
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let answer = ask(format!("TIMELINE_HISTORY {timeline}")).await?;
        let text = answer.split_once('\t').map_or("", |(_, content)| content);
        parse_history(text).map_err(|error| PgError::Nonsense(error.to_string()))
    }

    /// The switches that led to `timeline`, from its history file; empty for the first timeline.
    ///
    /// # Errors
    /// [`PgError`], also if there is no such file.
    pub async fn history(&self, timeline: Timeline) -> Result<Vec<Switch>, PgError> {
        if timeline <= Timeline(1) {
            return Ok(Vec::new());
        }
        let path = self.file("pg_wal").join(file_name(timeline));
        let read = move || {
            let text = disk::io("read", &path, std::fs::read_to_string(&path))?;
            parse_history(&text).map_err(|error| PgError::Nonsense(format!("{}: {error}", path.display())))
        };
        self.disk.run("read the timeline history", disk::SMALL, read).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Lsn;

    proptest! {
        #[test]
        fn what_postgresql_writes_is_read(steps in proptest::collection::vec((1u32..9, 0u64..1 << 40), 0..9)) {
            let mut last = Switch { timeline: Timeline(0), at: Lsn(0) };
            let grown = steps.iter().map(|(timelines, bytes)| {
                last = Switch { timeline: Timeline(last.timeline.0 + timelines), at: Lsn(last.at.0 + bytes) };
                last
            });
            let switches: Vec<Switch> = grown.collect();
            let line = |s: &Switch| format!("{}\t{}\tno recovery target specified\n\n", s.timeline, s.at);
            let text: String = switches.iter().map(line).collect();
            prop_assert_eq!(parse_history(&text), Ok(switches));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9A-F/\\t #\\n]*") {
            let _ = parse_history(&text);
        }
    }

    #[test]
    fn a_history_that_does_not_grow_is_refused() {
        for bad in ["2\t0/1\n1\t0/2", "1\t0/2\n2\t0/1", "1\t0/1\n1\t0/1", "0\t0/1", "1", "x\t0/1", "1\tx"] {
            assert!(parse_history(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_history("# comment\n\n"), Ok(vec![]));
    }
}
