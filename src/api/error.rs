//! What a caller is told when a request is not served: always JSON, always with an `error` sentence.

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// A request that is not served, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: Map<String, Value>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = Map::from_iter([("error".to_owned(), Value::String(error.into()))]);
        Self { status, body, header: None }
    }

    /// 400: it cannot be read.
    pub(crate) fn malformed(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 422: it can be read, and a value is not acceptable. The sentence begins with the field.
    pub(crate) fn unacceptable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// 401: no token, or another one.
    pub(crate) fn no_token(error: impl Into<String>) -> Self {
        let header = Some((header::WWW_AUTHENTICATE, "Bearer"));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, error) }
    }

    /// 403: it was meant for somebody else.
    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// 404.
    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 405.
    pub(crate) fn method(error: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error)
    }

    /// 409: another member has to be asked.
    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// 429: ask again later.
    pub(crate) fn busy(error: impl Into<String>) -> Self {
        let header = Some((header::RETRY_AFTER, "1"));
        Self { header, ..Self::new(StatusCode::TOO_MANY_REQUESTS, error) }
    }

    /// 503.
    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// The `error` sentence.
    pub(crate) fn sentence(&self) -> &str {
        self.body.get("error").and_then(Value::as_str).unwrap_or_default()
    }

    /// Adds a field beside `error`.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body.insert(field.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        response
    }
}

/// An answer as JSON that nobody on the way may keep.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Reads a JSON body, whatever its declared type. An empty one reads as `{}`: every field has a default.
///
/// # Errors
/// 413 if it is too large, 400 if it is no JSON, 422 naming the field if a value does not fit.
pub(crate) fn body<T: serde::de::DeserializeOwned>(
    bytes: Result<bytes::Bytes, BytesRejection>,
) -> Result<T, Refusal> {
    let bytes = bytes.map_err(|refused| Refusal::new(refused.status(), refused.body_text()))?;
    let bytes = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
    Json::from_bytes(bytes).map(|Json(value)| value).map_err(|refused: JsonRejection| {
        let text = refused.body_text();
        // Axum's sentence is `Failed to …: field: what is wrong`; what follows the first colon is ours to show.
        let said = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
        Refusal::new(refused.status(), format!("body: {said}"))
    })
}
