//! The client sessions of a primary, as an endpoint must know them to drain it.

use std::time::Duration;

use super::sql::{Sql, SqlError};
use crate::ports::Session;

/// Sessions over TCP, but not the agents' own. `client_port` is -1 on a Unix socket.
const SESSIONS: &str = "SELECT client_port, state = 'idle' FROM pg_stat_get_activity(NULL) \
     WHERE backend_type = 'client backend' AND client_port > 0 AND application_name <> 'locum'";
/// How long the list may take.
const LIST: Duration = Duration::from_secs(1);

/// Every client session over TCP. One whose state this role may not see counts as busy.
///
/// # Errors
/// [`SqlError`]
pub async fn sessions(sql: &Sql) -> Result<Vec<Session>, SqlError> {
    let rows = sql.run(SESSIONS, LIST).await?;
    let session = |row: &Vec<Option<String>>| {
        let client_port = row.first()?.as_ref()?.parse().ok()?;
        let idle = row.get(1)?.as_deref() == Some("t");
        Some(Session { client_port, idle, loose: false })
    };
    Ok(rows.iter().filter_map(session).collect())
}
