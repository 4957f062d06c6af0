//! The service manager that started the daemon (sd_notify(3)).

use crate::journal::kind;
use sd_notify::NotifyState;

/// Tells systemd, where it asked to be told.
pub(crate) fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(target: kind::SERVICE_MANAGER, %error, "can't notify the service manager");
    }
}
