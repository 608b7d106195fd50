//! From layers to a checked configuration, as far as the caller needs it.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, path::PathBuf};

use secrecy::SecretString;

use super::{
    Config, Problem, Problems, Setting, Sources, check, host,
    problem::only_warnings,
    reader::Reader,
    sections::{self, Parsed},
};

/// A complete, commented configuration: what `locum config example` prints.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Shorter tokens can be guessed.
const TOKEN_BYTES: usize = 16;

/// A configuration that can be used on this host.
#[derive(Debug)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// Each key with its value and origin.
    pub settings: Vec<Setting>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
}

/// A configuration that is sound in itself; the host has not been looked at, and the token is empty.
#[derive(Debug)]
pub struct Draft {
    /// It.
    pub config: Config,
    /// Where the token is.
    pub token_file: PathBuf,
    /// Each key with its value and origin.
    pub settings: Vec<Setting>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
}

/// What a command needs to talk to a member.
#[derive(Clone, Debug)]
pub struct Client {
    /// The member's API, `host:port`.
    pub address: String,
    /// Where the token for control calls is.
    pub token_file: PathBuf,
}

/// Reads and checks everything, the host and the token included.
///
/// # Errors
/// Every problem that was found, warnings among them.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    load_for(sources, false)
}

/// The same for a host whose data directory is still to be made: what is in it is not looked at.
///
/// # Errors
/// Every problem that was found, warnings among them.
pub fn load_new(sources: &Sources) -> Result<Loaded, Problems> {
    load_for(sources, true)
}

fn load_for(sources: &Sources, is_new: bool) -> Result<Loaded, Problems> {
    let Draft { mut config, token_file, mut settings, warnings: mut problems } = read(sources)?;
    problems.extend(host::check(&mut config, &mut settings, is_new));
    match token(&token_file) {
        Ok((token, warning)) => {
            config.api.token = token;
            problems.extend(warning);
        }
        Err(problem) => problems.push(check::with_origin(problem, &settings)),
    }
    Ok(Loaded { config, settings, warnings: only_warnings(problems)? })
}

/// Reads the layers and checks what they say; touches nothing but the file.
///
/// # Errors
/// Every problem that was found, warnings among them.
pub fn read(sources: &Sources) -> Result<Draft, Problems> {
    let Parsed { config, token_file, settings, mut problems } = sections::parse(sources.merge()?);
    let Some(config) = config else { return Err(Problems(problems)) };
    problems.extend(check::check(&config, &settings));
    Ok(Draft { config, token_file, settings, warnings: only_warnings(problems)? })
}

/// Reads how to reach the member, and nothing else: a client may not be allowed to see the rest.
///
/// # Errors
/// Problems of the file, and of the keys in `[api]`.
pub fn client(sources: &Sources) -> Result<Client, Problems> {
    let mut reader = Reader::new(sources.merge()?);
    let draft = sections::api(&mut reader);
    let (_, problems) = reader.finish();
    let problems = problems.into_iter().filter(|problem| problem.key.starts_with("api.")).collect();
    only_warnings(problems)?;
    Ok(Client { address: draft.api.address, token_file: draft.token_file })
}

/// Reads a token that nobody else may read.
///
/// # Errors
/// It is missing, unreadable, empty, or open to everybody.
pub(crate) fn token(path: &Path) -> Result<(SecretString, Option<Problem>), Problem> {
    const KEY: &str = "api.token_file";
    let shown = path.display();
    let unreadable = |error: &io::Error| {
        let fix = match error.kind() {
            io::ErrorKind::NotFound => format!(
                "Make one, the same for all members: (umask 077; head -c 32 /dev/urandom | base64 > {shown})"
            ),
            io::ErrorKind::PermissionDenied => {
                "Run as its owner, or give its group the right to read it.".into()
            }
            _ => "Name a file that can be read.".into(),
        };
        Problem::error(KEY, format!("{shown} cannot be read: {error}"), fix)
    };
    let mode = fs::metadata(path).map_err(|error| unreadable(&error))?.permissions().mode();
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    if mode & 0o007 != 0 {
        return Err(Problem::error(
            KEY,
            format!("{shown} can be read by everybody on this machine"),
            format!("Close it: chmod 600 {shown} (or 640, with a group of your own)."),
        ));
    }
    let token = text.trim();
    if token.is_empty() || token.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Problem::error(
            KEY,
            format!("{shown} does not hold one line of printable characters"),
            format!("Make it anew: (umask 077; head -c 32 /dev/urandom | base64 > {shown})"),
        ));
    }
    let short = (token.len() < TOKEN_BYTES).then(|| {
        let what = format!("{shown} holds fewer than {TOKEN_BYTES} characters, which can be guessed");
        Problem::warning(KEY, what, format!("Make a longer one: head -c 32 /dev/urandom | base64 > {shown}"))
    });
    Ok((SecretString::from(token), short))
}
