//! leakscope finds the process that leaks memory on a Linux host, proves it, and ends exactly that one when told to.
//!
//! # The story of one leak
//! A cache service adds 10 KB five times a second. Each entry makes the kernel hand out two or three pages; the kernel
//! side counts those faults for the service and marks it as changed ([`source`]). Four times a second the marked
//! processes, and only those, are read from /proc, and each reading goes to that process's detector ([`monitor`]), which
//! asks whether the least that the process held in each stretch of time rises straight on and gives nothing back
//! ([`leak`]). When that has lasted long enough the leak is confirmed; who the process is was read meanwhile
//! ([`process`]). If it is to be killed, a pidfd is opened, the identity read again behind it and compared, everything
//! that protects it asked, and only then a signal sent ([`action`]). What was seen and done becomes tables, JSON and the
//! incident report ([`report`]). The [`commands`] string these together.

pub mod action;
pub mod commands;
pub mod config;
pub mod fault;
pub mod leak;
pub mod monitor;
pub mod process;
pub mod report;
pub mod source;
pub mod ui;
pub mod units;
