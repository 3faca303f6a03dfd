//! Users with exactly the rights that `docs/operating.md` lists for a role.

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::env::{Isolation, with_database};

const PASSWORD: &str = "change-me";

/// A role, by the name that the page gives its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes and changes tables.
    Migration,
    /// The control plane.
    Control,
    /// An ingest worker.
    Ingest,
    /// A replay worker.
    Replay,
    /// What asks for the number of replay workers.
    Keda,
}

impl Role {
    const fn user(self) -> &'static str {
        match self {
            Self::Migration => "reprise_migration",
            Self::Control => "reprise_control",
            Self::Ingest => "reprise_ingest",
            Self::Replay => "reprise_replay",
            Self::Keda => "reprise_keda",
        }
    }
}

/// A role's users in MySQL and Redis, for one corner of the servers.
#[derive(Debug)]
pub struct Users {
    name: String,
    server: String,
    redis: String,
    /// MySQL's URL for the role, with the database.
    pub mysql_url: String,
    /// Redis's URL for the role; users of MySQL alone have no rights there.
    pub redis_url: String,
}

impl Users {
    /// Makes them; every table that the page names has to be there by now.
    ///
    /// # Errors
    /// The page lists nothing for the role, or a server refuses what it lists.
    pub async fn make(role: Role, isolation: &Isolation) -> Result<Self> {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
        let page = std::fs::read_to_string(page).context("read the page")?;
        let suffix = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("{}_{}", role.user(), &suffix[20..]);
        let (mysql, redis) = (isolation.mysql_url(), isolation.redis_url().to_owned());
        let users = Self {
            server: with_database(&mysql, ""),
            mysql_url: with_user(&mysql, &name),
            redis_url: with_user(&redis, &name),
            redis,
            name,
        };
        let grants: Vec<&str> = granted(&page, role).collect();
        ensure!(!grants.is_empty(), "the page lists no grants for {role:?}");
        let mut root = MySqlConnection::connect(&users.server).await?;
        let user = format!("CREATE USER '{}'@'%' IDENTIFIED BY '{PASSWORD}'", users.name);
        root.execute(AssertSqlSafe(user)).await?;
        for grant in grants {
            let own = grant
                .replace("`reprise`.", &format!("`{}`.", isolation.database()))
                .replace(role.user(), &users.name);
            root.execute(AssertSqlSafe(own)).await.context(grant.to_owned())?;
        }
        if let Some(acl) = acl(&page, role) {
            let own = acl
                .replace("databus", &isolation.key_prefix())
                .replace(role.user(), &users.name);
            users.command(&own).await.context(own)?;
        }
        Ok(users)
    }

    /// Checks that MySQL refuses a statement of this user for want of a right.
    ///
    /// # Errors
    /// It was done, or refused for another reason.
    pub async fn refused_by_mysql(&self, statement: &str) -> Result<()> {
        let mut connection = MySqlConnection::connect(&self.mysql_url).await?;
        let done = connection.execute(AssertSqlSafe(statement.to_owned())).await;
        let error = done.err().with_context(|| format!("{statement} was done"))?;
        let told = error.to_string();
        eprintln!("{statement}: {told}");
        // For tables, for databases, for the whole server.
        let number = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
            .map(sqlx::mysql::MySqlDatabaseError::number);
        ensure!(matches!(number, Some(1142 | 1044 | 1227)), "{statement}: {told}");
        Ok(())
    }

    /// Checks that Redis refuses a command of this user for want of a right.
    ///
    /// # Errors
    /// It was done, or refused for another reason.
    pub async fn refused_by_redis(&self, command: &str) -> Result<()> {
        let mut connection = redis::Client::open(self.redis_url.as_str())?
            .get_multiplexed_async_connection()
            .await?;
        let done = parse(command).query_async::<redis::Value>(&mut connection).await;
        let error = done.err().with_context(|| format!("{command} was done"))?;
        eprintln!("{command}: {error}");
        ensure!(error.code() == Some("NOPERM"), "{command}: {error}");
        Ok(())
    }

    /// Takes the users away.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn drop(self) -> Result<()> {
        let mut root = MySqlConnection::connect(&self.server).await?;
        root.execute(AssertSqlSafe(format!("DROP USER '{}'@'%'", self.name)))
            .await?;
        // Nothing is done where there is no such user.
        self.command(&format!("ACL DELUSER {}", self.name)).await
    }

    async fn command(&self, line: &str) -> Result<()> {
        let mut connection = redis::Client::open(self.redis.as_str())?
            .get_multiplexed_async_connection()
            .await?;
        let _done: redis::Value = parse(line).query_async(&mut connection).await?;
        Ok(())
    }
}

fn parse(line: &str) -> redis::Cmd {
    let mut words = line.split_whitespace();
    let mut command = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    command
}

fn granted(page: &str, role: Role) -> impl Iterator<Item = &str> {
    let user = format!("'{}'", role.user());
    page.lines()
        .filter(move |line| line.starts_with("GRANT ") && line.contains(&user))
        .map(|line| line.trim_end_matches(';'))
}

/// Returns the command that makes the role's user in Redis, which may go over several lines.
fn acl(page: &str, role: Role) -> Option<String> {
    let begin = format!("ACL SETUSER {} ", role.user());
    let from = page.find(&begin)?;
    let length = page[from..].find("```")?;
    Some(page[from..from + length].to_owned())
}

/// Puts a user with the password into a URL.
fn with_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{user}:{PASSWORD}@{}", &rest[host..])
}

/// Tells whether a log has what MySQL, Redis or the client of Redis say to a user who lacks a right. Their words, and not
/// MySQL's number: that is part of the time of many a line.
pub fn tells_of_a_lack(log: &str) -> bool {
    ["denied", "NOPERM", "NoPerm", "no permissions"]
        .iter()
        .any(|word| log.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_rights_is_told_from_a_time() {
        assert!(!tells_of_a_lack(
            "{\"timestamp\":\"2026-11-23T05:27:07.431142Z\",\"message\":\"task ended\"}"
        ));
        assert!(tells_of_a_lack(
            "MySQL 1142: DELETE command denied to user 'a'@'b' for table `jobs`"
        ));
        assert!(tells_of_a_lack(
            "NoPerm: this user has no permissions to run the 'keys' command"
        ));
    }

    #[test]
    fn the_user_of_a_url_is_replaced() {
        assert_eq!(with_user("redis://127.0.0.1:1", "u"), "redis://u:change-me@127.0.0.1:1");
        let url = "mysql://root@127.0.0.1:1/d?a=b@c";
        assert_eq!(with_user(url, "u"), "mysql://u:change-me@127.0.0.1:1/d?a=b@c");
    }

    #[test]
    fn the_page_is_read_by_role() {
        let page = "GRANT A ON x TO 'reprise_control'@'%';\nGRANT B ON x TO 'reprise_ingest'@'%';\n\
                    ```redis\nACL SETUSER reprise_ingest on\n  +ping\n```\n";
        let grants: Vec<&str> = granted(page, Role::Control).collect();
        assert_eq!(grants, ["GRANT A ON x TO 'reprise_control'@'%'"]);
        assert_eq!(
            acl(page, Role::Ingest).as_deref(),
            Some("ACL SETUSER reprise_ingest on\n  +ping\n")
        );
        assert_eq!(acl(page, Role::Control), None);
    }
}
