//! Ending a container: its stop signal, a time to obey it, and SIGKILL.

use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::Status;

use super::ContainerEntry;
use crate::runtime::Runtime;
use crate::shim::client::ShimError;
use crate::shim::protocol::Request;

/// How long the kernel may take to end what was killed; a process in an uninterruptible call can keep it longer.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// The number of a signal that an image names, as `SIGQUIT`, `QUIT`, `3` or `SIGRTMIN+3`.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // The C library keeps the first two real-time signals to itself.
    let (low, high) = (34, 64);
    let number = match name.split_at_checked(5) {
        Some(("RTMIN", "")) => low,
        Some(("RTMAX", "")) => high,
        Some(("RTMIN", more)) => low + more.strip_prefix('+')?.parse::<i32>().ok()?,
        Some(("RTMAX", less)) => high - less.strip_prefix('-')?.parse::<i32>().ok()?,
        _ => format!("SIG{name}").parse::<Signal>().ok()? as i32,
    };
    (1..=high).contains(&number).then_some(number)
}

impl Runtime {
    /// CRI `StopContainer`: `timeout` is how many seconds it has to end by itself.
    pub(crate) async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        // One that isn't known has been stopped and removed.
        let Ok(container) = self.container(id) else {
            return Ok(());
        };
        self.stop_container_now(&container, timeout).await
    }

    pub(crate) async fn stop_container_now(
        &self,
        container: &ContainerEntry,
        timeout: i64,
    ) -> Result<(), Status> {
        // One that is just being started is stopped once it has been.
        let running = {
            let _operation = container.operation.lock().await;
            container.run.borrow().running()
        };
        if !running {
            return Ok(());
        }
        if let Ok(seconds @ 1..) = u64::try_from(timeout) {
            let signal = container.record.lock().stop_signal;
            self.signal(container, signal, false).await?;
            if self.ended(container, Duration::from_secs(seconds)).await {
                return Ok(());
            }
        }
        self.signal(container, libc::SIGKILL, true).await?;
        if self.ended(container, KILL_PATIENCE).await {
            return Ok(());
        }
        Err(Status::deadline_exceeded(format!(
            "container \"{}\" outlives SIGKILL",
            container.id
        )))
    }

    async fn ended(&self, container: &ContainerEntry, patience: Duration) -> bool {
        let mut run = container.run.subscribe();
        tokio::time::timeout(patience, run.wait_for(|state| state.exited()))
            .await
            .is_ok()
    }

    async fn signal(&self, container: &ContainerEntry, signal: i32, all: bool) -> Result<(), Status> {
        let Ok(sandbox) = self.sandbox(&container.sandbox) else {
            return Ok(());
        };
        let request = Request::Signal {
            container: container.id.clone(),
            signal,
            all,
        };
        match sandbox.shim.call(&request).await {
            // A shim that is gone takes its containers along; whoever follows it will say so.
            Ok(_) | Err(ShimError::NotRunning | ShimError::Gone(_)) => Ok(()),
            Err(error) => Err(Status::unknown(format!(
                "failed to kill container \"{}\": {error}",
                container.id
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("QUIT", Some(3)),
            ("sigwinch", Some(28)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN", Some(34)),
            ("65", None),
            ("0", None),
            ("SIGNONE", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
