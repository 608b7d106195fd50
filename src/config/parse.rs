//! One value at a time: from what a layer holds to what the program means. Errors are words that follow the key,
//! then `; ` and the way out.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use figment::value::Value;

use super::{parse_bytes, units};
use crate::model::{AppTie, Durability, EndpointKind, GuardMode, OnCrash};

/// A text.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) if text.trim().is_empty() => Err("is empty; give it a value".into()),
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, letter) => Ok(letter.to_string()),
        other => Err(format!("is {}, not a text; write it in quotes", kind(other))),
    }
}

/// A checked name.
pub(super) fn name<T>(
    make: impl Fn(String) -> Result<T, crate::model::BadName>,
) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        make(text(value)?).map_err(|bad| {
            format!(
                "is {:?}, which is no usable name; use 1 to 40 lower-case letters, digits and '-', beginning with a letter",
                bad.name
            )
        })
    }
}

/// A list of texts.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(_, items) => items.iter().map(text).collect(),
        other => Err(format!("is {}, not a list; write it as [\"one\", \"two\"]", kind(other))),
    }
}

/// True or false.
pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(_, value) => Ok(*value),
        other => Err(format!("is {}; use true or false", kind(other))),
    }
}

/// A duration, as humantime reads it.
pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    if let Value::Num(_, number) = value {
        let number = number.to_u128_lossy().map_or_else(|| "500".to_owned(), |n| n.to_string());
        return Err(format!("has no unit; write for example \"{number}ms\" or \"{number}s\""));
    }
    let text = text(value)?;
    humantime::parse_duration(&text).map_err(|_| {
        format!("is {text:?}, which is no duration; one looks like \"500ms\", \"3s\" or \"10m\"")
    })
}

/// A size in bytes.
pub(super) fn size(value: &Value) -> Result<u64, String> {
    match value {
        Value::Num(_, number) => number
            .to_u128_lossy()
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| "is no size; one looks like \"16MiB\"".into()),
        other => parse_bytes(&text(other)?),
    }
}

/// A count of at least one.
pub(super) fn count(value: &Value) -> Result<usize, String> {
    at_least(1, value)
}

/// A rank: a whole number, none below zero.
pub(super) fn rank(value: &Value) -> Result<usize, String> {
    at_least(0, value)
}

fn at_least(least: usize, value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Num(_, number) => number.to_u128_lossy().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    number
        .filter(|n| *n >= least)
        .ok_or_else(|| format!("is {}, not a count; use a whole number from {least}", kind(value)))
}

/// An address to listen at.
pub(super) fn listen(value: &Value) -> Result<SocketAddr, String> {
    let text = text(value)?;
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("is {text:?}, which is no address to listen at; use IP:PORT, for example \"127.0.0.1:6432\"")
    })?;
    if address.port() == 0 {
        return Err(format!("is {text:?}; name a port, so that clients know where to connect"));
    }
    Ok(address)
}

/// An address to be reached at.
pub(super) fn address(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let port = text.rsplit_once(':').filter(|(host, _)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        !host.is_empty() && (bare.is_some() || !host.contains(':')) && !host.contains(char::is_whitespace)
    });
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => Ok(text),
        _ => {
            Err(format!("is {text:?}, which nobody can reach; use HOST:PORT, for example \"10.0.0.1:5432\""))
        }
    }
}

/// An absolute path.
pub(super) fn path(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "is {:?}, which depends on where Locum is started; write the whole path, from /",
            path.display().to_string()
        ))
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let given = text(value)?;
    words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("is {given:?}, which is none of its values; use {}", known.join(" or "))
    })
}

/// What an acknowledged commit promises.
pub(super) fn durability(value: &Value) -> Result<Durability, String> {
    choice(
        value,
        &[("sync", Durability::Sync), ("sync-strict", Durability::SyncStrict), ("async", Durability::Async)],
    )
}

/// What to do when the postmaster dies.
pub(super) fn on_crash(value: &Value) -> Result<OnCrash, String> {
    let choices =
        [("failover", OnCrash::Failover), ("restart", OnCrash::Restart), ("fastest", OnCrash::Fastest)];
    choice(value, &choices)
}

/// Whether the active app server goes with the primary.
pub(super) fn app_tie(value: &Value) -> Result<AppTie, String> {
    choice(value, &[("tied", AppTie::Tied), ("free", AppTie::Free)])
}

/// What happens when the right to serve has run out.
pub(super) fn guard(value: &Value) -> Result<GuardMode, String> {
    choice(value, &[("enforce", GuardMode::Enforce), ("observe", GuardMode::Observe)])
}

/// What an endpoint leads to.
pub(super) fn target(value: &Value) -> Result<EndpointKind, String> {
    let choices = [
        ("primary", EndpointKind::Primary),
        ("standbys", EndpointKind::Standbys),
        ("app", EndpointKind::App),
    ];
    choice(value, &choices)
}

fn kind(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("the text {text:?}"),
        Value::Char(_, letter) => format!("the text \"{letter}\""),
        Value::Bool(_, value) => value.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => format!("the number {whole}"),
            (None, Some(other)) => format!("the number {other}"),
            (None, None) => number.to_u128().map_or("a number".into(), |n| format!("the number {n}")),
        },
        Value::Empty(..) => "empty".into(),
        Value::Dict(..) => "a section".into(),
        Value::Array(..) => "a list".into(),
    }
}

/// A text as TOML.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Texts as TOML.
pub(super) fn quote_all<T: AsRef<str>>(texts: &[T]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text.as_ref())).collect::<Vec<_>>().join(", "))
}

/// A duration as TOML.
pub(super) fn show_duration(value: &Duration) -> String {
    quote(&humantime::format_duration(*value).to_string())
}

/// A size as TOML.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "has the shape of the other `show` functions")]
pub(super) fn show_size(value: &u64) -> String {
    quote(&units::bytes(*value))
}
