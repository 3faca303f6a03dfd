//! Tokens that must not be taken, each wrong in a way of its own.

use anyhow::{Context as _, Result};
use reprise_tests::control::Issuer;
use ring::hmac;
use serde_json::{Value, json};

/// Changes one claim or header field; null takes it away.
pub(crate) fn with(mut object: Value, name: &str, value: Value) -> Value {
    let fields = object.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
    object
}

/// Every token that must not be taken, with what is wrong with it.
pub(crate) fn bad_tokens(issuer: &Issuer) -> Result<Vec<(&'static str, String)>> {
    let claims = || Issuer::claims("mallory", "admin");
    let now = claims()["iat"].as_i64().context("a time")?;
    let claim = |name: &str, value: Value| issuer.sign(&issuer.header(), &with(claims(), name, value));
    let header = |name: &str, value: Value| issuer.sign(&with(issuer.header(), name, value), &claims());
    let none = |name: &str| issuer.sign_with(&with(issuer.header(), "alg", json!(name)), &claims(), |_| Vec::new());
    let public = issuer.public_key().to_vec();
    let by_public_key = issuer.sign_with(&with(issuer.header(), "alg", json!("HS256")), &claims(), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        hmac::sign(&key, message).as_ref().to_vec()
    });
    let good = issuer.token("mallory", "admin");
    let (message, signature) = good.rsplit_once('.').context("three parts")?;
    let raised = issuer.token("mallory", "viewer");
    let viewers_signature = raised.rsplit_once('.').context("three parts")?.1;
    Ok(vec![
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no signature", format!("{message}.")),
        ("a signature of other claims", format!("{message}.{viewers_signature}")),
        ("a cut signature", format!("{message}.{}", &signature[..20])),
        ("HS256 by the public key", by_public_key),
        ("another algorithm", header("alg", json!("ES256"))),
        ("another kid", header("kid", json!("key-2"))),
        ("a kid that is a path", header("kid", json!("../../../../dev/null"))),
        ("no kid", header("kid", Value::Null)),
        (
            "a key of another issuer",
            Issuer::new("key-1")?.token("mallory", "admin"),
        ),
        (
            "an embedded key",
            header(
                "jwk",
                json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": "EdDSA"}),
            ),
        ),
        ("a link to keys", header("jku", json!("https://keys.test/jwks.json"))),
        ("a critical extension", header("crit", json!(["b64"]))),
        ("another kind of token", header("typ", json!("secevent+jwt"))),
        ("another audience", claim("aud", json!("others"))),
        ("no audience", claim("aud", Value::Null)),
        ("another issuer", claim("iss", json!("https://issuer.test.evil"))),
        (
            "a list of issuers",
            claim("iss", json!(["https://issuer.test", "https://evil.test"])),
        ),
        ("no issuer", claim("iss", Value::Null)),
        ("no end", claim("exp", Value::Null)),
        ("an end as text", claim("exp", json!((now + 600).to_string()))),
        ("an end long ago", claim("exp", json!(now - 3_600))),
        ("an end beyond the leeway", claim("exp", json!(now - 75))),
        ("a negative end", claim("exp", json!(-1))),
        ("a beginning in an hour", claim("nbf", json!(now + 3_600))),
        ("a beginning as text", claim("nbf", json!("soon"))),
        ("no subject", claim("sub", Value::Null)),
        ("a subject with a line break", claim("sub", json!("mallory\nadmin"))),
        ("an endless subject", claim("sub", json!("m".repeat(300)))),
        ("64 KB", claim("padding", json!("x".repeat(64 << 10)))),
        ("nothing", String::new()),
        ("no token", "not.a.token".to_owned()),
        ("a dot", ".".to_owned()),
    ])
}
