//! Finding the guard of a state directory, or starting one.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::UnixStream,
    process::Command,
    time::{Instant, sleep},
};

use super::{
    client::GuardError,
    run::{LOG, SOCKET},
};

/// How long a guard may take from its start until it listens. It takes milliseconds.
const START: Duration = Duration::from_secs(5);
/// Between two tries to connect to one that was just started.
const TRY: Duration = Duration::from_millis(2);
/// The program that is running now, also after its file was replaced.
const SELF: &str = "/proc/self/exe";

/// What a member's guard is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the guard's socket, lock and log are.
    pub state_dir: PathBuf,
    /// Whose server it guards.
    pub data_dir: PathBuf,
    /// How long a frozen server may stand still until it is killed.
    pub freeze_max: Duration,
    /// False: the guard only reports what it would have done.
    pub enforce: bool,
    /// A watchdog device to be armed as well, such as `/dev/watchdog`.
    pub watchdog: Option<PathBuf>,
    /// Never use a control group, although there may be some.
    pub signals: bool,
    /// The `locum` program.
    pub program: PathBuf,
}

impl Settings {
    /// Those of a member that enforces, with this very program as the guard.
    #[must_use]
    pub fn new(state_dir: &Path, data_dir: &Path, freeze_max: Duration) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            data_dir: data_dir.to_owned(),
            freeze_max,
            enforce: true,
            watchdog: None,
            signals: false,
            program: PathBuf::from(SELF),
        }
    }
}

/// Connects to the guard that is there, else to one that is started for it.
pub(super) async fn open(settings: &Settings) -> Result<UnixStream, GuardError> {
    match connect(settings).await {
        Ok(stream) => Ok(stream),
        Err(error) if is_absent(&error) => start(settings).await,
        Err(error) => Err(GuardError::Unreachable(error)),
    }
}

async fn connect(settings: &Settings) -> io::Result<UnixStream> {
    UnixStream::connect(settings.state_dir.join(SOCKET)).await
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn start(settings: &Settings) -> Result<UnixStream, GuardError> {
    let log = settings.state_dir.join(LOG);
    let mut child = spawn(settings, &log).map_err(GuardError::NotStarted)?;
    tracing::info!(pid = child.id(), "guard started");
    let until = Instant::now() + START;
    // Collects it whenever it ends: it is no child in any other sense.
    let mut ended = tokio::spawn(async move { child.wait().await });
    loop {
        match connect(settings).await {
            Ok(stream) => return Ok(stream),
            Err(error) if !is_absent(&error) => return Err(GuardError::Unreachable(error)),
            Err(_) if ended.is_finished() => {
                // Another one was quicker, if that can be connected to.
                let how = match (&mut ended).await {
                    Ok(Ok(status)) => status.to_string(),
                    _ => "not known how".to_owned(),
                };
                let said = format!("it ended at once ({how}); see {}", log.display());
                return connect(settings).await.map_err(|_| GuardError::NotStarted(io::Error::other(said)));
            }
            Err(error) if Instant::now() > until => return Err(GuardError::Unreachable(error)),
            Err(_) => sleep(TRY).await,
        }
    }
}

fn spawn(settings: &Settings, log: &Path) -> io::Result<tokio::process::Child> {
    let mut command = Command::new(&settings.program);
    command.arg0("locum").arg("guard");
    command.arg("--state-dir").arg(&settings.state_dir).arg("--data-dir").arg(&settings.data_dir);
    command.arg("--freeze-max").arg(format!("{}us", settings.freeze_max.as_micros()));
    if !settings.enforce {
        command.arg("--observe");
    }
    if settings.signals {
        command.arg("--signals");
    }
    if let Some(device) = &settings.watchdog {
        command.arg("--watchdog").arg(device);
    }
    // It makes a session of its own. Its log holds what the last one said at its start.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?).kill_on_drop(false);
    command.spawn()
}
