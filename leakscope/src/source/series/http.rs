//! Asks a Prometheus server: one GET over plain HTTP, with a limit on the time and on the length of the answer.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::prometheus::LONGEST;
use crate::fault::Remedy;

/// How long a server has for its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much of an answer is shown when it is an error.
const SHOWN: usize = 500;
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

/// What the server at `url` answers: a document, or an error that shows it.
///
/// # Errors
/// When there is no server, it does not answer in time, or answers with an error.
pub fn fetch(url: &str) -> anyhow::Result<Vec<u8>> {
    if !url.starts_with("http://") {
        return Err(anyhow::anyhow!("asking {url}: only plain http is spoken"))
            .fix("give http://HOST:PORT, or fetch the answer with curl and give the file: leakscope analyze answer.json");
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        // Prometheus stands beside what it watches; a proxy is for the world outside.
        .proxy(None)
        .build();
    const FIX: &str = "check the address, and that Prometheus runs there: curl URL/-/ready";
    let mut answer = ureq::Agent::new_with_config(config)
        .get(url)
        .header("accept", "application/json")
        .call()
        .with_context(|| format!("asking {url}"))
        .fix(FIX)?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(LONGEST as u64).read_to_vec();
    let body = body.with_context(|| format!("reading the answer of {url}")).fix(FIX)?;
    if status.is_success() {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    let shown: String = text.trim().chars().take(SHOWN).collect();
    Err(anyhow::anyhow!("asking {url}: it answered {status}: {shown}"))
        .fix("correct what the answer complains of; an answer without JSON is not Prometheus'")
}
