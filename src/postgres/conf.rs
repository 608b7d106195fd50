//! `postgresql.auto.conf` and the signal files.

use super::{Instance, PgError};

impl Instance {
    /// Sets settings in `postgresql.auto.conf`, durably and atomically; other lines stay as they are. Takes effect with
    /// a reload or start. True: the file was changed. Do not run together with ALTER SYSTEM.
    ///
    /// # Errors
    /// [`PgError`]; a value with a line break is [`PgError::Nonsense`].
    pub async fn set(&self, settings: &[(&str, &str)]) -> Result<bool, PgError> {
        let _ = settings;
        todo!()
    }
    /// Takes settings out of `postgresql.auto.conf`. True: the file was changed.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn unset(&self, keys: &[&str]) -> Result<bool, PgError> {
        let _ = keys;
        todo!()
    }
    /// The value in `postgresql.auto.conf`, if it is set there.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn get(&self, key: &str) -> Result<Option<String>, PgError> {
        let _ = key;
        todo!()
    }
    /// Makes the next start a standby's (`standby.signal`), durably.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn write_standby_signal(&self) -> Result<(), PgError> {
        todo!()
    }
    /// Makes the next start a primary's: removes `standby.signal` and `recovery.signal`, durably.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn remove_standby_signal(&self) -> Result<(), PgError> {
        todo!()
    }
    /// Whether the next start is a standby's.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn has_standby_signal(&self) -> Result<bool, PgError> {
        todo!()
    }
}
