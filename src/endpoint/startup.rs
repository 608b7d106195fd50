//! What the first bytes of a PostgreSQL connection tell (manual, 55.2.1 and 55.7). Pure.
//!
//! Nothing here decrypts or alters anything. What cannot be recognised is passed on as it is.

/// The longest startup packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP_MAX: usize = 10_000;

/// How a cancel request begins: its length, 16, and its code, 80877102.
const CANCEL_REQUEST: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46];

/// SQLSTATE `cannot_connect_now` in an error message: the server starts, stops or recovers.
const CANNOT_CONNECT_NOW: &[u8] = b"C57P03\0";

/// The length that a first packet gives itself, once it has said it and if it can be one.
fn length(said: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*said.first_chunk::<4>()?) as usize;
    (8..=STARTUP_MAX).contains(&length).then_some(length)
}

/// True if a connection whose client has said just this may start over with another server: it is no more than one
/// first packet (startup, request for encryption, cancel request), so no statement can have been run.
pub(super) fn may_start_over(said: &[u8]) -> bool {
    said.len() < 4 || length(said).is_some_and(|length| said.len() <= length)
}

/// True if the client has said a whole first packet: it is the server's turn.
pub(super) fn is_whole(said: &[u8]) -> bool {
    length(said).is_some_and(|length| said.len() >= length)
}

/// True if the client has sent a cancel request, which no server answers.
pub(super) fn is_cancel(said: &[u8]) -> bool {
    said.starts_with(CANCEL_REQUEST)
}

/// True if a server's first bytes are an error message.
pub(super) fn is_error(first: &[u8]) -> bool {
    first.first() == Some(&b'E')
}

/// True if a server's first bytes say that it takes no connections *now*: the same as a refused connection.
pub(super) fn cannot_connect_now(first: &[u8]) -> bool {
    is_error(first) && first.windows(CANNOT_CONNECT_NOW.len()).any(|field| field == CANNOT_CONNECT_NOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

    #[test]
    fn a_first_packet_may_start_over_and_anything_after_it_may_not() {
        assert!(may_start_over(b""));
        assert!(may_start_over(&SSL_REQUEST[..6]));
        assert!(may_start_over(SSL_REQUEST));
        assert!(is_whole(SSL_REQUEST) && !is_whole(&SSL_REQUEST[..6]) && !is_whole(b""));
        assert!(!may_start_over(&[SSL_REQUEST, b"Q"].concat()));
    }

    #[test]
    fn what_is_not_postgresql_never_starts_over() {
        assert!(!may_start_over(b"GET / HTTP/1.1\r\n"));
        assert!(!may_start_over(&[0x16, 3, 1, 2, 0]), "direct TLS");
        assert!(!may_start_over(&[0, 0, 0, 0]));
    }

    #[test]
    fn only_cannot_connect_now_counts_as_refused() {
        let message = |code: &str| format!("E\0\0\0\x20SFATAL\0VFATAL\0C{code}\0Mwords\0\0").into_bytes();
        assert!(cannot_connect_now(&message("57P03")));
        assert!(!cannot_connect_now(&message("53300")));
        assert!(is_error(&message("53300")));
        assert!(!cannot_connect_now(b"R C57P03\0"));
    }
}
