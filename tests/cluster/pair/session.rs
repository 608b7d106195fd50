//! One client of the database.

use std::time::Duration;

use tokio::time::timeout;

use crate::fixture::until;

/// Who is not answered for this long is kept waiting.
const KEPT: Duration = Duration::from_millis(500);

/// A session through an endpoint.
pub(crate) async fn session(port: u16) -> tokio_postgres::Client {
    let to = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&to, tokio_postgres::NoTls).await.expect("a session");
    tokio::spawn(connection);
    client
}

/// Waits until a session between two transactions is kept from beginning another one.
pub(crate) async fn is_parked(session: &tokio_postgres::Client) {
    until("a session that is not answered", async || {
        match timeout(KEPT, session.simple_query("SELECT 1")).await {
            Err(_) => Some(()),
            Ok(answer) => {
                answer.expect("it is not cut while somebody else is waited for");
                None
            }
        }
    })
    .await;
}
