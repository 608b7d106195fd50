//! What may end a standby's recovery, or keep it from replaying, besides Locum; and how a start leaves it out.
//!
//! What else ends recovery, in PostgreSQL 14 to 18 (manual, "Write Ahead Log"; `xlogrecovery.c`): a recovery target that
//! is reached with `recovery_target_action = promote` (or `shutdown`), `promote_trigger_file` (up to 15), `pg_promote()`
//! and `pg_ctl promote` by a person, and the end of WAL where there is `recovery.signal` and no `standby.signal`. A start
//! by Locum leaves out the settings; the guard stands behind the rest.

use std::time::Duration;

use tokio::process::Command;

use super::{
    Instance, PgError, disk,
    sql::{Sql, SqlError},
};
use crate::model::Hindrance;

/// Settings that end recovery, or hold up replay, where they are set, with what they are when they do not. Given on the
/// command line, which wins over every file, they also keep two targets in the files from being a mistake that PostgreSQL
/// does not start with.
///
/// The action has no meaning without a target; `pause` is the one that neither ends recovery nor the server. Not among
/// them: what Locum changes by reload (`primary_conninfo`, `primary_slot_name`, `restore_command`), and
/// `recovery_min_apply_delay`, which is a person's wish.
const LEFT_OUT: [(&str, &str); 7] = [
    ("recovery_target", ""),
    ("recovery_target_lsn", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_timeline", "latest"),
    ("recovery_target_action", "pause"),
];
/// Of those, what was there up to version 15 only.
const TRIGGER: (&str, &str) = ("promote_trigger_file", "");
const TRIGGER_UP_TO: u32 = 15;

/// Every such setting that is set: its name, its value, the file, and whether the running server has it. A file is asked
/// because what stands in it comes into force at the next start. The action alone, without a target, does nothing.
pub const HINDRANCES: &str = "\
    SELECT s.name, CASE WHEN s.is_set THEN current_setting(s.name) ELSE f.setting END AS value, \
           CASE WHEN s.is_set AND s.sourcefile IS NOT NULL THEN s.sourcefile ELSE f.sourcefile END AS file, \
           s.is_set AS in_force \
      FROM (SELECT name, sourcefile, setting NOT IN ('', '0', 'pause') AS is_set FROM pg_settings \
             WHERE name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time', \
                            'recovery_target_xid', 'recovery_target_action', 'promote_trigger_file', \
                            'recovery_min_apply_delay')) s \
      LEFT JOIN (SELECT DISTINCT ON (name) name, setting, sourcefile FROM pg_file_settings ORDER BY name, seqno DESC) f \
             ON f.name = s.name \
     WHERE s.is_set OR coalesce(f.setting, '') NOT IN ('', '0', 'pause') \
     ORDER BY s.name";
const MAY_READ_FILES: &str = "SELECT has_table_privilege('pg_file_settings', 'SELECT') \
     AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')";
/// The same for a role that may not read files.
const IN_FORCE: &str = "\
    SELECT name, current_setting(name) AS value, sourcefile AS file, true AS in_force FROM pg_settings \
     WHERE name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time', \
                    'recovery_target_xid', 'recovery_target_action', 'promote_trigger_file', 'recovery_min_apply_delay') \
       AND setting NOT IN ('', '0', 'pause') ORDER BY name";
/// One of these.
const STATEMENT: Duration = Duration::from_secs(3);

/// Whether a start of a standby by Locum gives this setting on the command line.
#[must_use]
pub fn is_given_to_standbys(name: &str) -> bool {
    LEFT_OUT.iter().chain([&TRIGGER]).any(|(given, _)| *given == name)
}

impl Instance {
    /// Prepares a start: a standby's gets the settings that keep it one. A server that would recover to a target and then
    /// begin a timeline of its own is not started.
    ///
    /// # Errors
    /// [`PgError`]; `recovery.signal` alone is [`PgError::Nonsense`].
    pub(super) async fn stay_in_recovery(&self, command: &mut Command) -> Result<(), PgError> {
        if !self.has_standby_signal().await? {
            return self.refuse_targeted_recovery().await;
        }
        // `standby.signal` wins where both are there, but not once that is taken away.
        self.remove_recovery_signal().await?;
        for (name, value) in LEFT_OUT {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if self.version_of_data().await?.is_some_and(|version| version <= TRIGGER_UP_TO) {
            command.arg("-c").arg(format!("{}={}", TRIGGER.0, TRIGGER.1));
        }
        Ok(())
    }

    /// The major version of the data directory. None: it does not say, and PostgreSQL will not start in it.
    async fn version_of_data(&self) -> Result<Option<u32>, PgError> {
        let path = self.file("PG_VERSION");
        let text = self.disk.run("read PG_VERSION", disk::SMALL, move || disk::read_text(&path)).await?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// What would end the running server's recovery, or hold it up, where it is or becomes a standby.
    ///
    /// # Errors
    /// [`SqlError`]: it cannot be told.
    pub async fn hindrances(&self, sql: &Sql) -> Result<Vec<Hindrance>, SqlError> {
        // Asked first: a role that may not would leave an error in the server's log each time.
        let all = sql.value(MAY_READ_FILES, STATEMENT).await?.as_deref() == Some("t");
        let rows = sql.run(if all { HINDRANCES } else { IN_FORCE }, STATEMENT).await?;
        let mut found: Vec<Hindrance> = rows.into_iter().filter_map(hindrance).collect();
        let path = self.recovery_signal();
        let file = path.display().to_string();
        let look = move || disk::io("look for", &path, path.try_exists());
        if self.disk.run("look for recovery.signal", disk::SMALL, look).await.is_ok_and(|there| there) {
            let (setting, value) = ("recovery.signal".to_owned(), String::new());
            found.push(Hindrance { setting, value, file: Some(file), in_force: false });
        }
        Ok(worth_telling(found))
    }

    async fn refuse_targeted_recovery(&self) -> Result<(), PgError> {
        let path = self.recovery_signal();
        let look = move || disk::io("look for", &path, path.try_exists());
        if !self.disk.run("look for recovery.signal", disk::SMALL, look).await? {
            return Ok(());
        }
        Err(PgError::Nonsense(format!(
            "recovery.signal is in {}: PostgreSQL would recover to a target and then leave its timeline, so it is not \
             started. If that is not wanted, remove the file",
            self.data_dir().display()
        )))
    }
}

fn hindrance(row: Vec<Option<String>>) -> Option<Hindrance> {
    let [setting, value, file, in_force] = <[Option<String>; 4]>::try_from(row).ok()?;
    let in_force = in_force.as_deref() == Some("t");
    Some(Hindrance { setting: setting?, value: value.unwrap_or_default(), file, in_force })
}

/// Without those that do nothing: an action without a target.
#[must_use]
pub fn worth_telling(mut found: Vec<Hindrance>) -> Vec<Hindrance> {
    const ACTION: &str = "recovery_target_action";
    let has_target =
        found.iter().any(|one| one.setting.starts_with("recovery_target") && one.setting != ACTION);
    found.retain(|one| one.setting != ACTION || has_target);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(setting: &str) -> Hindrance {
        Hindrance { setting: setting.into(), value: "promote".into(), file: None, in_force: true }
    }

    #[test]
    fn an_action_is_told_only_with_a_target() {
        let (action, target) = (one("recovery_target_action"), one("recovery_target_time"));
        assert_eq!(worth_telling(vec![action.clone()]), []);
        assert_eq!(worth_telling(vec![action.clone(), target.clone()]), [action, target]);
    }

    #[test]
    fn what_a_standby_is_started_without_is_no_setting_of_a_persons() {
        assert!(is_given_to_standbys("recovery_target_time") && is_given_to_standbys("promote_trigger_file"));
        assert!(
            !is_given_to_standbys("recovery_min_apply_delay") && !is_given_to_standbys("primary_conninfo")
        );
    }
}
