//! What a kernel says of the tracepoints that the kernel side reads: the fields of the classic ones and the arguments of
//! the BTF ones. Recorded from every kernel that was tried, in contract.json, so that a change on either side is seen
//! without booting them: `cargo xtask test --vm --record` writes it, a unit test here checks it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::OpenError;
use super::{formats, offsets, tracefs};

/// The tracepoints of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The fields of each classic tracepoint (`kmem/rss_stat`), those that all tracepoints share left out; a tracepoint
    /// that the kernel does not have is not there.
    pub formats: BTreeMap<String, Vec<Field>>,
    /// What each argument of each BTF tracepoint (`rss_stat`) is: `number`, `*mm_struct` for a pointer to that struct, or
    /// `other`.
    pub arguments: BTreeMap<String, Vec<String>>,
}

/// A field of a classic tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Bytes from the record's beginning.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

impl Contract {
    /// The running kernel's.
    ///
    /// # Errors
    /// Where tracefs or the kernel's BTF cannot be read.
    pub fn of_the_running_kernel() -> Result<Self, OpenError> {
        let tracefs = tracefs::find(&mut Vec::new())?;
        let btf = offsets::read(Path::new(offsets::VMLINUX))?;
        Ok(Self { formats: formats::contract(&tracefs), arguments: offsets::contract(&btf) })
    }

    /// Whether the kernel side can read such a kernel's tracepoints.
    ///
    /// # Errors
    /// Names what differs from what it expects.
    pub fn holds(&self) -> Result<(), OpenError> {
        formats::check_contract(&self.formats)?;
        offsets::check_contract(&self.arguments)
    }
}

/// The recorded contracts by kernel series (`6.1`).
///
/// # Errors
/// When this build's own file makes no sense.
pub fn recorded() -> Result<BTreeMap<String, Contract>, serde_json::Error> {
    serde_json::from_str(include_str!("contract.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_side_can_read_the_tracepoints_of_every_recorded_kernel() {
        let recorded = recorded().unwrap();
        for series in ["5.10", "6.1", "6.12"] {
            assert!(recorded.contains_key(series), "{series} is not recorded");
        }
        for (series, contract) in recorded {
            contract.holds().unwrap_or_else(|error| panic!("{series}: {error}"));
        }
    }

    #[test]
    fn a_field_that_moved_and_an_argument_that_is_another_are_named() {
        let good = recorded().unwrap().remove("6.1").unwrap();
        let mut moved = good.clone();
        let fields = moved.formats.get_mut("kmem/rss_stat").unwrap();
        fields.iter_mut().find(|field| field.name == "size").unwrap().offset = 32;
        assert!(moved.holds().unwrap_err().what.contains("its field size is 8 bytes at 32"));
        let mut other = good;
        other.arguments.get_mut("rss_stat").unwrap()[0] = "*task_struct".to_owned();
        assert!(other.holds().unwrap_err().what.contains("argument 0 of the tracepoint rss_stat"));
    }

    #[test]
    fn the_running_kernel_keeps_the_contract() {
        let Ok(contract) = Contract::of_the_running_kernel() else {
            // Without root there is no tracefs; the live tests have it.
            return;
        };
        contract.holds().unwrap();
    }
}
