//! What is done about a leak: the guard that protects, and the verified kill.
//!
//! Only `kill.rs` and `restrain.rs` send a signal, only through the pidfd of a [`Victim`], and only right after the identity and every
//! protection were checked again. A failed action is an [`Outcome`], not an error. Start reading at [`end`].

mod bystander;
mod exit;
mod group;
mod guard;
mod kill;
mod last_look;
mod memory;
mod mrelease;
mod outcome;
mod restrain;
mod rule;
mod still_alive;
mod successor;
mod undo;
mod via;
mod victim;

pub use bystander::Lookalikes;
pub use group::Group;
pub use guard::Protections;
pub use kill::{KillOptions, end, kill};
pub use memory::{MemoryReturn, moved};
pub use mrelease::is_here as takes_memory_back;
pub use outcome::{Bystander, Check, Followed, Outcome, OutcomeKind, Sent};
pub use restrain::{Means, Measure, Restraint, restrain, undo};
pub use rule::Rule;
pub use undo::Restraints;
pub use via::Via;
pub use victim::{Refusal, Victim, hidden_from};
