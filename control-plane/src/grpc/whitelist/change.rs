//! What the three changing calls have in common.

use tonic::Request;

use reprise_proto::v1::Whitelist;

use super::super::error::Error;
use super::super::fields::Fields;
use super::super::principal;
use super::{Service, convert, failure};
use crate::guard::admission::Place;
use crate::whitelist::{self, Action, Caller, Outcome, Version};
use reprise_shared::telemetry::chain;

/// The fields of a change, as they came.
pub(super) struct Asked {
    pub(super) ids: Vec<String>,
    pub(super) note: String,
    pub(super) expires_at: Option<jiff::Timestamp>,
    pub(super) etag: String,
    pub(super) request_id: String,
    pub(super) validate_only: bool,
    pub(super) allow_unrestricted: bool,
}

/// Who asks for a change, and the place among the calls in work that it takes until it is made.
pub(super) struct Origin {
    caller: Caller,
    place: Option<Place>,
}

impl Origin {
    /// Reads what the guard left in a request.
    pub(super) fn of<T>(request: &Request<T>, method: &str) -> Self {
        Self {
            caller: Caller {
                principal: principal(request),
                method: method.to_owned(),
            },
            place: request.extensions().get().cloned(),
        }
    }
}

impl Service {
    /// Checks a change, makes it, and returns what it did and the list afterwards. Goes on when the caller is gone.
    pub(super) async fn change(
        &self,
        Origin { caller, place }: Origin,
        action: Action,
        data_type: &str,
        asked: Asked,
        mut fields: Fields,
    ) -> Result<(Outcome, Whitelist), Error> {
        let mut request = whitelist::Request::new(action, convert::scope(data_type), asked.ids);
        request.note = asked.note;
        request.expires_at = asked.expires_at;
        request.allow_unrestricted = asked.allow_unrestricted;
        request.validate_only = asked.validate_only;
        request.request_id = Some(asked.request_id).filter(|id| !id.is_empty());
        if !asked.etag.is_empty() {
            let etag = asked
                .etag
                .parse()
                .map_err(|_| "is not the etag of a whitelist; GetWhitelist returns it");
            request.etag = fields.take("etag", etag).map(Version);
        }
        if let Err(whitelist::Error::Invalid(violations)) = self.store.check_request(&caller, &request) {
            for violation in violations {
                fields.refuse(violation.field, violation.problem);
            }
        }
        fields.finish()?;
        let (store, method, validate_only) = (self.store.clone(), caller.method.clone(), request.validate_only);
        let outcome = self.changes.make(async move {
            let outcome = store.change(&caller, request).await;
            // The ids were in memory until now, also when nobody waits for the answer any more.
            drop(place);
            outcome.map_err(failure::answer)
        });
        let outcome = outcome.await?;
        tracing::info!(
            rpc.method = method,
            whitelist.version = outcome.version.0,
            added = outcome.added,
            removed = outcome.removed,
            repeated = outcome.repeated,
            validate_only,
            "whitelist change"
        );
        let whitelist = self.afterwards(&outcome).await;
        Ok((outcome, whitelist))
    }

    /// Returns the list as the outcome left it. The change is made by now, so a failure to read more of it is no
    /// failure of the call: then only the time of the last change is missing.
    async fn afterwards(&self, outcome: &Outcome) -> Whitelist {
        let mut after = convert::after(outcome);
        match self.store.lists().await {
            Ok(lists) => {
                let global = lists.iter().find(|list| list.scope == whitelist::Scope::Global);
                let own = lists.iter().find(|list| list.scope == outcome.scope);
                after.update_time = own.and_then(convert::update_time);
                after.unrestricted &= global.is_none_or(|list| list.scope == outcome.scope || list.entries == 0);
            }
            Err(error) => tracing::warn!(error = %chain(&error), "read the list after its change"),
        }
        after
    }
}
