//! gRPC health, as true as readiness is.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// What is reported on: the server as a whole, and the service by its name.
const SERVICES: [&str; 2] = ["", "tollgate.v1.TollgateService"];

/// Reports readiness to health checks.
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Reports NOT_SERVING until readiness is followed.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.report(false).await;
        health
    }

    /// The service that answers health checks.
    pub fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Reports `readiness` as it changes. At shutdown it says NOT_SERVING and ends the streams that
    /// watch, which would keep their connections from draining.
    pub async fn follow(
        mut self,
        mut readiness: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        let follow = async {
            loop {
                let ready = *readiness.borrow_and_update();
                self.report(ready).await;
                if readiness.changed().await.is_err() {
                    // Whoever knew is gone, and with it the reason to send anyone here.
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
        self.report(false).await;
        shutdown.cancelled().await;
        for service in SERVICES {
            self.reporter.clear_service_status(service).await;
        }
    }

    async fn report(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
