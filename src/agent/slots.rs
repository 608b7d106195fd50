//! The physical slots that a primary keeps for its standbys.

use std::time::Duration;

use tokio::time::timeout;

use super::{inner::Inner, orders::Unable};
use crate::model::Server;

/// One statement of this file; creating a slot writes and fsyncs a file.
const STATEMENT: Duration = Duration::from_secs(5);
/// The most that a promotion waits for slots. Less: on a slow disk a follower is cloned. More: service comes later.
const BEFORE_SERVICE: Duration = Duration::from_millis(500);
/// Only slots that begin so are ever dropped.
const PREFIX: &str = "locum_";

impl Inner {
    /// Drops what is left of a term as primary, or of a promotion that did not come: nobody streams from a standby through
    /// Locum's slots, and a slot that nobody moves on keeps all WAL for ever.
    pub(super) async fn drop_slots_of_a_former_term(&self) -> Result<(), Unable> {
        const DROP: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_type = 'physical' AND NOT active AND starts_with(slot_name, 'locum_')";
        self.sql().await?.run(DROP, STATEMENT).await?;
        Ok(())
    }

    /// Makes the slots of those who will follow, on a standby that is about to be promoted. They keep what it has since its
    /// last restartpoint. It serves without them too, so that it was in vain is only told.
    pub(super) async fn make_first_slots(&self, wanted: &[String]) {
        let made = async {
            let sql = self.sql().await?;
            for name in wanted.iter().filter(|name| usable(name)) {
                sql.run(&create_if_missing(name), STATEMENT).await?;
            }
            Ok::<_, Unable>(())
        };
        let unmade = match timeout(BEFORE_SERVICE, made).await {
            Ok(Ok(())) => return,
            Ok(Err(unable)) => format!("{unable:?}"),
            Err(_) => format!("not within {BEFORE_SERVICE:?}"),
        };
        tracing::warn!(why = unmade, "no slots before the promotion: who follows may have to be cloned");
    }

    /// Creates the slots that are missing, and drops those of Locum's that are not wanted and not in use.
    pub(super) async fn keep_slots(&self, wanted: &[String]) -> Result<(), Unable> {
        if let Some(bad) = wanted.iter().find(|name| !usable(name)) {
            return Err(Unable::Refused(format!("{bad:?} is no name of a slot that Locum keeps")));
        }
        self.running_primary()?;
        self.look(true).await?;
        let slots = self.board.read(|s| match &s.facts.server.value {
            Server::Primary(p) => p.slots.clone(),
            _ => Vec::new(),
        });
        let sql = self.sql().await?;
        for name in wanted.iter().filter(|name| !slots.iter().any(|slot| slot.name == **name)) {
            sql.run(&create_if_missing(name), STATEMENT).await?;
        }
        let unwanted = |name: &str| usable(name) && !wanted.iter().any(|w| w == name);
        for slot in slots.iter().filter(|slot| !slot.active && unwanted(&slot.name)) {
            sql.run(&format!("SELECT pg_drop_replication_slot('{}')", slot.name), STATEMENT).await?;
        }
        Ok(self.look(true).await?)
    }
}

/// Reserved at once: what is written from now on is kept for a standby that is not there yet.
fn create_if_missing(name: &str) -> String {
    format!(
        "SELECT pg_create_physical_replication_slot('{name}', true) \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{name}')"
    )
}

/// Locum's prefix, and the characters that PostgreSQL allows.
fn usable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(PREFIX) && name.len() < 64 && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_slot_is_touched() {
        assert!(usable("locum_new_york_2"));
        assert!(!usable("pgbackrest") && !usable("locum_a'b") && !usable("debezium"));
    }
}
