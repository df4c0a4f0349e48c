//! The scoreboard: how well leakscope's detector, and the rules in use elsewhere, tell a leak from what looks like one.
//!
//! A [`corpus`] of synthetic processes, each with its truth, is shown to the detector ([`live`]) and to the published
//! rules ([`baselines`]), sample by sample as it would be on a host; [`score`] says who found what and who was wrong,
//! [`table`] prints it, [`headline`] holds the figures that must not fall. The same seeds give the same figures. Start
//! reading at [`run::run`]. [`zoo`] does the same with a recording of real programs.

pub mod baselines;
pub mod corpus;
pub mod cost;
pub mod dice;
pub mod headline;
pub mod live;
pub mod process;
pub mod run;
pub mod score;
pub mod table;
pub mod zoo;

/// A thousand bytes.
pub const KB: f64 = 1e3;
/// A million bytes.
pub const MB: f64 = 1e6;
/// A billion bytes.
pub const GB: f64 = 1e9;
/// Seconds in a minute.
pub const MINUTE: f64 = 60.0;
/// Seconds in an hour.
pub const HOUR: f64 = 3600.0;
/// Bytes in a page.
pub const PAGE: f64 = 4096.0;
/// Seconds between two values of a trace.
pub const TICK_S: f64 = 0.25;
