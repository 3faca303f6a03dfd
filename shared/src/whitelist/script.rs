//! Reading and changing the whitelist in Redis: each is one Lua call, so each sees or makes one moment.

use redis::Value;

use super::change::{Change, ChangeId, Content, Edit, Head, Notice, Scope, Version};
use super::keys::Keys;
use crate::redis::{Error, Limit, Redis, Script};

/// Which state of Redis a replacement is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no version: the first filling.
    Missing,
    /// This version.
    Version(Version),
    /// This version or none: healing.
    MissingOr(Version),
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in Redis.
    Applied {
        /// The version that it made.
        version: Version,
        /// How many subscribers were told; `None` when publishing failed. Workers then find it by their poll.
        notified: Option<u64>,
    },
    /// Nothing was changed: Redis has another version than expected.
    Conflict {
        /// The version in Redis.
        current: Version,
    },
    /// Nothing was changed: Redis has no version. Somebody has to [`Writer::replace`] all lists.
    Unknown,
}

/// Why a change was not made, or may not have been made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// One call cannot carry so many ids.
    #[error("{count} ids in one whitelist change; at most {max} are possible")]
    TooManyIds {
        /// How many there are.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// The new version is not above the expected one.
    #[error("the new whitelist version {new} is not above the expected version {expected}")]
    NotAhead {
        /// The expected version.
        expected: Version,
        /// The new version.
        new: Version,
    },
    /// The notice cannot be written as JSON.
    #[error("the notice of a whitelist change cannot be serialised")]
    Notice(#[from] serde_json::Error),
    /// The call failed. After a lost answer the change may have been made: asking again with the same change id and
    /// versions is harmless.
    #[error("the whitelist in Redis could not be changed")]
    Redis(#[from] Error),
}

impl WriteError {
    /// Tells whether Redis certainly was not changed.
    pub fn is_certainly_not_done(&self) -> bool {
        match self {
            Self::TooManyIds { .. } | Self::NotAhead { .. } | Self::Notice(_) => true,
            Self::Redis(error) => error.is_certainly_not_done(),
        }
    }
}

/// Reads the whitelist from Redis.
#[derive(Debug)]
pub(super) struct Reader {
    redis: Redis,
    keys: Keys,
    read: Script,
}

impl Reader {
    pub(super) fn new(redis: Redis) -> Self {
        let keys = Keys::new(redis.prefix());
        Self {
            redis,
            keys,
            read: Script::new(include_str!("read.lua")),
        }
    }

    /// Reads version and change id; `None`: unknown.
    pub(super) async fn head(&self) -> Result<Option<Head>, Error> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.head()).arg("version").arg("change_id");
        let call = "read the whitelist's version";
        let (version, change_id): (Option<String>, Option<String>) =
            self.redis.query(call, Limit::Ordinary, &command).await?;
        let (Some(version), Some(change_id)) = (version, change_id) else {
            return Ok(None);
        };
        Ok(Some(Head {
            version: parse_version(call, &version)?,
            change_id: ChangeId::new(change_id),
        }))
    }

    /// Reads everything as one moment; `None`: unknown.
    pub(super) async fn content(&self) -> Result<Option<Content>, Error> {
        let call = "read the whitelist";
        let keys = [self.keys.head(), self.keys.list(&Scope::Global), self.keys.scopes()];
        let mut command = self.read.call(keys.iter().map(String::as_str));
        command.arg(self.keys.type_prefix());
        let answer: Vec<Value> = self.redis.invoke(call, Limit::Bulk, &self.read, &command).await?;
        parse_content(answer).map_err(|message| Error::Answer { call, message })
    }
}

/// Changes the whitelist in Redis. It decides nothing: who may change what, and what the truth is, is the caller's.
#[derive(Debug)]
pub struct Writer {
    reader: Reader,
    change: Script,
    replace: Script,
    max_notice_ids: usize,
}

impl Writer {
    /// Notices carry the ids of changes up to this size.
    pub const DEFAULT_MAX_NOTICE_IDS: usize = 1_000;
    /// One call carries at most this many ids; Redis takes a little over a million arguments.
    pub const MAX_IDS: usize = 1_000_000;

    /// Makes a writer. A change of more than `max_notice_ids` ids is announced without them.
    pub fn new(redis: Redis, max_notice_ids: usize) -> Self {
        Self {
            reader: Reader::new(redis),
            change: Script::new(include_str!("change.lua")),
            replace: Script::new(include_str!("replace.lua")),
            max_notice_ids,
        }
    }

    /// Reads which change Redis ends with, for example to learn what became of a change whose answer was lost.
    pub async fn head(&self) -> Result<Option<Head>, Error> {
        self.reader.head().await
    }

    /// Reads all lists.
    pub async fn content(&self) -> Result<Option<Content>, Error> {
        self.reader.content().await
    }

    /// Counts the ids of lists, in the order of `scopes` and in one round trip. A list that was lost alone (evicted,
    /// deleted) leaves the head as it was, and reads as an empty one.
    pub async fn sizes(&self, scopes: &[Scope]) -> Result<Vec<u64>, Error> {
        let mut pipeline = redis::Pipeline::with_capacity(scopes.len());
        for scope in scopes {
            pipeline.cmd("SCARD").arg(self.reader.keys.list(scope));
        }
        let call = "count the whitelist's ids";
        let sizes = self.reader.redis.pipeline(call, Limit::Ordinary, &mut pipeline).await?;
        sizes.into_iter().collect()
    }

    /// Fills a Redis that has no whitelist.
    pub async fn initialise(&self, content: &Content) -> Result<Answer, WriteError> {
        self.replace(content, Expect::Missing).await
    }

