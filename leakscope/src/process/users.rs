//! User names by id. Each id is looked up once: on hosts whose users live in a directory service a look-up is slow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// More ids than this are looked up each time: a host with so many is not worth the memory.
const CACHED: usize = 4096;

/// A cache that its clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(Arc<Mutex<HashMap<u32, Option<String>>>>);

impl Users {
    /// The name of the user with this id; `None` where the id has none, as in most containers.
    pub(super) fn name(&self, uid: u32) -> Option<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(&uid) {
            return name.clone();
        }
        let name = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
        if names.len() < CACHED {
            names.insert(uid, name.clone());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_a_name_has_it_and_one_without_has_none() {
        let users = Users::default();
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(3_999_999_999), None);
        assert_eq!(users.name(0).as_deref(), Some("root"), "the same from the cache");
    }
}
