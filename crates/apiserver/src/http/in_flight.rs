//! How many requests are handled at once. Who comes when all places are taken waits a while, and is then told to come
//! again later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, ApiResult};
use crate::http::request_info::RequestInfo;
use crate::user::{MASTERS, UserInfo};

/// Places for requests that only read, and for those that change something (upstream's defaults).
const READ_ONLY: usize = 400;
const MUTATING: usize = 200;
/// How many may wait for a place, and how long.
const WAITING: usize = 4096;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The places.
#[derive(Debug)]
pub(crate) struct InFlight {
    read_only: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    longest_wait: Duration,
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new(READ_ONLY, MUTATING, WAITING, LONGEST_WAIT)
    }
}

impl InFlight {
    fn new(read_only: usize, mutating: usize, waiting: usize, longest_wait: Duration) -> Self {
        Self {
            read_only: Arc::new(Semaphore::new(read_only)),
            mutating: Arc::new(Semaphore::new(mutating)),
            waiting: Arc::new(Semaphore::new(waiting)),
            longest_wait,
        }
    }

    /// A place for a request; `None` when it needs none: it lasts as long as the client likes, or its user is exempt.
    ///
    /// # Errors
    /// 429 when there was none in time.
    pub(crate) async fn place(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
    ) -> ApiResult<Option<OwnedSemaphorePermit>> {
        if info.is_long_running() || user.in_group(MASTERS) {
            return Ok(None);
        }
        let places = if info.is_mutating() {
            &self.mutating
        } else {
            &self.read_only
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(Some(place));
        }
        let busy = || {
            ApiError::too_many_requests(
                "Too many requests, please try again later.",
                Duration::from_secs(1),
            )
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let place = tokio::time::timeout(self.longest_wait, places.clone().acquire_owned());
        match place.await {
            Ok(Ok(place)) => Ok(Some(place)),
            _ => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_to_come_again() {
        let in_flight = InFlight::new(1, 1, 1, LONGEST_WAIT);
        let user = UserInfo::new("joe", [""; 0]);
        let list = RequestInfo::parse(&Method::GET, &"/api/v1/pods".parse().unwrap()).unwrap();
        let watch = RequestInfo::parse(&Method::GET, &"/api/v1/pods?watch=1".parse().unwrap()).unwrap();
        let create = RequestInfo::parse(&Method::POST, &"/api/v1/pods".parse().unwrap()).unwrap();

        let place = in_flight.place(&list, &user).await.unwrap();
        let refusal = in_flight.place(&list, &user).await.unwrap_err();
        assert_eq!(refusal.code(), 429);
        assert_eq!(refusal.0.details.as_ref().unwrap().retry_after_seconds, Some(1));
        assert!(
            in_flight.place(&create, &user).await.unwrap().is_some(),
            "writes have places of their own"
        );
        assert!(in_flight.place(&watch, &user).await.unwrap().is_none());
        assert!(
            in_flight
                .place(&list, &UserInfo::master("m"))
                .await
                .unwrap()
                .is_none()
        );
        drop(place);
        assert!(in_flight.place(&list, &user).await.unwrap().is_some());
    }
}
