//! How Mailchimp knows a member: by an address, and by an id that outlasts it.

use crate::OnDelete;
use integration_engine::{crypto::subscriber_hash, delivery::call::Link, record::RemoteId};

use crate::{in_path, plan::MemberPlan};

/// How Mailchimp knows the member.
#[derive(Clone, Copy)]
pub(crate) struct MemberRef<'a> {
    pub(crate) address: &'a str,
    pub(crate) contact: Option<&'a RemoteId>,
}

impl MemberRef<'_> {
    /// The member's name in a path. The contact's id stays the same whatever becomes of the
    /// address.
    pub(crate) fn path(&self) -> String {
        match self.contact {
            Some(id) => id.as_str().to_owned(),
            None => subscriber_hash(self.address),
        }
    }
}

impl MemberRef<'_> {
    /// As above. Its change of address may have happened without our knowing, which the id tells;
    /// but erasing for good is documented for the hash only.
    pub(crate) fn path_to_archive(&self, how: OnDelete) -> String {
        let found_by_address = self
            .contact
            .is_some_and(|id| id.as_str() == in_path(self.address));
        match how {
            OnDelete::Permanent if !found_by_address => subscriber_hash(self.address),
            OnDelete::Archive | OnDelete::Permanent | OnDelete::Ignore => self.path(),
        }
    }
}

impl MemberPlan<'_> {
    /// What the member is known under: the address of the last write, unless a change of it was
    /// found to have happened (the link then carries the new address's hash), and the contact's id.
    pub(crate) fn known<'t>(&self, link: &'t Link, email: Option<&'t str>) -> MemberRef<'t> {
        let old = link.remote_key.as_deref();
        let is_hash_of = |address: Option<&str>| {
            let hash = address.map(subscriber_hash);
            link.remote_id
                .as_ref()
                .is_some_and(|id| Some(id.as_str()) == hash.as_deref())
        };
        if is_hash_of(email) {
            return MemberRef {
                address: email.unwrap_or(""),
                contact: None,
            };
        }
        let contact = link.remote_id.as_ref().filter(|_| !is_hash_of(old));
        MemberRef {
            address: old.or(email).unwrap_or(""),
            contact,
        }
    }
}
