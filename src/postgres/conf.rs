//! `postgresql.auto.conf` and the signal files.
//!
//! The server rewrites the first at ALTER SYSTEM; nothing stops both from doing so at once, so nobody else should.

use std::sync::{Arc, PoisonError};

use super::{Instance, PgError, disk, known};

/// The file of ALTER SYSTEM: read last, so what is in it wins.
const AUTO_CONF: &str = "postgresql.auto.conf";

const STANDBY: &str = "standby.signal";
const RECOVERY: &str = "recovery.signal";
/// What a base backup says of itself; renamed by the first start of it.
const BACKUP_LABEL: &str = "backup_label";

impl Instance {
    /// Sets settings in `postgresql.auto.conf`, durably and atomically; other lines stay as they are. Takes effect with
    /// a reload or start. True: the file was changed. Do not run together with ALTER SYSTEM.
    ///
    /// PostgreSQL reads its configuration by path. Where that leads to another directory than the one that the server runs in, a
    /// setting would be in force until the directory is back and somebody reloads: so nothing is written there.
    ///
    /// # Errors
    /// [`PgError`]; a value with a line break is [`PgError::Nonsense`].
    pub async fn set(&self, settings: &[(&str, &str)]) -> Result<bool, PgError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
        self.edit(settings.iter().map(owned).collect()).await
    }

    /// Takes settings out of `postgresql.auto.conf`. True: the file was changed.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn unset(&self, keys: &[&str]) -> Result<bool, PgError> {
        self.edit(keys.iter().map(|key| ((*key).to_owned(), None)).collect()).await
    }

    /// The value in `postgresql.auto.conf`, if it is set there.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn get(&self, key: &str) -> Result<Option<String>, PgError> {
        let (path, key) = (self.file(AUTO_CONF), key.to_owned());
        let read = move || Ok(lookup(&disk::read_text(&path)?.unwrap_or_default(), &key));
        self.disk.run("read postgresql.auto.conf", disk::SMALL, read).await
    }

    /// Makes the next start a standby's (`standby.signal`), durably. A `recovery.signal` is removed.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn write_standby_signal(&self) -> Result<(), PgError> {
        let (path, other, owner) = (self.file(STANDBY), self.recovery_signal(), self.owner.clone());
        let write = move || {
            disk::write_durably(&path, b"", &owner)?;
            disk::remove_durably(&other).map(|_| ())
        };
        self.disk.run("write standby.signal", disk::SMALL, write).await
    }

    /// Makes the next start a primary's: removes `standby.signal` and `recovery.signal`, durably.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn remove_standby_signal(&self) -> Result<(), PgError> {
        let paths = [self.file(STANDBY), self.file(RECOVERY)];
        let remove = move || paths.iter().try_for_each(|path| disk::remove_durably(path).map(|_| ()));
        self.disk.run("remove standby.signal", disk::SMALL, remove).await
    }

    /// Removes `recovery.signal`, durably: a standby has no use for it.
    pub(super) async fn remove_recovery_signal(&self) -> Result<(), PgError> {
        let path = self.recovery_signal();
        let remove = move || disk::remove_durably(&path).map(|_| ());
        self.disk.run("remove recovery.signal", disk::SMALL, remove).await
    }

    /// The file that asks for a recovery to a target.
    pub(super) fn recovery_signal(&self) -> std::path::PathBuf {
        self.file(RECOVERY)
    }

    /// Whether the next start is a standby's.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn has_standby_signal(&self) -> Result<bool, PgError> {
        let path = self.file(STANDBY);
        let look = move || disk::io("look for", &path, path.try_exists());
        self.disk.run("look for standby.signal", disk::SMALL, look).await
    }

    /// Whether it was copied from a server and not started since: what its control file says is that server's.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn is_a_fresh_copy(&self) -> Result<bool, PgError> {
        let path = self.file(BACKUP_LABEL);
        let look = move || disk::io("look for", &path, path.try_exists());
        self.disk.run("look for backup_label", disk::SMALL, look).await
    }

    async fn edit(&self, changes: Vec<(String, Option<String>)>) -> Result<bool, PgError> {
        let (path, owner, lock) = (self.file(AUTO_CONF), self.owner.clone(), Arc::clone(&self.conf));
        let (known, data_dir) = (self.known.clone(), self.data_dir.clone());
        let rewrite = move || {
            let _one_at_a_time = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(server) = known.living()
                && let Some(moved) = known::moved(&data_dir, server.postmaster)?
            {
                return Err(PgError::Moved(moved));
            }
            let before = disk::read_text(&path)?.unwrap_or_default();
            let after = edited(&before, &changes)?;
            if after != before {
                disk::write_durably(&path, after.as_bytes(), &owner)?;
            }
            Ok(after != before)
        };
        self.disk.run("write postgresql.auto.conf", disk::SMALL, rewrite).await
    }
}

