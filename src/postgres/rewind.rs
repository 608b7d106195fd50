//! `pg_rewind`: back to the point where histories parted, then forward on the source's.

use std::time::Duration;

use super::{
    Instance, PgError, Source,
    clone::in_words,
    disk,
    run::{self, Limit},
};
use crate::model::ControlState;

/// How long recovery or `pg_rewind` may show no sign of life.
const STALL: Limit = Limit::Stall(Duration::from_secs(60));

/// What `pg_rewind` says when trying again cannot help.
const NEVER: [&str; 6] = [
    "different systems",
    "needs to use either data checksums",
    "could not find previous WAL record",
    "could not find common ancestor",
    "could not read WAL record",
    "versions are not compatible",
];

/// What a rewind came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewound {
    /// The directory was rewound.
    Done,
    /// `pg_rewind` saw nothing to do. It says so wrongly while the source's control file still names the old timeline:
    /// only to be believed once the source has completed a checkpoint on its own.
    NotRequired,
}

/// Why it was not rewound. The directory must not be started unless a later rewind or clone succeeds.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// It will never work: other system, no checksums, WAL needed is gone. Clone instead.
    #[error("cannot be rewound: {0}")]
    Impossible(String),
    /// It did not work this time.
    #[error(transparent)]
    Failed(#[from] PgError),
}

impl Instance {
    /// Rewinds the stopped server's directory to `source`. A server that crashed is recovered first. The directory
    /// keeps its own configuration files, and is a standby's when this returns. `progress` gets a line for people now
    /// and then. Given up when there has been no sign of life for a minute. Dropping the future kills what runs.
    ///
    /// # Errors
    /// [`RewindError`].
    pub async fn rewind(
        &self,
        source: &Source,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Rewound, RewindError> {
        self.make_idle().await?;
        let control = self.control().await?;
        if !control.can_rewind {
            let reason = "neither data checksums nor wal_log_hints are on";
            return Err(RewindError::Impossible(reason.to_owned()));
        }
        if control.state == ControlState::Other {
            let recovered = self.recover(&progress).await;
            // Whatever comes of it, it must never come up as a second primary.
            self.write_standby_signal().await?;
            recovered?;
        }
        self.keep_conf().await?;
        let rewound = self.run_rewind(source, &progress).await;
        match &rewound {
            Ok(_) => self.give_conf_back().await?,
            // That is found out before anything is written: the directory has its own files.
            Err(RewindError::Impossible(_)) => self.forget_conf().await?,
            // The source's files may have come, and have to be replaced once a rewind succeeds.
            Err(RewindError::Failed(_)) => self.write_standby_signal().await?,
        }
        rewound
    }

    /// Crash recovery by a single-user server that nobody can connect to. `pg_rewind` would do it itself, but up to
    /// version 14 without our options.
    async fn recover(&self, progress: &(impl Fn(&str) + Send + Sync)) -> Result<(), RewindError> {
        progress("recovering from the crash");
        // A single-user server refuses to be a standby.
        self.remove_standby_signal().await?;
        let mut command = self.command("postgres");
        self.past_the_dead(&mut command).await?;
        // What was committed is about to be thrown away or fetched anew, and `pg_rewind` syncs everything at its end.
        command.args(["--single", "-F", "-D"]).arg(&self.data_dir).args(&self.options);
        command.args(["-c", "synchronous_standby_names=", "-c", "archive_mode=off", "template1"]);
        let (ran, _) = run::run("postgres", command, STALL, progress, std::io::read_to_string).await?;
        if ran.status.success() { Ok(()) } else { Err(ran.failure("postgres --single").into()) }
    }

    async fn run_rewind(
        &self,
        source: &Source,
        progress: &(impl Fn(&str) + Send + Sync),
    ) -> Result<Rewound, RewindError> {
        let mut command = self.command("pg_rewind");
        command.arg("--target-pgdata").arg(&self.data_dir);
        command.arg("--source-server").arg(source.session("postgres"));
        command.args(["--progress", "--no-ensure-shutdown"]);
        let tell = in_words(progress);
        let (ran, _) = run::run("pg_rewind", command, STALL, &tell, std::io::read_to_string).await?;
        match (ran.status.success(), ran.said.as_str()) {
            (true, said) if said.contains("no rewind required") => Ok(Rewound::NotRequired),
            (true, _) => Ok(Rewound::Done),
            (false, said) if NEVER.iter().any(|words| said.contains(words)) && !said.contains(disk::FULL) => {
                Err(RewindError::Impossible(said.to_owned()))
            }
            (false, _) => Err(ran.failure("pg_rewind").into()),
        }
    }
}
