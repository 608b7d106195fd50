//! The client sessions of a primary, as an endpoint must know them to drain it.

use std::time::Duration;

use super::sql::{Sql, SqlError};
use crate::ports::Session;

/// Sessions of clients, but not the agents' own. `client_port` is -1 on a Unix socket.
const SESSIONS: &str = "SELECT nullif(client_port, -1), state = 'idle' FROM pg_stat_get_activity(NULL) \
     WHERE backend_type = 'client backend' AND application_name <> 'locum'";
/// How long the list may take.
const LIST: Duration = Duration::from_secs(1);

/// Every client session. One whose state this role may not see counts as busy.
///
/// # Errors
/// [`SqlError`]
pub async fn sessions(sql: &Sql) -> Result<Vec<Session>, SqlError> {
    let rows = sql.run(SESSIONS, LIST).await?;
    let session = |row: &Vec<Option<String>>| {
        let column = |index: usize| row.get(index)?.as_deref();
        let client_port = column(0).and_then(|port| port.parse().ok());
        Session { client_port, idle: column(1) == Some("t"), loose: false }
    };
    Ok(rows.iter().map(session).collect())
}
