//! What PlanJob answered, kept until CreateJob takes it or it expires.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlPool};
use uuid::Uuid;

/// Each new plan removes at most so many that expired.
const MOST_FORGOTTEN: u32 = 20;

/// Keeps a plan for `ttl`. Repeating it changes nothing.
pub async fn keep_plan(
    pool: &MySqlPool,
    plan_id: Uuid,
    principal: &str,
    plan_json: &[u8],
    ttl: Duration,
) -> sqlx::Result<()> {
    sqlx::query("/* forget_plans */ DELETE FROM job_plans WHERE expires_at < UTC_TIMESTAMP(3) LIMIT ?")
        .bind(MOST_FORGOTTEN)
        .execute(pool)
        .await?;
    sqlx::query(
        "/* keep_plan */ INSERT INTO job_plans (plan_id, principal, plan, created_at, expires_at) \
         VALUES (?, ?, ?, UTC_TIMESTAMP(3), DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND)) \
         ON DUPLICATE KEY UPDATE plan_id = plan_id",
    )
    .bind(plan_id.hyphenated().to_string())
    .bind(principal)
    .bind(plan_json)
    .bind(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
    .execute(pool)
    .await?;
    Ok(())
}

/// Reads a plan and locks it until the transaction ends, so that one plan becomes one job. `None`: it is unknown, was
/// taken, or expired.
pub async fn load_plan(connection: &mut MySqlConnection, plan_id: Uuid) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar(
        "/* load_plan */ SELECT plan FROM job_plans WHERE plan_id = ? AND expires_at >= UTC_TIMESTAMP(3) FOR UPDATE",
    )
    .bind(plan_id.hyphenated().to_string())
    .fetch_optional(connection)
    .await
}

/// Takes a plan away, within the transaction that makes its job.
pub async fn drop_plan(connection: &mut MySqlConnection, plan_id: Uuid) -> sqlx::Result<()> {
    sqlx::query("/* drop_plan */ DELETE FROM job_plans WHERE plan_id = ?")
        .bind(plan_id.hyphenated().to_string())
        .execute(connection)
        .await?;
    Ok(())
}
