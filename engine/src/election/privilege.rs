//! Who may do what with an election.
//!
//! The owner may do everything, and grants; PUBLIC is everybody, and has all privileges until they are revoked. The engine
//! keeps what was granted and knows no users: `sql` asks before it acts.

use super::Election;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// A set of privileges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges(u8);

impl Privileges {
    pub const NONE: Privileges = Privileges(0);
    /// To create candidates.
    pub const CREATE: Privileges = Privileges(1);
    /// To work inside of candidates.
    pub const WRITE: Privileges = Privileges(2);
    /// To read futures.
    pub const READ: Privileges = Privileges(4);
    /// To elect, rebase and drop, and to resolve conflicts.
    pub const ELECT: Privileges = Privileges(8);
    pub const ALL: Privileges = Privileges(15);

    /// Each privilege with its name and its letter.
    const EACH: [(Privileges, &'static str, char); 4] = [
        (Privileges::CREATE, "CREATE", 'C'),
        (Privileges::WRITE, "WRITE", 'w'),
        (Privileges::READ, "READ", 'r'),
        (Privileges::ELECT, "ELECT", 'e'),
    ];

    /// From the byte in the log; `None`: there are privileges in it that nobody knows.
    pub(crate) fn from_byte(byte: u8) -> Option<Privileges> {
        (byte <= Privileges::ALL.0).then_some(Privileges(byte))
    }

    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    /// The privilege of this name, or ALL.
    pub fn named(name: &str) -> Option<Privileges> {
        if name.eq_ignore_ascii_case("all") {
            return Some(Privileges::ALL);
        }
        let mut each = Self::EACH.iter();
        let found = each.find(|(_, known, _)| name.eq_ignore_ascii_case(known));
        found.map(|(privilege, _, _)| *privilege)
    }

    /// The names, as a list.
    pub fn names(self) -> String {
        let each = Self::EACH
            .iter()
            .filter(|(privilege, _, _)| self.contains(*privilege));
        let names: Vec<&str> = each.map(|(_, name, _)| *name).collect();
        names.join(", ")
    }

    #[must_use]
    pub fn with(self, others: Privileges) -> Privileges {
        Privileges(self.0 | others.0)
    }

    #[must_use]
    pub fn without(self, others: Privileges) -> Privileges {
        Privileges(self.0 & !others.0)
    }

    pub fn contains(self, others: Privileges) -> bool {
        self.0 & others.0 == others.0
    }
}

/// The letters.
impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut each = Self::EACH
            .iter()
            .filter(|(privilege, _, _)| self.contains(*privilege));
        each.try_for_each(|(_, _, letter)| f.write_char(*letter))
    }
}

/// What was granted, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl {
    public: Privileges,
    /// Nobody with none.
    users: BTreeMap<String, Privileges>,
}

impl Default for Acl {
    fn default() -> Self {
        Acl {
            public: Privileges::ALL,
            users: BTreeMap::new(),
        }
    }
}

impl Acl {
    /// Grants or revokes; `None` is PUBLIC.
    pub(crate) fn change(&mut self, grantee: Option<&str>, privileges: Privileges, revoked: bool) {
        let changed = |had: Privileges| match revoked {
            true => had.without(privileges),
            false => had.with(privileges),
        };
        let Some(user) = grantee else {
            self.public = changed(self.public);
            return;
        };
        match changed(self.users.get(user).copied().unwrap_or_default()) {
            Privileges::NONE => drop(self.users.remove(user)),
            left => drop(self.users.insert(user.to_owned(), left)),
        }
    }
}

impl Election {
    /// Whether a user has all these privileges.
    pub fn allows(&self, user: &str, wanted: Privileges) -> bool {
        let own = self.acl.users.get(user).copied().unwrap_or_default();
        user == self.owner || self.acl.public.with(own).contains(wanted)
    }

    /// Whether everybody may read its futures.
    pub fn is_public(&self) -> bool {
        self.acl.public.contains(Privileges::READ)
    }

    /// What was granted, in the form of PostgreSQL's access control lists: `{=Cwre/owner,user=r/owner}`.
    pub fn acl(&self) -> String {
        let public = (self.acl.public != Privileges::NONE).then_some(("", self.acl.public));
        let users = self.acl.users.iter().map(|(user, has)| (user.as_str(), *has));
        let entries = public.into_iter().chain(users);
        let entries = entries.map(|(user, has)| format!("{user}={has}/{}", self.owner));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_to_public_cannot_be_revoked_from_one_user() {
        let mut acl = Acl::default();
        acl.change(Some("ada"), Privileges::READ, true);
        assert_eq!(acl, Acl::default());
        acl.change(None, Privileges::ALL, true);
        acl.change(Some("ada"), Privileges::READ.with(Privileges::ELECT), false);
        acl.change(Some("ada"), Privileges::READ, true);
        assert_eq!(acl.users.get("ada"), Some(&Privileges::ELECT));
        acl.change(Some("ada"), Privileges::ALL, true);
        assert!(acl.users.is_empty());
    }

    #[test]
    fn names_letters_and_bytes_are_those_of_the_same_privileges() {
        for (privilege, name, letter) in Privileges::EACH {
            assert_eq!(Privileges::named(&name.to_ascii_lowercase()), Some(privilege));
            assert_eq!(privilege.to_string(), letter.to_string());
            assert_eq!(Privileges::from_byte(privilege.byte()), Some(privilege));
        }
        assert_eq!(Privileges::ALL.names(), "CREATE, WRITE, READ, ELECT");
        assert_eq!(Privileges::from_byte(16), None);
    }
}
