//! Which server is at the other end of a connection: asked on every new one, whatever the address says.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::model::{ServerIdentity, SystemId};

/// The setting in which the agent keeps the nonce of its postmaster. Any role may read it, also on a standby.
pub const NONCE: &str = "locum.server";

/// The setting that keeps in a data directory under which stamp it last became a primary's: what a copy of the directory takes
/// along, and no state directory that goes back takes away.
pub const PRIMARY_SINCE: &str = "locum.primary_since";

/// Needs no privilege, and nothing of the session's settings.
pub(super) const WHO: &str = "SELECT pg_catalog.pg_backend_pid(), \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
     pg_catalog.current_setting('locum.server', true)";

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The process of this session.
    pub(super) backend: u32,
    /// Its postmaster.
    pub(super) identity: ServerIdentity,
}

impl Who {
    /// Asks over a connection.
    pub(super) async fn ask(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let answer = client.simple_query(WHO).await?;
        Ok(Self::read(&answer))
    }

    /// Reads the four columns of [`WHO`] in the first row. What is not there is 0, which nobody is.
    pub(super) fn read(answer: &[SimpleQueryMessage]) -> Self {
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |at: usize| row.and_then(|row| row.get(at));
        let nonce = column(3).filter(|text| !text.is_empty()).map(str::to_owned);
        let system = column(1).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).cast_unsigned();
        let identity = ServerIdentity {
            system: SystemId(system),
            started_us: column(2).and_then(|text| text.parse().ok()).unwrap_or(0),
            nonce,
        };
        Self { backend: column(0).and_then(|text| text.parse().ok()).unwrap_or(0), identity }
    }
}
