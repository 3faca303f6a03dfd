//! Readiness by latches, and the HTTP server of `/healthz`, `/readyz` and `/metrics`.
