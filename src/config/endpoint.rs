//! The keys of `[[endpoint]]` that say how its proxy behaves, beyond where it listens and what it leads to.

use std::time::Duration;

use figment::value::Value;

use super::{
    parse::{self, quote, show_duration, show_size},
    reader::Section,
};
use crate::model::EndpointKind;

/// How a proxy behaves. The defaults are those of a configuration that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How many clients may be connected, waiting or served; more wait in the kernel's queue until one leaves.
    pub max_connections: usize,
    /// A connection on which neither side says anything for so long is closed; None: never.
    pub idle: Option<Duration>,
    /// Deadline of one attempt to connect to the target.
    pub connect: Duration,
    /// The target is told whom it serves, by a PROXY protocol header, version 2.
    pub proxy_protocol: bool,
    /// How long open connections may go on, once nobody is accepted any more because the member stops.
    pub shutdown: Duration,
    /// How connections are distributed over several targets.
    pub balance: Balance,
    /// Standbys: those that lack more of the primary's WAL, or have not replayed as much, get no new connections.
    pub max_lag: u64,
    /// Standbys: while there is none, the primary serves.
    pub fallback: bool,
}

/// How connections are distributed over several targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// To the one with the fewest open connections.
    LeastConnections,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            // Two descriptors each: systemd's usual hard limit has room for them many times over.
            max_connections: 10_000,
            idle: None,
            // Beyond one second, so that a first packet lost (or dropped by a full accept queue) can be sent again.
            connect: Duration::from_secs(2),
            proxy_protocol: false,
            shutdown: Duration::ZERO,
            balance: Balance::RoundRobin,
            max_lag: 16 << 20,
            fallback: false,
        }
    }
}

/// Reads them, and what `target` means together with `mode`.
pub(super) fn read(
    section: &mut Section<'_>,
    target: Option<EndpointKind>,
) -> (Tuning, Option<EndpointKind>) {
    let default = Tuning::default();
    let idle = section.or("idle", Duration::ZERO, parse::duration, show_duration);
    let mut tuning = Tuning {
        max_connections: section.or(
            "max_connections",
            default.max_connections,
            parse::count,
            usize::to_string,
        ),
        idle: Some(idle).filter(|idle| !idle.is_zero()),
        connect: section.or("connect", default.connect, parse::duration, show_duration),
        proxy_protocol: section.or("proxy_protocol", default.proxy_protocol, parse::boolean, bool::to_string),
        shutdown: section.or("shutdown", default.shutdown, parse::duration, show_duration),
        ..default
    };
    // What another target has no use for is an unknown key there.
    let mut target = target;
    if target == Some(EndpointKind::App) && section.or("mode", false, all_at_once, show_mode) {
        target = Some(EndpointKind::Apps);
    }
    if matches!(target, Some(EndpointKind::Standbys | EndpointKind::Apps)) {
        tuning.balance = section.or("balance", tuning.balance, balance, show_balance);
    }
    if target == Some(EndpointKind::Standbys) {
        tuning.max_lag = section.or("max_lag", tuning.max_lag, parse::size, show_size);
        tuning.fallback = section.or("fallback", tuning.fallback, parse::boolean, bool::to_string);
    }
    (tuning, target)
}

fn balance(value: &Value) -> Result<Balance, String> {
    let choices = [("round-robin", Balance::RoundRobin), ("least-connections", Balance::LeastConnections)];
    parse::choice(value, &choices)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "has the shape of the other `show` functions")]
fn show_balance(balance: &Balance) -> String {
    quote(match balance {
        Balance::RoundRobin => "round-robin",
        Balance::LeastConnections => "least-connections",
    })
}

/// True: every healthy app server serves.
fn all_at_once(value: &Value) -> Result<bool, String> {
    parse::choice(value, &[("active-passive", false), ("active-active", true)])
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "has the shape of the other `show` functions")]
fn show_mode(all_at_once: &bool) -> String {
    quote(if *all_at_once { "active-active" } else { "active-passive" })
}
