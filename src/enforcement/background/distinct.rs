//! Tells the shared sets of distinct counts what was counted without asking them: values that were
//! recorded after the fact, or admitted by an outage policy.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::enforcement::{leasing::Leasing, values::Values};

/// How often the sets are told; so long may a recorded value not yet take its place in a limit.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Tells until `stop`.
pub async fn tell(values: Arc<Values>, leasing: Arc<Leasing>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(TELL_EVERY) => {}
            () = stop.cancelled() => return,
        }
        for (key, untold) in values.take_untold() {
            if !leasing.tell_distinct(&key, untold.clone()).await {
                values.put_back_untold(&key, &untold);
            }
        }
    }
}