    /// Changes one list, if Redis has the `expected` version, and makes it the `new` one. The same call again
    /// changes nothing and answers the same.
    pub async fn apply(&self, change: &Change, expected: Version, new: Version) -> Result<Answer, WriteError> {
        let (mode, added, removed) = match &change.edit {
            Edit::Update { added, removed } => ("update", added.as_slice(), removed.as_slice()),
            Edit::Replace(ids) => ("replace", ids.as_slice(), [].as_slice()),
        };
        check_count(added.len() + removed.len())?;
        check_ahead(expected, new)?;
        let notice = serde_json::to_vec(&Notice::of(change, new, self.max_notice_ids))?;
        let keys = &self.reader.keys;
        let (head, list, scopes) = (keys.head(), keys.list(&change.scope), keys.scopes());
        let mut command = self.change.call([head.as_str(), &list, &scopes]);
        command
            .arg(expected.0)
            .arg(new.0)
            .arg(change.id.as_str())
            .arg(keys.changes())
            .arg(notice);
        command
            .arg(scope_name(&change.scope))
            .arg(mode)
            .arg(added.len())
            .arg(added)
            .arg(removed);
        self.invoke("change the whitelist", &self.change, &command).await
    }

    /// Puts all lists in place, if Redis is as expected. Workers read them in full.
    pub async fn replace(&self, content: &Content, expect: Expect) -> Result<Answer, WriteError> {
        check_count(content.global.len() + content.types.values().map(|list| list.len() + 2).sum::<usize>())?;
        let new = content.head.version;
        let (expectation, expected) = match expect {
            Expect::Missing => ("missing", None),
            Expect::Version(version) => ("version", Some(version)),
            Expect::MissingOr(version) => ("missing_or_version", Some(version)),
        };
        if let Some(expected) = expected {
            check_ahead(expected, new)?;
        }
        let notice = Notice {
            version: new,
            change_id: content.head.change_id.clone(),
            delta: None,
        };
        let keys = &self.reader.keys;
        let (head, global, scopes) = (keys.head(), keys.list(&Scope::Global), keys.scopes());
        let mut command = self.replace.call([head.as_str(), &global, &scopes]);
        command
            .arg(expectation)
            .arg(expected.map_or(String::new(), |version| version.to_string()));
        command
            .arg(new.0)
            .arg(content.head.change_id.as_str())
            .arg(keys.changes());
        command.arg(serde_json::to_vec(&notice)?).arg(keys.type_prefix());
        command.arg("").arg(content.global.len());
        for id in &content.global {
            command.arg(id);
        }
        for (name, list) in &content.types {
            command.arg(name).arg(list.len());
            for id in list {
                command.arg(id);
            }
        }
        self.invoke("replace the whitelist", &self.replace, &command).await
    }

    async fn invoke(&self, call: &'static str, script: &Script, command: &redis::Cmd) -> Result<Answer, WriteError> {
        let answer: Vec<Value> = self.reader.redis.invoke(call, Limit::Bulk, script, command).await?;
        Ok(parse_answer(&answer).ok_or_else(|| Error::Answer {
            call,
            message: format!("{answer:?}"),
        })?)
    }
}

fn check_count(count: usize) -> Result<(), WriteError> {
    if count > Writer::MAX_IDS {
        return Err(WriteError::TooManyIds {
            count,
            max: Writer::MAX_IDS,
        });
    }
    Ok(())
}

fn check_ahead(expected: Version, new: Version) -> Result<(), WriteError> {
    if new <= expected {
        return Err(WriteError::NotAhead { expected, new });
    }
    Ok(())
}

fn scope_name(scope: &Scope) -> &str {
    match scope {
        Scope::Global => "",
        Scope::Type(name) => name,
    }
}

fn parse_version(call: &'static str, text: &str) -> Result<Version, Error> {
    let message = || format!("version {:?}", text.chars().take(40).collect::<String>());
    text.parse().map(Version).map_err(|_| Error::Answer {
        call,
        message: message(),
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn parse_answer(answer: &[Value]) -> Option<Answer> {
    let version = |value: &Value| text(value)?.parse().ok().map(Version);
    match (text(answer.first()?)?, &answer[1..]) {
        ("applied", [made, Value::Int(receivers)]) => Some(Answer::Applied {
            version: version(made)?,
            notified: u64::try_from(*receivers).ok(),
        }),
        ("conflict", [current]) => Some(Answer::Conflict {
            current: version(current)?,
        }),
        ("unknown", []) => Some(Answer::Unknown),
        _ => None,
    }
}

fn parse_content(answer: Vec<Value>) -> Result<Option<Content>, String> {
    let mut values = answer.into_iter();
    let Some(version) = values.next() else { return Ok(None) };
    let (Some(change_id), Some(global)) = (values.next(), values.next()) else {
        return Err("the head or the global list is missing".to_owned());
    };
    let version = text(&version)
        .and_then(|text| text.parse().ok())
        .ok_or("the version is no number")?;
    let change_id = ChangeId::new(text(&change_id).ok_or("the change id is no text")?);
    let mut content = Content::new(Head {
        version: Version(version),
        change_id,
    });
    content.global = parse_ids(global)?;
    while let (Some(name), Some(list)) = (values.next(), values.next()) {
        let name = text(&name).ok_or("a data type is no text")?.to_owned();
        content.types.insert(name, parse_ids(list)?);
    }
    Ok(Some(content))
}

fn parse_ids<T: FromIterator<String>>(list: Value) -> Result<T, String> {
    let ids = match list {
        Value::Array(ids) | Value::Set(ids) => ids,
        _ => return Err("a list is no array".to_owned()),
    };
    let id = |value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| "an id is no UTF-8".to_owned()),
        _ => Err("an id is no text".to_owned()),
    };
    ids.into_iter().map(id).collect()
}
