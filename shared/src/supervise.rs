//! The one supervisor of background tasks.
