//! The states of a job, and the one table of how it moves between them.

use super::names::names;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for a worker: the first one, or the next one after it was resumed or tried again.
    Pending,
    /// Workers are at it.
    Running,
    /// To be paused: workers finish their batches and let go.
    Pausing,
    /// Nobody works on it, and nobody who did can write any more.
    Paused,
    /// To be cancelled: workers finish their batches and let go.
    Cancelling,
    /// Everything was done.
    Succeeded,
    /// Everything that could be read was done; what is missing is on record.
    Partial,
    /// It could not go on.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

names!(JobState {
    Pending = "PENDING",
    Running = "RUNNING",
    Pausing = "PAUSING",
    Paused = "PAUSED",
    Cancelling = "CANCELLING",
    Succeeded = "SUCCEEDED",
    Partial = "PARTIAL",
    Failed = "FAILED",
    Cancelled = "CANCELLED",
});

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A worker claimed one of its tasks.
    Claimed,
    /// Somebody asks to pause it.
    Pause,
    /// Somebody asks to let it go on.
    Resume,
    /// Somebody asks to cancel it.
    Cancel,
    /// Somebody asks to do again what failed.
    Retry,
    /// No worker holds a task of it any more, or their time to let go is up and they are fenced.
    LetGo,
    /// All of its tasks are done and nothing is missing.
    Done,
    /// All of its tasks are done, and positions are missing.
    DonePartly,
    /// It cannot go on.
    Fail,
}

names!(Event {
    Claimed = "CLAIMED",
    Pause = "PAUSE",
    Resume = "RESUME",
    Cancel = "CANCEL",
    Retry = "RETRY",
    LetGo = "LET_GO",
    Done = "DONE",
    DonePartly = "DONE_PARTLY",
    Fail = "FAIL",
});

impl JobState {
    /// Returns the state that an event leads to; `None`: the event is not allowed in this state.
    pub fn after(self, event: Event) -> Option<Self> {
        use Event::{Cancel, Claimed, Done, DonePartly, Fail, LetGo, Pause, Resume, Retry};
        match self {
            Self::Pending => match event {
                Claimed => Some(Self::Running),
                // A worker may just have claimed a task, so it is asked to let go, too.
                Pause => Some(Self::Pausing),
                Cancel => Some(Self::Cancelling),
                Done => Some(Self::Succeeded),
                DonePartly => Some(Self::Partial),
                Fail => Some(Self::Failed),
                Resume | Retry | LetGo => None,
            },
            Self::Running => match event {
                Claimed => Some(Self::Running),
                Pause => Some(Self::Pausing),
                Cancel => Some(Self::Cancelling),
                Done => Some(Self::Succeeded),
                DonePartly => Some(Self::Partial),
                Fail => Some(Self::Failed),
                Resume | Retry | LetGo => None,
            },
            Self::Pausing => match event {
                Resume => Some(Self::Pending),
                Cancel => Some(Self::Cancelling),
                LetGo => Some(Self::Paused),
                Done => Some(Self::Succeeded),
                DonePartly => Some(Self::Partial),
                Fail => Some(Self::Failed),
                Claimed | Pause | Retry => None,
            },
            Self::Paused => match event {
                Resume => Some(Self::Pending),
                Cancel => Some(Self::Cancelling),
                Fail => Some(Self::Failed),
                Claimed | Pause | Retry | LetGo | Done | DonePartly => None,
            },
            // What was to be cancelled is cancelled, however far it came meanwhile.
            Self::Cancelling => match event {
                LetGo | Done | DonePartly | Fail => Some(Self::Cancelled),
                Claimed | Pause | Resume | Cancel | Retry => None,
            },
            Self::Succeeded | Self::Partial => None,
            Self::Failed | Self::Cancelled => match event {
                Retry => Some(Self::Pending),
                Claimed | Pause | Resume | Cancel | LetGo | Done | DonePartly | Fail => None,
            },
        }
    }

    /// Tells whether the job ended. Only [`Event::Retry`] leads out of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Partial | Self::Failed | Self::Cancelled)
    }

    /// Tells whether workers may claim its tasks.
    pub fn is_claimable(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Waits for a worker.
    Pending,
    /// A worker has a lease on it; when that ran out, another may claim it.
    Running,
    /// Every position up to its end has its outcome, or is on record as missing.
    Done,
    /// It cannot go on, and so its job cannot.
    Failed,
    /// Its job was cancelled.
    Cancelled,
}

names!(TaskState {
    Pending = "PENDING",
    Running = "RUNNING",
    Done = "DONE",
    Failed = "FAILED",
    Cancelled = "CANCELLED",
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state with every event, written by hand: what it leads to, or `-` where it is refused.
    const TABLE: &str = "
                CLAIMED PAUSE   RESUME  CANCEL     RETRY   LET_GO    DONE      DONE_PARTLY FAIL
    PENDING     RUNNING PAUSING -       CANCELLING -       -         SUCCEEDED PARTIAL     FAILED
    RUNNING     RUNNING PAUSING -       CANCELLING -       -         SUCCEEDED PARTIAL     FAILED
    PAUSING     -       -       PENDING CANCELLING -       PAUSED    SUCCEEDED PARTIAL     FAILED
    PAUSED      -       -       PENDING CANCELLING -       -         -         -           FAILED
    CANCELLING  -       -       -       -          -       CANCELLED CANCELLED CANCELLED   CANCELLED
    SUCCEEDED   -       -       -       -          -       -         -         -           -
    PARTIAL     -       -       -       -          -       -         -         -           -
    FAILED      -       -       -       -          PENDING -         -         -           -
    CANCELLED   -       -       -       -          PENDING -         -         -           -";

    #[test]
    fn every_event_in_every_state_leads_where_the_table_says() {
        let mut lines = TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let events = lines.by_ref().find(|words| !words.is_empty()).expect("a heading");
        assert_eq!(
            events,
            Event::ALL.iter().map(|event| event.as_str()).collect::<Vec<_>>()
        );
        let mut states = Vec::new();
        for words in lines {
            let state = JobState::parse(words[0]).expect("a state");
            states.push(state);
            let found: Vec<_> = Event::ALL
                .iter()
                .map(|event| state.after(*event).map_or("-", JobState::as_str))
                .collect();
            assert_eq!(found, words[1..], "{}", words[0]);
        }
        assert_eq!(states, JobState::ALL);
    }

    #[test]
    fn only_trying_again_leads_out_of_a_final_state() {
        for state in JobState::ALL.iter().filter(|state| state.is_final()) {
            for event in Event::ALL.iter().filter(|event| **event != Event::Retry) {
                assert_eq!(state.after(*event), None, "{state:?} {event:?}");
            }
            assert!(!state.is_claimable());
        }
        let endings: Vec<_> = JobState::ALL.iter().filter(|state| state.is_final()).collect();
        assert_eq!(endings.len(), 4);
    }
}
