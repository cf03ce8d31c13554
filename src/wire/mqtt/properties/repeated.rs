//! The properties that a packet may carry more than once: user properties and subscription identifiers.

use bytes::{BufMut, BytesMut};

use super::{SUBSCRIPTION_ID, SubscriptionId, USER_PROPERTY, Value, skip_value, write_optional};
use crate::wire::mqtt::read::Reader;
use crate::wire::mqtt::{Characters, Error, write};

/// User properties in the order in which they were sent [MQTT-3.3.2-18].
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a>(UserSource<'a>);

#[derive(Clone, Copy)]
enum UserSource<'a> {
    /// A checked property block that may hold others too.
    Mixed(&'a [u8]),
    /// A checked property block of nothing else.
    Only(&'a [u8]),
    Pairs(&'a [(&'a str, &'a str)]),
}

impl Default for UserSource<'_> {
    fn default() -> Self {
        Self::Only(&[])
    }
}

impl<'a> UserProperties<'a> {
    /// User properties to send.
    #[must_use]
    pub fn from_pairs(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(UserSource::Pairs(pairs))
    }

    /// User properties from the bytes that [`Self::write`] made; anything else than user properties is an error.
    pub fn from_block(block: &'a [u8]) -> Result<Self, Error> {
        let mut rest = Reader::new(block, Characters::Any);
        while !rest.is_empty() {
            if rest.u8()? != USER_PROPERTY {
                return Err(Error::PropertyUnknown);
            }
            check_user_property(&mut rest)?;
        }
        Ok(Self(UserSource::Only(block)))
    }

    /// The user properties of a block that has been checked.
    pub(in crate::wire::mqtt) fn of_block(block: &'a [u8]) -> Self {
        Self(UserSource::Mixed(block))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.0 {
            UserSource::Mixed(_) => self.iter().next().is_none(),
            UserSource::Only(block) => block.is_empty(),
            UserSource::Pairs(pairs) => pairs.is_empty(),
        }
    }

    /// Names and values, in order.
    #[must_use]
    pub fn iter(&self) -> UserPairs<'a> {
        UserPairs(self.0)
    }

    /// Bytes that [`Self::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self.0 {
            UserSource::Mixed(block) => spans(block).map(<[u8]>::len).sum(),
            UserSource::Only(block) => block.len(),
            UserSource::Pairs(pairs) => pairs.iter().map(|(name, value)| 5 + name.len() + value.len()).sum(),
        }
    }

    /// Appends them as properties, without a length in front.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
        match self.0 {
            UserSource::Mixed(block) => spans(block).for_each(|span| out.put_slice(span)),
            UserSource::Only(block) => out.put_slice(block),
            UserSource::Pairs(pairs) => {
                for (name, value) in pairs {
                    out.put_u8(USER_PROPERTY);
                    write::string(name, out)?;
                    write::string(value, out)?;
                }
            }
        }
        Ok(())
    }
}

/// The bytes of each user property in a checked block, identifiers included.
fn spans(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Reader::new(block, Characters::Any);
    std::iter::from_fn(move || {
        loop {
            let start = rest.rest();
            let id = rest.u8().ok()?;
            skip_value(id, &mut rest).ok()?;
            if id == USER_PROPERTY {
                return start.get(..start.len() - rest.rest().len());
            }
        }
    })
}

/// Checks name and value of a user property, which are UTF-8 both [MQTT-1.5.7-1].
pub(in crate::wire::mqtt) fn check_user_property(from: &mut Reader<'_>) -> Result<(), Error> {
    from.string()?;
    from.string()?;
    Ok(())
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl std::fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPairs<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterator over user properties.
#[derive(Clone)]
pub struct UserPairs<'a>(UserSource<'a>);

impl<'a> Iterator for UserPairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            UserSource::Pairs(pairs) => {
                let (pair, rest) = pairs.split_first()?;
                *pairs = rest;
                Some(*pair)
            }
            UserSource::Mixed(block) | UserSource::Only(block) => {
                let mut rest = Reader::new(block, Characters::Any);
                let found = next_user_property(&mut rest);
                *block = rest.rest();
                found
            }
        }
    }
}

