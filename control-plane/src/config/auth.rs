//! Who may call what, and how often.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

use super::duration;

/// What a caller may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer,
    /// Runs things day by day.
    Operator,
    /// Does what can destroy or expose.
    Admin,
}

impl Role {
    /// Returns the name as it stands in tokens and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A network that calls may come from, as in `10.0.0.0/8`.
pub type Network = IpNet;

/// Who may call what. Without `jwt` and without `certificates` everybody may do everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Tokens.
    pub jwt: JwtConfig,
    /// Callers that are known by their certificates.
    pub certificates: Vec<CertificateRole>,
    /// Networks that calls may come from; none: all.
    pub networks: Vec<Network>,
}

impl AuthConfig {
    /// Returns whether callers have to say who they are.
    pub fn is_on(&self) -> bool {
        self.jwt.jwks_path.is_some() || !self.certificates.is_empty()
    }
}

/// A caller that is known by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRole {
    /// A subject alternative name, exactly: a DNS name, or a URI such as `spiffe://cluster/ns/x`.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// How tokens are judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct JwtConfig {
    /// A JWKS file of public keys, each with `kid` and `alg`. Read again when it changes. Without it no token counts.
    pub jwks_path: Option<PathBuf>,
    /// The `iss` that tokens have to have.
    pub issuer: String,
    /// The `aud` that tokens have to have.
    pub audience: String,
    /// The claim that holds the role or roles: a name, or a JSON pointer such as `/realm_access/roles`.
    pub role_claim: String,
    /// Values of the claim that mean each role.
    pub roles: RoleNames,
    /// How far clocks may be apart.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// A longer token is refused unread.
    pub max_token: ByteSize,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            jwks_path: None,
            issuer: String::new(),
            audience: String::new(),
            role_claim: "role".to_owned(),
            roles: RoleNames::default(),
            leeway: Duration::from_secs(60),
            max_token: ByteSize::kib(8),
        }
    }
}

/// What the roles are called in tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleNames {
    /// Names of viewers.
    pub viewer: Vec<String>,
    /// Names of operators.
    pub operator: Vec<String>,
    /// Names of admins.
    pub admin: Vec<String>,
}

impl Default for RoleNames {
    fn default() -> Self {
        Self {
            viewer: vec!["viewer".to_owned()],
            operator: vec!["operator".to_owned()],
            admin: vec!["admin".to_owned()],
        }
    }
}

impl RoleNames {
    /// Returns the highest role that a value means.
    pub fn role_of(&self, value: &str) -> Option<Role> {
        [
            (&self.admin, Role::Admin),
            (&self.operator, Role::Operator),
            (&self.viewer, Role::Viewer),
        ]
        .into_iter()
        .find(|(names, _)| names.iter().any(|name| name == value))
        .map(|(_, role)| role)
    }
}

impl Validate for AuthConfig {
    fn validate(&self, faults: &mut Faults) {
        let jwt = &self.jwt;
        if jwt.jwks_path.is_some() {
            for (key, value) in [
                ("jwt.issuer", &jwt.issuer),
                ("jwt.audience", &jwt.audience),
                ("jwt.role_claim", &jwt.role_claim),
            ] {
                if value.is_empty() {
                    faults.add(key, "is not set, but jwt.jwks_path is", "what tokens have to say");
                }
            }
        }
        duration(faults, "jwt.leeway", jwt.leeway, 0, 300_000);
        faults.check_range("jwt.max_token", jwt.max_token.as_u64(), 256, 64 << 10);
        if self.certificates.iter().any(|certificate| certificate.name.is_empty()) {
            faults.add(
                "certificates",
                "one has no name",
                "a DNS name or URI of each caller's certificate",
            );
        }
    }
}

/// How many calls one caller may make: a bucket of tokens that refills.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitConfig {
    /// Calls a second in the long run; 0: no limit.
    pub per_second: u32,
    /// Calls at once after a pause.
    pub burst: u32,
    /// Callers that a replica counts by itself while Redis is away; beyond it the one seen longest ago is forgotten.
    pub max_local_callers: u32,
    /// Redis has to answer within this long.
    #[serde(with = "humantime_serde")]
    pub redis_answer: Duration,
    /// After Redis failed, it is asked again after this long.
    #[serde(with = "humantime_serde")]
    pub ask_redis_again_after: Duration,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            per_second: 100,
            burst: 200,
            max_local_callers: 10_000,
            redis_answer: Duration::from_millis(200),
            ask_redis_again_after: Duration::from_secs(1),
        }
    }
}

impl Validate for RateLimitConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.check_range("per_second", self.per_second, 0, 1_000_000);
        faults.check_range("burst", self.burst, 1, 1_000_000);
        faults.check_range("max_local_callers", self.max_local_callers, 1, 10_000_000);
        duration(faults, "redis_answer", self.redis_answer, 1, 10_000);
        duration(faults, "ask_redis_again_after", self.ask_redis_again_after, 10, 60_000);
    }
}
