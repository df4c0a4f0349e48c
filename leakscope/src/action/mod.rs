//! What is done about a leak: the guard that protects, and the verified kill.
//!
//! Only `kill.rs` sends a signal, only through the pidfd of a [`Victim`], and only right after the identity and every
//! protection were checked again. A failed action is an [`Outcome`], not an error. Start reading at [`end`].

mod guard;
mod kill;
mod outcome;
mod victim;

pub use guard::Protections;
pub use kill::{KillOptions, end, kill};
pub use outcome::{Bystander, Check, MemoryReturn, Outcome, OutcomeKind, find_successor};
pub use victim::{Refusal, Victim};