fn next_user_property<'a>(block: &mut Reader<'a>) -> Option<(&'a str, &'a str)> {
    loop {
        match block.u8().ok()? {
            USER_PROPERTY => return Some((block.string().ok()?, block.string().ok()?)),
            id => skip_value(id, block).ok()?,
        }
    }
}

/// The subscription identifiers of a PUBLISH (3.3.2.3.8).
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(IdSource<'a>);

#[derive(Clone, Copy)]
enum IdSource<'a> {
    /// A checked property block that may hold other properties too.
    Block(&'a [u8]),
    List(&'a [SubscriptionId]),
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self(IdSource::Block(&[]))
    }
}

impl<'a> SubscriptionIds<'a> {
    /// Subscription identifiers to send.
    #[must_use]
    pub fn from_slice(ids: &'a [SubscriptionId]) -> Self {
        Self(IdSource::List(ids))
    }

    pub(in crate::wire::mqtt) fn of_block(block: &'a [u8]) -> Self {
        Self(IdSource::Block(block))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The identifiers, in order.
    pub fn iter(&self) -> impl Iterator<Item = SubscriptionId> + use<'a> {
        let (block, list): (&'a [u8], &'a [SubscriptionId]) = match self.0 {
            IdSource::Block(block) => (block, &[]),
            IdSource::List(list) => (&[], list),
        };
        let mut rest = Reader::new(block, Characters::Any);
        std::iter::from_fn(move || next_subscription_id(&mut rest)).chain(list.iter().copied())
    }

    pub(in crate::wire::mqtt) fn encoded_len(&self) -> usize {
        match self.0 {
            IdSource::Block([]) | IdSource::List([]) => 0,
            _ => self.iter().map(|id| 1 + id.encoded_len()).sum(),
        }
    }

    pub(in crate::wire::mqtt) fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
        self.iter().try_for_each(|id| write_optional(SUBSCRIPTION_ID, Some(id), out))
    }
}

fn next_subscription_id(block: &mut Reader<'_>) -> Option<SubscriptionId> {
    loop {
        match block.u8().ok()? {
            SUBSCRIPTION_ID => return SubscriptionId::read(block).ok(),
            id => skip_value(id, block).ok()?,
        }
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl std::fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_properties_are_found_among_others() {
        let block = [0x26, 0, 1, b'a', 0, 1, b'b', 0x01, 0x01, 0x0B, 0x05, 0x26, 0, 1, b'a', 0, 0];
        let user = UserProperties::of_block(&block);
        assert_eq!(user.iter().collect::<Vec<_>>(), [("a", "b"), ("a", "")]);
        assert_eq!(user, UserProperties::from_pairs(&[("a", "b"), ("a", "")]));
        let ids = SubscriptionIds::of_block(&block);
        assert_eq!(ids.iter().map(SubscriptionId::value).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn user_properties_survive_a_block() {
        let user = UserProperties::from_pairs(&[("name", "value"), ("", "ü")]);
        let mut block = BytesMut::new();
        user.write(&mut block).unwrap();
        assert_eq!(block.len(), user.encoded_len());
        assert_eq!(UserProperties::from_block(&block), Ok(user));
        assert_eq!(UserProperties::from_block(&[0x01, 0x01]), Err(Error::PropertyUnknown));
        assert_eq!(UserProperties::from_block(&[0x26, 0, 1]), Err(Error::Truncated));
    }

    #[test]
    fn both_kinds_of_blocks_are_written_alike() {
        let mixed = [0x01, 0x01, 0x26, 0, 1, b'a', 0, 1, b'b', 0x0B, 0x05, 0x26, 0, 0, 0, 0];
        let user = UserProperties::of_block(&mixed);
        let mut out = BytesMut::new();
        user.write(&mut out).unwrap();
        assert_eq!(&out[..], [0x26, 0, 1, b'a', 0, 1, b'b', 0x26, 0, 0, 0, 0]);
        assert_eq!(out.len(), user.encoded_len());
        assert_eq!(UserProperties::from_block(&out), Ok(user));
    }
}
