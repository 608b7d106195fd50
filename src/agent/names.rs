//! `synchronous_standby_names`: how Locum writes it, and the proof that it is in force.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{inner::Inner, orders::Unable};
use crate::{
    model::{Server, Stamp, StandbyName},
    postgres::sql::{CONNECT, SqlError},
};

/// How soon a changed setting must be seen in a session.
const RELOADED: Duration = Duration::from_secs(2);
/// How long a commit may take to be seen waiting.
const PROOF: Duration = Duration::from_secs(2);
/// How long the waiting commit may go on waiting after the proof, before its session is ended.
const LET_GO: Duration = Duration::from_secs(10);
/// Between two looks.
const STEP: Duration = Duration::from_millis(2);

/// The value for these names: any one of them; empty: nobody.
pub(super) fn format(names: &[StandbyName]) -> Result<String, String> {
    let quoted = |name: &StandbyName| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.0.is_empty() || !name.0.chars().all(plain) {
            return Err(format!("{:?} is no name of a standby that Locum writes", name.0));
        }
        Ok(format!("\"{}\"", name.0))
    };
    let all: Vec<String> = names.iter().map(quoted).collect::<Result<_, _>>()?;
    Ok(if all.is_empty() { String::new() } else { format!("ANY 1 ({})", all.join(", ")) })
}

/// The names in a value of the form that [`format`] writes; None: somebody else wrote it.
pub(super) fn parse(value: &str) -> Option<Vec<StandbyName>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let list = value.strip_prefix("ANY 1 (")?.strip_suffix(')')?;
    list.split(", ").map(|n| Some(StandbyName(n.strip_prefix('"')?.strip_suffix('"')?.to_owned()))).collect()
}

impl Inner {
    /// Writes the names and waits until a session has them. In force they are only when proven.
    pub(super) async fn set_names(&self, names: &[StandbyName]) -> Result<(), Unable> {
        let value = format(names).map_err(Unable::Refused)?;
        let postmaster = self.running_primary()?;
        let wanted = Some(names.to_vec());
        let seen = |s: &Server| matches!(s, Server::Primary(p) if p.names == wanted);
        if self.board.read(|s| seen(&s.facts.server.value))
            && !self.instance.set(&[(SETTING, &value)]).await?
        {
            return Ok(());
        }
        self.board.update(|s| {
            s.names_proven = None;
            s.refresh();
        });
        self.instance.set(&[(SETTING, &value)]).await?;
        postmaster.reload()?;
        let deadline = Instant::now() + RELOADED;
        while Instant::now() < deadline {
            sleep(STEP).await;
            self.look(true).await?;
            if self.board.read(|s| seen(&s.facts.server.value)) {
                return Ok(());
            }
        }
        Err(Unable::Failed(format!(
            "{SETTING} was written to postgresql.auto.conf, but sessions do not have it; \
             something else sets it, perhaps the command line"
        )))
    }

    /// Proves that the names, as configured now, are in force.
    ///
    /// SHOW, a new session and `sync_state` do not tell: backends look at a flag that only the checkpointer sets, and
    /// it may be busy (SAFETY.md, The sync set). A commit that is seen waiting does.
    pub(super) async fn prove_names(&self, stamp: Stamp) -> Result<(), Unable> {
        self.running_primary()?;
        let generation = self.board.read(|s| s.generation);
        self.look(true).await?;
        let names = self.board.read(|s| match &s.facts.server.value {
            Server::Primary(p) => p.names.clone(),
            _ => None,
        });
        let Some(names) = names else {
            return Err(Unable::Refused(format!("{SETTING} is not in the form Locum writes")));
        };
        // What is in force and not in the file ends with the next reload, whoever asks for it.
        self.set_names(&names).await?;
        if names.is_empty() {
            self.see_commit_return().await?
        } else {
            self.see_commit_wait(&names).await?
        }
        let sql = self.sql().await?;
        let text = sql.value("SELECT pg_current_wal_flush_lsn()", PROOF).await?;
        let flushed = text.and_then(|t| t.parse().ok());
        let Some(flushed) = flushed else {
            return Err(Unable::Failed("the server did not say its flush position".into()));
        };
        self.board.update(|s| {
            if s.generation != generation {
                return Err(Unable::Failed("the server was restarted meanwhile".into()));
            }
            s.names_proven = Some((stamp.version, flushed));
            s.refresh();
            Ok(())
        })?;
        Ok(self.look(false).await?)
    }

