//! Talks to one member's API, and follows it to the leader. Knows nothing of what the verbs mean.

use std::{path::PathBuf, time::Duration};

use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Exit, Failure,
    args::{Connect, DEFAULT_CONFIG},
};
use crate::config::{self, Sources};

/// A member on the same network answers a connection attempt within this.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// A leader is elected within this, unless there is nobody to elect one.
const ELECTION: Duration = Duration::from_secs(5);
/// Between two looks for it; also before the first one is followed, which a person does not notice.
const AGAIN: Duration = Duration::from_millis(50);
/// Every call returns at once; the store may be asked for incidents, with 5 s of its own.
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// Why an idempotent call may be tried again.
#[derive(Debug)]
pub(super) struct Silent(pub(super) String);

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    http: reqwest::Client,
    base: Url,
    token_file: PathBuf,
    /// What to say when it does not answer.
    source: String,
}

impl Member {
    /// Finds out where the member is. Connects to nothing yet.
    pub(super) fn find(connect: &Connect) -> Result<Self, Failure> {
        let configured = config::client(&Sources::file(&connect.config));
        let (base, source) = match (&connect.api, &configured) {
            (Some(api), _) => (base_of(api)?, "--api".to_owned()),
            (None, Ok(client)) => (base_of(&client.address)?, connect.config.display().to_string()),
            (None, Err(problems)) => {
                return Err(Failure::refused(
                    problems.to_string(),
                    &[
                        "Nothing was changed. Name the member's configuration with -c FILE, or its API with --api URL.",
                    ],
                ));
            }
        };
        let default = || PathBuf::from(DEFAULT_CONFIG).with_file_name("token");
        let token_file = connect.token_file.clone();
        let token_file = token_file.or_else(|| Some(configured.ok()?.token_file)).unwrap_or_else(default);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(ANSWER_WAIT)
            .no_proxy()
            // Reading the system's certificates takes a moment, and plain HTTP has no use for them.
            .tls_built_in_native_certs(base.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::refused(format!("cannot prepare the connection: {error}"), &[]))?;
        Ok(Self { http, base, token_file, source })
    }

    /// Another member, with the same credentials.
    pub(super) fn at(&self, address: &str) -> Result<Self, Failure> {
        let source = "its registration".to_owned();
        let (http, token_file) = (self.http.clone(), self.token_file.clone());
        Ok(Self { http, base: base_of(address)?, token_file, source })
    }

    /// Where it is, for messages.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}", self.base.as_str().trim_end_matches('/'), path)
    }

    /// Reads something, once.
    pub(super) async fn try_get<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Result<T, Failure>, Silent> {
        let request = self.http.get(self.url(path));
        let response = request.send().await.map_err(|error| Silent(why(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Ok(Err(self.refusal(status, &body_of(response).await)));
        }
        // A body that breaks off is silence; one that is not understood is another version, or no member at all.
        let bytes = response.bytes().await.map_err(|error| Silent(why(&error)))?;
        Ok(serde_json::from_slice(&bytes).map_err(|error| {
            Failure::refused(
                format!("the answer of {} is not understood: {error}", self.url(path)),
                &["Is it a locum member, and of the same version as this program?"],
            )
        }))
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.try_get(path).await.unwrap_or_else(|silent| Err(self.silent(&silent.0)))
    }

    /// Asks for a change, with the token; follows to the leader, and talks to that one from then on. While there is no leader
    /// it asks again for a moment: nothing was changed, and the next one is being elected.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<(StatusCode, Value), Failure> {
        let deadline = Instant::now() + ELECTION;
        loop {
            let (status, answer) = self.post_once(path, body).await?;
            if status != StatusCode::CONFLICT {
                return Ok((status, answer));
            }
            let address = ["leader_address", "leader_api"].iter().find_map(|field| answer[field].as_str());
            if Instant::now() >= deadline {
                let said = answer["error"].as_str().unwrap_or("this member does not lead");
                let what =
                    if address.is_some() { "leadership is moving from member to member" } else { said };
                return Err(Failure::refused(
                    what,
                    &["Nothing was changed. Try again when there is a leader; `locum status` shows it."],
                ));
            }
            if let Some(leader) = address {
                self.base = base_of(leader)?;
                "the leader's registration".clone_into(&mut self.source);
            }
            sleep(AGAIN).await;
        }
    }

    /// Talks to the leader from now on, if this member knows where it is.
    pub(super) async fn toward_leader(&mut self) {
        let Ok(Ok(status)) = self.try_get::<Value>("/v1/status").await else { return };
        let nodes = status["nodes"].as_array().into_iter().flatten();
        let leader =
            nodes.clone().find(|node| !status["leader"].is_null() && node["node"] == status["leader"]);
        if let Some(Ok(base)) = leader.and_then(|node| node["api_address"].as_str()).map(base_of) {
            self.base = base;
        }
    }

    async fn post_once(&self, path: &str, body: &Value) -> Result<(StatusCode, Value), Failure> {
        let (token, _) = config::token(&self.token_file).map_err(|problem| {
            let fix =
                format!("Or name another with --token-file FILE. Nothing was changed.\n  {}", problem.fix);
            Failure::refused(format!("control calls need the token: {}", problem.what), &[&fix])
        })?;
        let request = self.http.request(Method::POST, self.url(path)).json(body);
        let response = request.bearer_auth(token.expose_secret()).send().await.map_err(|error| {
            if error.is_connect() {
                self.silent(&why(&error))
            } else {
                Failure::new(
                    Exit::Unknown,
                    format!("no answer from {}: {}", self.url(path), why(&error)),
                    &["Whether it was accepted is not known. Look with `locum status` before you try again."],
                )
            }
        })?;
        let (status, body) = (response.status(), body_of(response).await);
        if status.is_success() || status == StatusCode::CONFLICT {
            Ok((status, body))
        } else {
            Err(self.refusal(status, &body))
        }
    }

    fn refusal(&self, status: StatusCode, body: &Value) -> Failure {
        let said = body["error"].as_str().unwrap_or("no reason was given");
        let what = format!("{} refuses ({}): {said}", self.url(""), status.as_u16());
        let token = format!(
            "Nothing was changed. The token is read from {}; name another with --token-file FILE.",
            self.token_file.display()
        );
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::refused(what, &[&token]),
            _ => Failure::refused(what, &["Nothing was changed."]),
        }
    }

    fn silent(&self, why: &str) -> Failure {
        let from =
            format!("The address comes from {}; another member can be asked with --api URL.", self.source);
        Failure::refused(
            format!("no member answers at {}: {why}", self.url("")),
            &["Nothing was changed. Is it running? `locum run` starts it.", &from],
        )
    }
}

/// A URL from `host:port` or a URL.
pub(super) fn base_of(address: &str) -> Result<Url, Failure> {
    let address = address.trim();
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    match Url::parse(&url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("{address:?} is not the URL of an API"),
            &["Write it as http://10.0.0.1:8008."],
        )),
    }
}

async fn body_of(response: Response) -> Value {
    response.json().await.unwrap_or(Value::Null)
}

/// The innermost reason: the outer ones repeat the URL.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
