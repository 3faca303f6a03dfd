//! What a call passes before its service, outermost first:
//!
//! | layer | does |
//! |---|---|
//! | [`telemetry`] | metrics and a span; turns panics into INTERNAL |
//! | [`admission`] | refuses calls beyond what the server can work on at one time; large messages wait for their turn |
//! | [`deadline`] | ends a call when its time is up |
//! | [`networks`] | refuses callers from elsewhere |
//! | [`auth`] | finds out who calls, by token or certificate |
//! | [`rate_limit`] | refuses a caller who calls too often, without harm to others |
//! | [`roles`] | refuses what the caller's role does not allow |
//! | [`wording`] | says in our words what the library says in its own |

pub mod admission;
pub mod auth;
pub mod deadline;
pub mod denials;
pub mod gate;
pub mod jwt;
pub mod networks;
pub mod rate_limit;
pub mod roles;
pub mod telemetry;
pub mod wording;

use std::io;

use reprise_shared::clock::Clock;
use reprise_shared::mysql::Database;
use reprise_shared::redis::Redis;
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

pub use auth::Caller;
pub use deadline::Deadline;

use crate::config::Config;
use crate::reload;
use crate::serve::CallService;
use gate::GateLayer;

/// All layers, ready to be put around the services.
pub struct Guard {
    admission: admission::Layer,
    deadline: deadline::Layer,
    networks: networks::Gate,
    auth: auth::Gate,
    rate_limit: rate_limit::Gate,
    denials: denials::Denials,
    clock: Clock,
}

impl Guard {
    /// Makes the layers, and starts what keeps keys current and tells of denials, until the last call was answered.
    ///
    /// # Errors
    /// When the file of keys cannot be read or used.
    pub fn new(
        config: &Config,
        database: &Database,
        redis: &Redis,
        clock: &Clock,
        supervisor: &Supervisor,
        last_call: &CancellationToken,
    ) -> Result<Self, reload::Error> {
        let denials = denials::Denials::new();
        let telling = denials.clone().tell(database.clone(), last_call.clone());
        supervisor.spawn("denials", OnError::Log, OnCancel::Wait, async move {
            telling.await;
            Ok::<_, io::Error>(())
        });
        Ok(Self {
            admission: admission::Layer::new(&config.grpc),
            deadline: deadline::Layer::new(config.grpc.deadline, config.grpc.max_deadline),
            networks: networks::Gate::new(&config.auth.networks),
            auth: auth::Gate::new(config, supervisor)?,
            rate_limit: rate_limit::Gate::new(&config.rate_limit, redis.clone(), clock.clone()),
            denials,
            clock: clock.clone(),
        })
    }
}

/// Puts the layers around the services.
pub fn around(routes: Routes, guard: Guard) -> CallService {
    let denials = guard.denials;
    let service = ServiceBuilder::new()
        .layer(telemetry::Layer::new(guard.clock))
        .layer(guard.admission)
        .layer(guard.deadline)
        .layer(GateLayer::new(guard.networks, denials.clone()))
        .layer(GateLayer::new(guard.auth, denials.clone()))
        .layer(GateLayer::new(guard.rate_limit, denials.clone()))
        .layer(GateLayer::new(roles::Gate, denials))
        .layer(wording::Layer)
        .service(routes);
    BoxCloneSyncService::new(service)
}
