//! What a caller may choose of a load.

/// How to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Refuse a file that root doesn't own or that others may write.
    pub check_permissions: bool,
    /// Take warnings for errors.
    pub strict: bool,
    /// Warn of files that the service's sandbox hides from it, and of those in `conf.d` that nothing
    /// includes. Not for the daemon, to which what it has read isn't hidden.
    pub warn_unseen: bool,
}

/// Permissions are checked, warnings are warnings, and all of them are told.
impl Default for Options {
    fn default() -> Self {
        Self { check_permissions: true, strict: false, warn_unseen: true }
    }
}
