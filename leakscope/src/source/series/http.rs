//! Asks a Prometheus server: one GET over plain HTTP, with a limit on the time and on the length of the answer.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::prometheus::LONGEST;
use crate::fault::Remedy;

/// So much of an answer is shown when it is an error, in bytes.
const SHOWN: u64 = 500;
/// Points that Prometheus gives of a series at most.
const MOST_POINTS: u32 = 11_000;
/// The step where that allows it: how often Prometheus scrapes unless told otherwise.
const USUAL_STEP: Duration = Duration::from_secs(15);

/// What a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The server: `http://host:9090`, perhaps with a path before `/api/v1`.
    pub server: String,
    /// What, in PromQL.
    pub query: String,
    /// How far back.
    pub range: Duration,
    /// How far apart the points are; `None` is as close as the server gives them, and no closer than it scrapes.
    pub step: Option<Duration>,
    /// How long the server has for its whole answer.
    pub timeout: Duration,
}

impl Query {
    /// The address that is asked at `now`.
    pub fn url(&self, now: Timestamp) -> String {
        let end = now.as_duration().as_secs_f64();
        let start = end - self.range.as_secs_f64();
        let closest = (self.range / MOST_POINTS).max(USUAL_STEP).as_secs_f64().ceil();
        let step = self.step.map_or(closest, |step| step.as_secs_f64());
        let query = utf8_percent_encode(&self.query, NON_ALPHANUMERIC);
        let server = self.server.trim_end_matches('/');
        format!("{server}/api/v1/query_range?query={query}&start={start:.3}&end={end:.3}&step={step}")
    }
}

/// What the server at `url` answers, as it comes; an answer that is an error is one here, and shows it.
///
/// # Errors
/// When there is no server, it does not answer in time, or answers with an error.
pub fn fetch(url: &str, timeout: Duration) -> anyhow::Result<impl Read + use<>> {
    if !url.starts_with("http://") {
        return Err(anyhow::anyhow!("asking {url}: only plain http is spoken"))
            .fix("give http://HOST:PORT, or fetch the answer with curl and give the file: leakscope analyze answer.json");
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // Prometheus stands beside what it watches; a proxy is for the world outside.
        .proxy(None)
        .build();
    const FIX: &str =
        "check the address, and that Prometheus runs there: curl URL/-/ready (--timeout gives it longer)";
    let answer = ureq::Agent::new_with_config(config)
        .get(url)
        .header("accept", "application/json")
        .call()
        .with_context(|| format!("asking {url}"))
        .fix(FIX)?;
    let status = answer.status();
    // The reader of the answer has a limit of its own, and says so in its own words.
    let mut body = answer.into_body().into_with_config().limit(LONGEST + 1).reader();
    if status.is_success() {
        return Ok(body);
    }
    let mut shown = Vec::new();
    // What a broken answer could still say is worth showing.
    let _ = body.by_ref().take(SHOWN).read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    Err(anyhow::anyhow!("asking {url}: it answered {status}: {}", shown.trim()))
        .fix("correct what the answer complains of; an answer without JSON is not Prometheus'")
}
