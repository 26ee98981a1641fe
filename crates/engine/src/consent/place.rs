//! Whose record a decision is about that was reported for an address in an audience: audiences have
//! members of their own. The caller looks up links and rows.

use crate::delivery::call::Link;

/// Where the record with an address is, as seen from an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudiencePlace<R> {
    /// In this audience, or meant to be; with the link as it is to be used.
    Here(R, Link),
    /// It was in this audience, and has been moved to another one.
    Left(R, Link),
    Elsewhere,
    Nowhere,
}

/// An address in an audience.
#[derive(Clone, Copy, Debug)]
pub struct AudienceAddress<'a> {
    pub list: &'a str,
    /// Lower case.
    pub email: &'a str,
    /// The audience of links that name none.
    pub default: &'a str,
}

impl AudienceAddress<'_> {
    /// Whether a link leads into the audience.
    pub fn holds(&self, link: &Link) -> bool {
        let list = link.membership.list.as_deref();
        !link.is_nowhere() && list.unwrap_or(self.default) == self.list
    }

    /// The place of a record that was written under the address last, if it has to do with the
    /// audience.
    pub fn among<R>(
        &self,
        members: impl IntoIterator<Item = (R, Link)>,
    ) -> Option<AudiencePlace<R>> {
        let mut left = None;
        for (record, link) in members {
            if self.holds(&link) {
                return Some(AudiencePlace::Here(record, link));
            }
            if left.is_none() && link.membership.was_in(self.list) {
                left = Some(AudiencePlace::Left(record, link));
            }
        }
        left
    }

    /// The place of a record whose row has the address. `belongs`: whether the row names the audience;
    /// asked only where that decides.
    pub fn of_row<R, E>(
        &self,
        record: R,
        link: Option<Link>,
        belongs: impl FnOnce(&R) -> Result<bool, E>,
    ) -> Result<AudiencePlace<R>, E> {
        Ok(match link {
            Some(link) if self.holds(&link) => AudiencePlace::Here(record, link),
            Some(link) if link.membership.was_in(self.list) => AudiencePlace::Left(record, link),
            Some(link) if !link.is_nowhere() => AudiencePlace::Elsewhere,
            _ if !belongs(&record)? => AudiencePlace::Elsewhere,
            link => AudiencePlace::Here(record, Link::joined(link, self.list, self.email)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::consent::membership::Membership;

    const ADDRESS: AudienceAddress<'_> = AudienceAddress {
        list: "b2",
        email: "ada@example.com",
        default: "a1",
    };

    fn member(list: Option<&str>) -> Link {
        Link {
            remote_key: Some("ada@example.com".to_owned()),
            membership: Membership {
                list: list.map(str::to_owned),
                ..Membership::default()
            },
            ..Link::default()
        }
    }

    fn of_row(link: Option<Link>, belongs: bool) -> AudiencePlace<u8> {
        let asked = |_: &u8| Ok::<_, Infallible>(belongs);
        ADDRESS.of_row(1, link, asked).unwrap()
    }

    #[test]
    fn member_of_the_audience_comes_before_one_that_has_left_it() {
        let gone = member(Some("b2")).left("b2", false).arrive(None, "c3");
        let here = member(Some("b2"));
        let members = [(1, member(None)), (2, gone.clone()), (3, here.clone())];
        assert_eq!(
            ADDRESS.among(members.clone()),
            Some(AudiencePlace::Here(3, here))
        );
        let others = members.into_iter().take(2);
        assert_eq!(ADDRESS.among(others), Some(AudiencePlace::Left(2, gone)));
        assert_eq!(ADDRESS.among([(1, member(None))]), None);
    }

    #[test]
    fn row_joins_the_audience_it_names_unless_it_is_a_member_of_another() {
        let joined = Link::joined(None, "b2", "ada@example.com");
        assert_eq!(of_row(None, true), AudiencePlace::Here(1, joined));
        assert_eq!(of_row(None, false), AudiencePlace::Elsewhere);
        assert_eq!(
            of_row(Some(member(Some("a1"))), true),
            AudiencePlace::Elsewhere
        );
        let here = member(Some("b2"));
        assert_eq!(
            of_row(Some(here.clone()), false),
            AudiencePlace::Here(1, here)
        );
        let between = member(Some("a1")).left("a1", false);
        let AudiencePlace::Here(1, link) = of_row(Some(between), true) else {
            panic!("it comes from another audience")
        };
        assert_eq!(link.membership.former, ["a1"]);
    }
}
