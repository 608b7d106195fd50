//! The demo's app server: a small real HTTP service in front of the database. It stands for the user's own.
//!
//! `GET /healthz` touches the database, `POST /rows` commits a numbered row, `GET /rows/count` reads. It keeps two
//! connections through the endpoint and opens a broken one again at once.

mod keeper;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::link::{Fate, Miss};
use keeper::Keeper;

/// How long a health check may take, waiting for a connection included.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// How long a row may wait for a connection; a failover is over by then.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How long a commit may take. In sync mode it waits for the standby.
const COMMIT_LIMIT: Duration = Duration::from_secs(20);

/// Serve the demo's app: started by `locum demo`, one beside each node.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The database, as libpq keywords without a password.
    #[arg(long)]
    pub database: String,
    /// A file that holds the password.
    #[arg(long)]
    pub password_file: PathBuf,
}

/// A numbered row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Who writes it.
    pub(crate) writer: u16,
    /// Its number.
    pub(crate) seq: u64,
}

/// The answer to a row that was not acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Whether it may have been committed all the same.
    pub(crate) outcome: Fate,
    /// Why.
    pub(crate) reason: String,
}

#[derive(Clone)]
struct Service {
    health: Keeper,
    rows: Keeper,
}

/// Serves until the process is told to end.
///
/// # Errors
/// Bad arguments, or the address is taken.
pub async fn execute(args: &Args) -> anyhow::Result<ExitCode> {
    let mut config: tokio_postgres::Config = args.database.parse().context("read --database")?;
    let password = std::fs::read_to_string(&args.password_file);
    config.password(password.context("read --password-file")?.trim());
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("listen on {}", args.listen))?;
    axum::serve(listener, router(&config)).await.context("serve")?;
    Ok(ExitCode::SUCCESS)
}

/// The service in front of the database that `config` leads to.
pub(crate) fn router(config: &tokio_postgres::Config) -> Router {
    let service = Service { health: Keeper::start(config.clone()), rows: Keeper::start(config.clone()) };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/rows", post(insert))
        .route("/rows/count", get(count))
        .with_state(service)
}

async fn healthz(State(service): State<Service>) -> Response {
    match service.health.number("SELECT count(*) FROM (SELECT FROM rows LIMIT 1) AS one", HEALTH_LIMIT).await
    {
        Ok(_) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn count(State(service): State<Service>) -> Response {
    match service.rows.number("SELECT count(*) FROM rows", LINK_LIMIT).await {
        Ok(rows) => Json(serde_json::json!({ "rows": rows })).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn insert(State(service): State<Service>, Json(row): Json<Row>) -> Response {
    match service.rows.insert(row.writer, row.seq, LINK_LIMIT, COMMIT_LIMIT).await {
        Ok(()) => Json(serde_json::json!({ "committed": true })).into_response(),
        Err(Miss { fate: outcome, reason }) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { outcome, reason })).into_response()
        }
    }
}
