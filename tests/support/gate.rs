//! The settings of gates that stand alone in a test.
use std::sync::Arc;

use corsac::gate::Settings;
use corsac::model::Limits;

/// Everybody is let in, to the realm `realm1`, which has a history.
pub fn settings(limits: Limits) -> Arc<Settings> {
    Arc::new(Settings {
        limits,
        default_realm: "realm1".into(),
        named_realms: Arc::default(),
        realm_from_user: false,
        listener_realm: None,
        allow_anonymous: true,
        refused_filters: Vec::new(),
        server_reference: None,
        has_history: true,
        request_ids: Default::default(),
    })
}
