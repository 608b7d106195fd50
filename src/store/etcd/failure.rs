//! What etcd's errors mean to whoever called: each is judged here, once, and nowhere else.

use std::error::Error as _;

use etcd_client::Error;

use crate::ports::StoreError;

/// gRPC's status codes, as far as they decide something.
mod code {
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const DATA_LOSS: i32 = 15;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// A call that failed at one endpoint.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    pub(super) verdict: Verdict,
}

/// What may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was done, and another endpoint, or the same one later, may do it.
    Undone,
    /// Nothing was done: what this connection signed on with counts no more. A new connection may do it.
    Stale,
    /// Nobody knows whether it was done.
    Unknown,
    /// etcd has decided: no endpoint will answer otherwise.
    Final,
}

impl Failure {
    /// Judges an error of the client.
    pub(super) fn of(error: &Error) -> Self {
        let text = chain(error);
        match error {
            Error::GRpcStatus(status) => {
                Self::of_status(status.code() as i32, status.message(), text, is_connect(error))
            }
            Error::TransportError(_) | Error::IoError(_) => Self::of_transport(text, is_connect(error)),
            Error::InvalidArgs(_)
            | Error::InvalidUri(_)
            | Error::Utf8Error(_)
            | Error::InvalidMetadataValue(_)
            | Error::EndpointsNotManaged => {
                Self { error: StoreError::Refused(text), verdict: Verdict::Final }
            }
            // A stream that ended: nobody knows what became of what was asked on it.
            _ => Self { error: StoreError::Outage(text), verdict: Verdict::Unknown },
        }
    }

    /// Nothing was sent.
    pub(super) fn undone(error: StoreError) -> Self {
        Self { error, verdict: Verdict::Undone }
    }

    /// The same of a failure to connect or to sign on: the call itself was never sent.
    pub(super) fn before_it_was_sent(self) -> Self {
        match self.verdict {
            Verdict::Unknown => Self { verdict: Verdict::Undone, ..self },
            _ => self,
        }
    }

    fn of_status(code: i32, message: &str, text: String, connecting: bool) -> Self {
        let says = |part: &str| message.contains(part);
        // Whatever code a version gives them.
        if says("no leader")
            || says("leader changed")
            || says("too many requests")
            || says("proposal dropped")
        {
            return Self { error: StoreError::Busy(text), verdict: Verdict::Undone };
        }
        if says("revision of auth store is old") || code == code::UNAUTHENTICATED {
            let why = format!("{text}: etcd does not accept what this member signed on with");
            return Self { error: StoreError::Refused(why), verdict: Verdict::Stale };
        }
        let refused = |why: String| Self { error: StoreError::Refused(why), verdict: Verdict::Final };
        if says("authentication failed") {
            return refused(format!("{text}: check store.etcd_user and store.etcd_password_file"));
        }
        if says("authentication is not enabled") {
            return refused(format!("{text} in etcd: remove store.etcd_user, or enable it there"));
        }
        if says("user name is empty") {
            return refused(format!(
                "{text}: etcd asks for a user; give store.etcd_user and its password file"
            ));
        }
        if says("database space exceeded") {
            return refused(format!("{text}: compact and defragment etcd, then disarm its alarm"));
        }
        match code {
            code::PERMISSION_DENIED => {
                refused(format!("{text}: etcd's user needs read and write on everything from /locum/"))
            }
            code::INVALID_ARGUMENT
            | code::NOT_FOUND
            | code::FAILED_PRECONDITION
            | code::RESOURCE_EXHAUSTED
            | code::OUT_OF_RANGE
            | code::UNIMPLEMENTED
            | code::DATA_LOSS => refused(text),
            code::UNKNOWN if says("etcdserver:") || says("lease") => refused(text),
            _ => Self::of_transport(text, connecting),
        }
    }

    /// No answer of etcd's: a connection that was not made, or that broke.
    fn of_transport(text: String, connecting: bool) -> Self {
        let untrusted = text.contains("invalid peer certificate");
        if untrusted || text.contains("fatal alert") {
            let why = if untrusted {
                format!(
                    "{text}: the certificate that etcd shows does not fit store.etcd_ca_file and the endpoint's host"
                )
            } else {
                format!("{text}: etcd does not accept this member's certificate; check store.etcd_cert_file")
            };
            // Of one endpoint; the others may be set up better.
            return Self { error: StoreError::Refused(why), verdict: Verdict::Undone };
        }
        let verdict = if connecting { Verdict::Undone } else { Verdict::Unknown };
        Self { error: StoreError::Outage(text), verdict }
    }
}

/// Whether the error holds these words.
pub(super) fn says(error: &Error, words: &str) -> bool {
    error.to_string().contains(words)
}

/// True if no connection came about, so that nothing was sent. The type that tells is the transport's own, and known
/// here by its name only.
fn is_connect(error: &Error) -> bool {
    format!("{error:?}").contains("ConnectError")
}

/// The error with its causes, in one sentence.
fn chain(error: &Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        _ => None,
    };
    let mut text = match error {
        // Its own way to show itself is a dump.
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: i32, message: &str) -> (Verdict, &'static str) {
        let failure = Failure::of_status(code, message, message.to_owned(), false);
        let kind = match failure.error {
            StoreError::Busy(_) => "busy",
            StoreError::Outage(_) => "outage",
            StoreError::Refused(_) => "refused",
        };
        (failure.verdict, kind)
    }

    #[test]
    fn each_of_etcds_errors_has_its_meaning() {
        let unavailable = 14;
        let cases = [
            (unavailable, "etcdserver: no leader", Verdict::Undone, "busy"),
            (unavailable, "etcdserver: leader changed", Verdict::Undone, "busy"),
            (8, "etcdserver: too many requests", Verdict::Undone, "busy"),
            (2, "raft proposal dropped", Verdict::Undone, "busy"),
            (unavailable, "etcdserver: request timed out", Verdict::Unknown, "outage"),
            (
                unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                Verdict::Unknown,
                "outage",
            ),
            (unavailable, "etcdserver: server stopped", Verdict::Unknown, "outage"),
            (4, "context deadline exceeded", Verdict::Unknown, "outage"),
            (1, "operation was cancelled", Verdict::Unknown, "outage"),
            (5, "etcdserver: requested lease not found", Verdict::Final, "refused"),
            (7, "etcdserver: permission denied", Verdict::Final, "refused"),
            (3, "etcdserver: authentication failed, invalid user ID or password", Verdict::Final, "refused"),
            (16, "etcdserver: invalid auth token", Verdict::Stale, "refused"),
            (3, "etcdserver: revision of auth store is old", Verdict::Stale, "refused"),
            (8, "etcdserver: mvcc: database space exceeded", Verdict::Final, "refused"),
            (11, "etcdserver: mvcc: required revision has been compacted", Verdict::Final, "refused"),
        ];
        for (code, message, verdict, kind) in cases {
            assert_eq!(judged(code, message), (verdict, kind), "{message}");
        }
    }

    #[test]
    fn a_certificate_that_does_not_fit_is_no_outage() {
        let failure = Failure::of_transport("invalid peer certificate: UnknownIssuer".to_owned(), true);
        assert!(matches!(&failure.error, StoreError::Refused(why) if why.contains("store.etcd_ca_file")));
        assert_eq!(failure.verdict, Verdict::Undone, "another endpoint may show another one");
    }
}
