//! Checks a request's fields and collects every fault, so that a caller learns all of them at once.

use std::time::Duration;

use jiff::Timestamp;
use tonic_types::FieldViolation;

use super::error::{Error, ErrorReason, quoted};

/// So many faults are told one by one; the rest is counted. They travel in a header, which clients limit.
const MOST_VIOLATIONS: usize = 20;
/// A whitelist id has at most so many bytes.
const LONGEST_ID: usize = 128;
/// The message tells them up to so many bytes; a caller who reads nothing else mends most requests in one go.
const IN_MESSAGE: usize = 600;

/// The faults of a request so far.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<FieldViolation>,
    left_out: usize,
}

impl Fields {
    /// Starts with no fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault. The field is named as in the `.proto`, with its place in a list: `ids[3]`.
    pub fn refuse(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(FieldViolation::new(field, problem));
        } else {
            self.left_out += 1;
        }
    }

    /// Takes the value of a conversion, or its fault.
    pub fn take<T>(&mut self, field: &str, converted: Result<T, impl ToString>) -> Option<T> {
        converted
            .map_err(|problem| self.refuse(field, problem.to_string()))
            .ok()
    }

    /// Refuses an empty text.
    pub fn require(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            self.refuse(field, "is required");
        }
    }

    /// Refuses a text that is too long or holds control characters. `longest` counts bytes.
    pub fn text(&mut self, field: &str, text: &str, longest: usize) {
        if let Some(problem) = problem_of(text, longest) {
            self.refuse(field, problem);
        }
    }

    /// Refuses a `request_id` that is no use as a key.
    pub fn request_id(&mut self, request_id: &str) {
        if request_id.len() > 64 || !request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.refuse(
                "request_id",
                "has to be at most 64 visible ASCII characters, such as a UUID",
            );
        }
    }

    /// Refuses whitelist ids that are empty, too long, or hold control characters.
    pub fn ids(&mut self, field: &str, ids: &[String]) {
        for (place, id) in ids.iter().enumerate() {
            let empty = id.is_empty().then(|| "is empty".to_owned());
            if let Some(problem) = empty.or_else(|| problem_of(id, LONGEST_ID)) {
                self.refuse(format!("{field}[{place}]"), problem);
            }
        }
    }

    /// Turns a time of the wire into ours.
    pub fn time(&mut self, field: &str, time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
        let time = time?;
        let nanoseconds = (0..1_000_000_000).contains(&time.nanos).then_some(time.nanos);
        let converted = nanoseconds.and_then(|nanoseconds| Timestamp::new(time.seconds, nanoseconds).ok());
        if converted.is_none() {
            self.refuse(field, "is not a time between the years 1 and 9999");
        }
        converted
    }

    /// Turns a duration of the wire, which must not be negative, into ours.
    pub fn duration(&mut self, field: &str, duration: Option<prost_types::Duration>) -> Option<Duration> {
        let converted = Duration::try_from(duration?);
        if converted.is_err() {
            self.refuse(field, "is not a duration of 0 seconds or more");
        }
        converted.ok()
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// When there was a fault: all of them.
    pub fn finish(self) -> Result<(), Error> {
        if self.violations.is_empty() {
            return Ok(());
        }
        let count = self.violations.len() + self.left_out;
        let mut room = IN_MESSAGE;
        let told: Vec<String> = self
            .violations
            .iter()
            .map(|violation| format!("{} {}", violation.field, violation.description))
            .enumerate()
            .take_while(|(place, fault)| {
                let fits = fault.len() <= room;
                room = room.saturating_sub(fault.len());
                fits || *place == 0
            })
            .map(|(_, fault)| fault)
            .collect();
        let more = match (count - told.len(), self.left_out) {
            (0, _) => String::new(),
            (more, 0) => format!("; and {more} more, which the field violations name"),
            (more, _) => format!("; and {more} more, of which the field violations name the first"),
        };
        let message = format!("the request is not valid: {}{more}", told.join("; "));
        let error = Error::new(ErrorReason::InvalidFields, message).with("violations", count);
        Err(error.with_violations(self.violations))
    }
}

/// Says what is wrong with a text of at most `longest` bytes.
fn problem_of(text: &str, longest: usize) -> Option<String> {
    if text.len() > longest {
        return Some(format!("has {} bytes; at most {longest} are taken", text.len()));
    }
    let control = text.chars().any(char::is_control);
    control.then(|| format!("{} holds control characters", quoted(text)))
}

/// Turns a time of ours into one of the wire.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // The wire counts nanoseconds forward from the second, also before 1970.
    let nanoseconds = time.as_nanosecond();
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    prost_types::Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(0),
        nanos: i32::try_from(rest).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn all_faults_are_told_at_once() {
        let mut fields = Fields::new();
        fields.require("data_type", "");
        fields.ids(
            "ids",
            &["good".into(), String::new(), "bad\u{7}".into(), "x".repeat(300)],
        );
        fields.request_id("two words");
        fields.time("expire_time", Some(prost_types::Timestamp { seconds: 0, nanos: -1 }));

        let status = Status::from(fields.finish().expect_err("six faults"));

        let details = status.get_error_details();
        let violations = &details.bad_request().expect("field violations").field_violations;
        let named: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            named,
            ["data_type", "ids[1]", "ids[2]", "ids[3]", "request_id", "expire_time"]
        );
        let told = status.message();
        assert!(
            told.starts_with("the request is not valid: data_type is required; ids[1] is empty"),
            "{told}"
        );
        assert!(
            named.iter().all(|field| told.contains(field)) && !told.contains("more"),
            "{told}"
        );
    }

    #[test]
    fn faults_that_do_not_fit_into_the_message_are_counted() {
        let mut fields = Fields::new();
        for place in 0..9 {
            fields.refuse(format!("ids[{place}]"), "x".repeat(192));
        }

        let error = fields.finish().expect_err("nine faults");

        let told = error.to_string();
        assert!(
            told.contains("ids[2]")
                && !told.contains("ids[3]")
                && told.ends_with("; and 6 more, which the field violations name"),
            "{told}"
        );
    }

    #[test]
    fn an_answer_about_a_thousand_faults_still_fits_into_headers() {
        let mut fields = Fields::new();
        fields.ids("ids", &vec!["\n".repeat(250); 1_000]);

        let status = Status::from(fields.finish().expect_err("a thousand faults"));

        assert!(status.details().len() + status.message().len() < 5_000);
        assert!(
            status
                .message()
                .contains("of which the field violations name the first")
        );
        assert_eq!(
            status.get_error_details().error_info().expect("info").metadata["violations"],
            "1000"
        );
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = Timestamp::new(-1, -500_000_000).expect("a time");
        let wire = timestamp(time);
        assert_eq!((wire.seconds, wire.nanos), (-2, 500_000_000));
        assert_eq!(Fields::new().time("t", Some(wire)), Some(time));
    }
}
