//! How a task judges records: by its slice alone. The live whitelist and the live state of its type have no say.
//!
//! A task of a rebuild takes nothing: it counts the records of every type.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::filter::{self, Verdict};
use reprise_shared::position::Offset;
use reprise_shared::whitelist::{ChangeId, Content, Head, Scope, Snapshot, Version};

use crate::judge::{Admission, Judge};

/// Judges the records of one slice.
#[derive(Clone, Debug)]
pub(super) struct TaskJudge {
    /// `None`: all types are counted, and none is taken.
    data_type: Option<TypeIndex>,
    /// The list is empty, so nothing passes: to a snapshot, an empty list means everything.
    nothing: bool,
    /// Milliseconds since 1970.
    from: Option<i64>,
    to: Option<i64>,
    trusts_key: Arc<AtomicBool>,
    /// Records with open letters that the job would close.
    open_letters: Arc<BTreeSet<Offset>>,
    /// Those of them that turned out to yield nothing.
    settled: Arc<Mutex<BTreeSet<Offset>>>,
}

impl TaskJudge {
    /// Makes a judge that counts everything.
    pub(super) fn of_all() -> Self {
        Self {
            data_type: None,
            nothing: false,
            from: None,
            to: None,
            trusts_key: Arc::new(AtomicBool::new(false)),
            open_letters: Arc::default(),
            settled: Arc::default(),
        }
    }

    /// Makes a judge of one type. `ids` are those that pass, `None`: all. Times are in milliseconds since 1970.
    pub(super) fn new(
        data_type: TypeIndex,
        ids: Option<&[String]>,
        (from, to): (Option<i64>, Option<i64>),
        trusts_key: bool,
    ) -> Self {
        Self {
            data_type: Some(data_type),
            nothing: ids.is_some_and(<[String]>::is_empty),
            from,
            to,
            trusts_key: Arc::new(AtomicBool::new(trusts_key)),
            open_letters: Arc::default(),
            settled: Arc::default(),
        }
    }

    /// Makes it look out for records with open letters. No batch tells of one that yields nothing now.
    pub(super) fn watching(self, open_letters: Arc<BTreeSet<Offset>>) -> Self {
        Self { open_letters, ..self }
    }

    /// Returns the records below a position whose letters are settled because they yield nothing.
    pub(super) fn settled_before(&self, position: Offset) -> Vec<Offset> {
        self.settled.lock().range(..position).copied().collect()
    }

    /// Forgets records whose letters are closed now.
    pub(super) fn forget(&self, closed: &[Offset]) {
        let mut settled = self.settled.lock();
        for offset in closed {
            settled.remove(offset);
        }
    }
}

/// Makes the snapshot that a task's chunks are judged by: one list of one type.
pub(super) fn snapshot(names: &[String], data_type: Option<TypeIndex>, ids: Option<Vec<String>>) -> Snapshot {
    let mut content = Content::new(Head {
        version: Version(0),
        change_id: ChangeId::new("task"),
    });
    if let Some(data_type) = data_type {
        let scope = Scope::Type(names[data_type.0].clone());
        content.list_mut(scope).extend(ids.into_iter().flatten());
    }
    Snapshot::new(names, content)
}

impl Judge for TaskJudge {
    fn admission(&self, data_type: Option<TypeIndex>) -> Admission {
        match self.data_type {
            None => Admission::Count,
            Some(_) if data_type == self.data_type => Admission::Take,
            Some(_) => Admission::Skip,
        }
    }

    fn trusts_key(&self, _data_type: TypeIndex) -> bool {
        self.trusts_key.load(Ordering::Acquire)
    }

    fn key_disagrees(&self, _data_type: TypeIndex) {
        // From here on the id alone decides, in this task. Live traffic finds out for itself.
        if self.trusts_key.swap(false, Ordering::AcqRel) {
            tracing::error!("kafka key and id disagree: the task does not trust keys any more");
        }
    }

    fn audits_keys(&self) -> bool {
        false
    }

    fn judge(&self, snapshot: &Snapshot, data_type: TypeIndex, id: &[u8]) -> Verdict {
        if self.nothing {
            Verdict::Filtered
        } else {
            filter::judge(snapshot, data_type, id)
        }
    }

    fn judge_time(&self, timestamp: i64) -> Verdict {
        let limited = self.from.is_some() || self.to.is_some();
        let within = self.from.is_none_or(|from| timestamp >= from) && self.to.is_none_or(|to| timestamp < to);
        // A record without a time is in no window.
        if limited && (timestamp < 0 || !within) {
            Verdict::Filtered
        } else {
            Verdict::Pass
        }
    }

    fn yields_nothing(&self, offset: Offset) {
        if self.open_letters.contains(&offset) {
            self.settled.lock().insert(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIC: TypeIndex = TypeIndex(0);
    const RISK: TypeIndex = TypeIndex(1);

    fn names() -> Vec<String> {
        vec!["fund_basic".to_owned(), "fund_risk".to_owned()]
    }

    #[test]
    fn only_the_type_of_the_task_is_taken() {
        let judge = TaskJudge::new(RISK, None, (None, None), true);
        assert_eq!(judge.admission(Some(RISK)), Admission::Take);
        assert_eq!(judge.admission(Some(BASIC)), Admission::Skip);
        assert_eq!(judge.admission(None), Admission::Skip);
    }

    #[test]
    fn a_list_lets_its_ids_through_an_empty_one_nothing_and_none_everything() {
        let verdict = |ids: Option<&[&str]>, id: &str| {
            let ids: Option<Vec<String>> = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
            let judge = TaskJudge::new(RISK, ids.as_deref(), (None, None), true);
            judge.judge(&snapshot(&names(), Some(RISK), ids), RISK, id.as_bytes())
        };
        assert_eq!(verdict(Some(&["a"]), "a"), Verdict::Pass);
        assert_eq!(verdict(Some(&["a"]), "b"), Verdict::Filtered);
        assert_eq!(verdict(Some(&[]), "a"), Verdict::Filtered);
        assert_eq!(verdict(None, "a"), Verdict::Pass);
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let judge = TaskJudge::new(RISK, None, (Some(10), Some(20)), true);
        let within = [9, 10, 19, 20, -1].map(|time| judge.judge_time(time) == Verdict::Pass);
        assert_eq!(within, [false, true, true, false, false]);
        let open = TaskJudge::new(RISK, None, (None, None), true);
        assert_eq!(open.judge_time(-1), Verdict::Pass);
    }

    #[test]
    fn only_open_letters_of_records_that_yield_nothing_are_settled() {
        let open = [3, 7, 9].map(Offset);
        let judge = TaskJudge::new(RISK, None, (None, None), true).watching(Arc::new(open.into()));
        for offset in [2, 3, 9] {
            judge.clone().yields_nothing(Offset(offset));
        }
        assert_eq!(judge.settled_before(Offset(9)), [Offset(3)]);
        judge.forget(&[Offset(3)]);
        assert_eq!(judge.settled_before(Offset(10)), [Offset(9)]);
    }
}