/// The file with the changes made: a setting keeps its last line's place, or goes to the end.
fn edited(text: &str, changes: &[(String, Option<String>)]) -> Result<String, PgError> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in changes {
        let is_it = |line: &String| setting(line).is_some_and(|(name, _)| name.eq_ignore_ascii_case(key));
        let new = value.as_ref().map(|value| line(key, value)).transpose()?;
        let last = lines.iter().rposition(is_it);
        match (last, new) {
            (Some(at), Some(new)) => lines[at] = new,
            (None, Some(new)) => lines.push(new),
            (_, None) => lines.retain(|line| !is_it(line)),
        }
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

/// A line as ALTER SYSTEM writes it.
fn line(key: &str, value: &str) -> Result<String, PgError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if key.is_empty() || !key.chars().all(plain) || value.contains(['\n', '\r', '\0']) {
        return Err(PgError::Nonsense(format!("{key} = {value:?} cannot be written to {AUTO_CONF}")));
    }
    Ok(format!("{key} = '{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

/// The last value counts.
fn lookup(text: &str, key: &str) -> Option<String> {
    let mut found = text.lines().filter_map(setting).filter(|(name, _)| name.eq_ignore_ascii_case(key));
    found.next_back().map(|(_, value)| value)
}

/// The name and value of a line; None for comments and what is no setting (PostgreSQL manual, 20.1.2).
fn setting(line: &str) -> Option<(&str, String)> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    if key.is_empty() || key.starts_with('#') {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    Some((key, rest.strip_prefix('\'').map_or_else(|| bare(rest), quoted)))
}

fn bare(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default().to_owned()
}

/// What stands behind an opening quote: `''` is a quote, and a backslash works as in C.
fn quoted(text: &str) -> String {
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.peek() == Some(&'\'') => value.extend(chars.next()),
            '\'' => break,
            '\\' => value.extend(chars.next().map(|escaped| match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            })),
            plain => value.push(plain),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str, key: &str, value: &str) -> String {
        edited(text, &[(key.to_owned(), Some(value.to_owned()))]).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_set_is_got_and_the_rest_stays(value in "[^\\n\\r\\x00]*", other in "[a-z' \\\\#=]*") {
            let before = set("# a comment\n", "other_one", &other);
            let after = set(&before, "primary_conninfo", &value);
            prop_assert_eq!(lookup(&after, "PRIMARY_conninfo"), Some(value.clone()));
            prop_assert_eq!(lookup(&after, "other_one"), Some(other));
            prop_assert!(after.starts_with("# a comment\n"));
            prop_assert_eq!(set(&after, "primary_conninfo", &value), after);
        }
    }

    #[test]
    fn every_way_to_write_a_setting_is_read() {
        let text = "a=1\nb 2\nC = '3' # three\nd = 4#four\n e  =  'it''s \\'so\\' \\\\'\n#f = 6\n";
        let value = |key| lookup(text, key);
        assert_eq!(["a", "b", "c", "d"].map(value), ["1", "2", "3", "4"].map(|v| Some(v.to_owned())));
        assert_eq!(value("e").as_deref(), Some(r"it's 'so' \"));
        assert_eq!(value("f"), None);
    }

    #[test]
    fn the_last_of_several_counts_and_all_are_taken_out() {
        let text = "a = '1'\nb = '2'\nA = '3'\n";
        assert_eq!(lookup(text, "a").as_deref(), Some("3"));
        assert_eq!(set(text, "a", "4"), "a = '1'\nb = '2'\na = '4'\n");
        assert_eq!(edited(text, &[("a".to_owned(), None)]).unwrap(), "b = '2'\n");
    }

    #[test]
    fn a_value_with_a_line_break_is_refused() {
        assert!(line("a", "1\nb = 2").is_err());
        assert!(line("a b", "1").is_err());
    }
}
