//! An app server: a health path that answers 200, and what tells who answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, runtime};

use crate::fixture::until;

/// How long the end of a killed one's sockets may take.
const ENDS: Duration = Duration::from_secs(5);

/// Serves for as long as it is run. While it is stuck its health path does not answer.
pub(crate) async fn serve(at: SocketAddr, name: String, stuck: Arc<AtomicBool>) {
    let health = async move || {
        if stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        "well"
    };
    let router = Router::new().route("/healthz", get(health)).route("/", get(async move || name));
    let listener = until("a port for the app server", || async { TcpListener::bind(at).await.ok() }).await;
    axum::serve(listener, router).await.expect("the app server");
}

/// One that can die with every connection that it has, like a process. Dropping it is the same.
pub(crate) struct App {
    at: SocketAddr,
    name: &'static str,
    stuck: Arc<AtomicBool>,
    runtime: Option<runtime::Runtime>,
}

impl App {
    /// Starts one at a port of this machine.
    pub(crate) fn start(port: u16, name: &'static str) -> Self {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let mut app = Self { at, name, stuck: Arc::default(), runtime: None };
        app.start_again();
        app
    }

    /// Starts it after its death.
    pub(crate) fn start_again(&mut self) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(serve(self.at, self.name.to_owned(), Arc::clone(&self.stuck)));
        self.runtime = Some(runtime);
    }

    /// Where it serves.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Where its health is told.
    pub(crate) fn health(&self) -> String {
        format!("http://{}/healthz", self.at)
    }

    /// Its health path does not answer any more, or does again.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// It is dead when this returns.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(|| runtime.shutdown_timeout(ENDS)).await.expect("its end");
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