    async fn see_commit_return(&self) -> Result<(), Unable> {
        let sql = self.access.connect(CONNECT).await?;
        match sql.run(&commit("on"), PROOF).await {
            Ok(_) => Ok(()),
            Err(SqlError::Silent(_)) => {
                sql.abandon();
                Err(Unable::Failed("no names are configured, but a commit still waits for a standby".into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn see_commit_wait(&self, names: &[StandbyName]) -> Result<(), Unable> {
        let waiter = self.access.connect(CONNECT).await?;
        let pid = waiter.value("SELECT pg_backend_pid()", PROOF).await?.unwrap_or_default();
        let mut waiting = Box::pin(tokio::spawn(async move {
            let result = waiter.run(&commit("remote_apply"), PROOF + LET_GO).await;
            if result.is_err() {
                waiter.abandon();
            }
        }));
        let seen = tokio::select! {
            seen = self.watch_wait(&pid, names) => seen,
            _ = &mut waiting => Err(Unable::Failed("the commit did not wait: the names are not in force".into())),
        };
        let (access, failed) = (self.access.clone(), seen.is_err());
        tokio::spawn(async move {
            let limit = if failed { Duration::ZERO } else { LET_GO };
            if tokio::time::timeout(limit, waiting).await.is_err()
                && let Ok(sql) = access.connect(CONNECT).await
            {
                let _ = sql.run(&format!("SELECT pg_terminate_backend({pid})"), PROOF).await;
            }
        });
        seen
    }

    /// Until the session waits in SyncRep **and** every sender that streams shows the priority these names give it:
    /// after a change from other names the wait alone might be the old names'.
    async fn watch_wait(&self, pid: &str, names: &[StandbyName]) -> Result<(), Unable> {
        let list = names.iter().map(|n| format!("'{}'", n.0)).collect::<Vec<_>>().join(", ");
        let question = format!(
            "SELECT coalesce((SELECT wait_event = 'SyncRep' FROM pg_stat_get_activity({pid})), false), \
             NOT EXISTS (SELECT FROM pg_stat_get_wal_senders() w JOIN pg_stat_get_activity(NULL) a ON a.pid = w.pid \
                          WHERE w.state = 'streaming' AND (w.sync_priority > 0) <> (a.application_name IN ({list})))"
        );
        let sql = self.sql().await?;
        let deadline = Instant::now() + PROOF;
        let yes = |rows: &[Vec<Option<String>>], i: usize| {
            rows.first().and_then(|row| row.get(i)?.as_deref()) == Some("t")
        };
        let (mut waits, mut given) = (false, false);
        while Instant::now() < deadline {
            let rows = sql.run(&question, PROOF).await?;
            (waits, given) = (yes(&rows, 0), yes(&rows, 1));
            if waits && given {
                return Ok(());
            }
            sleep(STEP).await;
        }
        Err(Unable::Failed(match (waits, given) {
            (true, false) => "a walsender does not show the priority that the names give it".into(),
            _ => {
                "the commit was not seen waiting: the names are not in force, or replay is not paused".into()
            }
        }))
    }
}

const SETTING: &str = "synchronous_standby_names";

fn commit(level: &str) -> String {
    format!(
        "BEGIN READ WRITE; SET LOCAL synchronous_commit = {level}; SET LOCAL statement_timeout = 0; \
         SELECT pg_logical_emit_message(true, 'locum', 'names'); COMMIT"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<StandbyName> {
        list.iter().map(|n| StandbyName((*n).to_owned())).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for list in [names(&[]), names(&["locum_a_00ff00ff"]), names(&["locum_a_1", "locum_b_2"])] {
            assert_eq!(parse(&format(&list).expect("good")), Some(list));
        }
        assert_eq!(format(&names(&["locum_a_1"])).as_deref(), Ok("ANY 1 (\"locum_a_1\")"));
    }

    #[test]
    fn what_others_write_is_not_taken_for_ours() {
        for other in ["*", "locum_a_1", "FIRST 1 (\"a\")", "ANY 2 (\"a\", \"b\")", "ANY 1 (a)"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_would_need_quoting_is_refused() {
        assert!(format(&names(&["*"])).is_err() && format(&names(&["a\"b"])).is_err());
    }
}
