//! The properties of MQTT 5.0 (2.2.2): typed sets, read in one pass and written in a fixed order.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use super::read::Reader;
use super::{Characters, Error, PacketType, Qos, write};

/// Identifier of the user property, which every packet with properties may carry many times.
pub(super) const USER_PROPERTY: u8 = 0x26;
/// Identifier of the subscription identifier.
pub(super) const SUBSCRIPTION_ID: u8 = 0x0B;

/// A subscription identifier: 1 to 268,435,455 (3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The identifier with this value, if it is in range.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        let in_range =
            usize::try_from(value).is_ok_and(|value| value <= write::MAX_REMAINING_LENGTH);
        if in_range {
            NonZeroU32::new(value).map(Self)
        } else {
            None
        }
    }

    /// Its value.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

/// A type of property value: how it is read, measured and written (2.2.2.2).
pub(super) trait Value<'a>: Copy {
    fn read(from: &mut Reader<'a>) -> Result<Self, Error>;
    fn encoded_len(self) -> usize;
    fn write(self, out: &mut BytesMut) -> Result<(), Error>;
}

impl Value<'_> for bool {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::PropertyValue),
        }
    }

    fn encoded_len(self) -> usize {
        1
    }

    fn write(self, out: &mut BytesMut) -> Result<(), Error> {
        out.put_u8(u8::from(self));
        Ok(())
    }
}

/// Maximum QoS, the only property of this type: 0 or 1 (3.2.2.3.4).
impl Value<'_> for Qos {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        match from.u8()? {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(Error::PropertyValue),
        }
    }

    fn encoded_len(self) -> usize {
        1
    }

    fn write(self, out: &mut BytesMut) -> Result<(), Error> {
        if self == Self::ExactlyOnce {
            return Err(Error::PropertyValue);
        }
        out.put_u8(self.bits());
        Ok(())
    }
}

macro_rules! integer_value {
    ($type:ty, $read:ident, $put:ident) => {
        impl Value<'_> for $type {
            fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
                from.$read()
            }

            fn encoded_len(self) -> usize {
                size_of::<Self>()
            }

            fn write(self, out: &mut BytesMut) -> Result<(), Error> {
                out.$put(self);
                Ok(())
            }
        }
    };
    ($type:ty, $read:ident, $put:ident, not zero) => {
        /// An integer of which 0 is a protocol error, e.g. Receive Maximum (3.1.2.11.3).
        impl Value<'_> for $type {
            fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
                Self::new(from.$read()?).ok_or(Error::PropertyValue)
            }

            fn encoded_len(self) -> usize {
                size_of::<Self>()
            }

            fn write(self, out: &mut BytesMut) -> Result<(), Error> {
                out.$put(self.get());
                Ok(())
            }
        }
    };
}

integer_value!(u16, u16, put_u16);
integer_value!(u32, u32, put_u32);
integer_value!(NonZeroU16, u16, put_u16, not zero);
integer_value!(NonZeroU32, u32, put_u32, not zero);

impl Value<'_> for SubscriptionId {
    fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        Self::new(from.variable_byte_integer()?).ok_or(Error::PropertyValue)
    }

    fn encoded_len(self) -> usize {
        write::variable_byte_integer_len(self.value() as usize)
    }

    fn write(self, out: &mut BytesMut) -> Result<(), Error> {
        write::variable_byte_integer(self.value() as usize, out)
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(from: &mut Reader<'a>) -> Result<Self, Error> {
        from.string()
    }

    fn encoded_len(self) -> usize {
        2 + self.len()
    }

    fn write(self, out: &mut BytesMut) -> Result<(), Error> {
        write::string(self, out)
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(from: &mut Reader<'a>) -> Result<Self, Error> {
        from.binary()
    }

    fn encoded_len(self) -> usize {
        2 + self.len()
    }

    fn write(self, out: &mut BytesMut) -> Result<(), Error> {
        write::binary(self, out)
    }
}

/// Reads a property that may appear once.
pub(super) fn read_once<'a, V: Value<'a>>(
    slot: &mut Option<V>,
    from: &mut Reader<'a>,
) -> Result<(), Error> {
    let value = V::read(from)?;
    if slot.replace(value).is_some() {
        Err(Error::PropertyDuplicate)
    } else {
        Ok(())
    }
}

/// Length of a property with its identifier, 0 if it is absent.
pub(super) fn optional_len<'a, V: Value<'a>>(value: Option<V>) -> usize {
    value.map_or(0, |value| 1 + value.encoded_len())
}

/// Writes a property with its identifier, nothing if it is absent.
pub(super) fn write_optional<'a, V: Value<'a>>(
    id: u8,
    value: Option<V>,
    out: &mut BytesMut,
) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    out.put_u8(id);
    value.write(out)
}

/// What is wrong with a block that holds a property its packet does not know. A block that cannot be read to its end is
/// malformed before it is misplaced.
#[cold]
pub(super) fn refuse(id: u8, from: &mut Reader<'_>, packet: PacketType) -> Error {
    let mut skipped = skip_value(id, from);
    while skipped.is_ok() && !from.is_empty() {
        skipped = from.u8().and_then(|id| skip_value(id, from));
    }
    skipped.err().unwrap_or(Error::PropertyNotAllowed(packet))
}

/// A fault seen from outside the property block: what is cut short there is told from what is cut short elsewhere.
pub(super) fn in_block(error: Error) -> Error {
    if error == Error::Truncated {
        Error::PropertyTruncated
    } else {
        error
    }
}

/// Skips the value of any property, by the types of table 2-4.
fn skip_value(id: u8, from: &mut Reader<'_>) -> Result<(), Error> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => from.u8().map(drop),
        0x13 | 0x21 | 0x22 | 0x23 => from.u16().map(drop),
        0x02 | 0x11 | 0x18 | 0x27 => from.u32().map(drop),
        SUBSCRIPTION_ID => from.variable_byte_integer().map(drop),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => from.binary().map(drop),
        USER_PROPERTY => from.binary().and_then(|_| from.binary()).map(drop),
        _ => Err(Error::PropertyUnknown),
    }
}

/// User properties in the order in which they were sent [MQTT-3.3.2-18].
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a>(UserSource<'a>);

#[derive(Clone, Copy)]
enum UserSource<'a> {
    /// A checked property block that may hold others too.
    Block(&'a [u8]),
    Pairs(&'a [(&'a str, &'a str)]),
}

impl Default for UserSource<'_> {
    fn default() -> Self {
        Self::Block(&[])
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
        Ok(Self::of_block(block))
    }

    /// The user properties of a block that has been checked.
    pub(super) fn of_block(block: &'a [u8]) -> Self {
        Self(UserSource::Block(block))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Names and values, in order.
    #[must_use]
    pub fn iter(&self) -> UserPairs<'a> {
        UserPairs(self.0)
    }

    /// Bytes that [`Self::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.iter()
            .map(|(name, value)| 5 + name.len() + value.len())
            .sum()
    }

    /// Appends them as properties, without a length in front.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
        for (name, value) in self.iter() {
            out.put_u8(USER_PROPERTY);
            write::string(name, out)?;
            write::string(value, out)?;
        }
        Ok(())
    }
}

/// Checks name and value of a user property.
pub(super) fn check_user_property(from: &mut Reader<'_>) -> Result<(), Error> {
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
            UserSource::Block(block) => {
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

    pub(super) fn of_block(block: &'a [u8]) -> Self {
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

    pub(super) fn encoded_len(&self) -> usize {
        self.iter().map(|id| 1 + id.encoded_len()).sum()
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
        self.iter()
            .try_for_each(|id| write_optional(SUBSCRIPTION_ID, Some(id), out))
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

/// Declares the properties of one packet: a struct of options in the order in which they are written.
macro_rules! property_set {
    ($(#[$meta:meta])* $name:ident of $packet:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $id:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name<'a> {
            $($(#[$doc])* pub $field: Option<$type>,)*
            /// User properties, in order.
            pub user: UserProperties<'a>,
        }

        impl<'a> $name<'a> {
            /// Reads the block, length included.
            pub(in crate::wire::mqtt) fn decode(body: &mut Reader<'a>) -> Result<Self, Error> {
                Self::decode_block(body).map_err(properties::in_block)
            }

            fn decode_block(body: &mut Reader<'a>) -> Result<Self, Error> {
                let mut set = Self::default();
                let block = body.property_block()?;
                let mut rest = block;
                while !rest.is_empty() {
                    match rest.u8()? {
                        $($id => properties::read_once(&mut set.$field, &mut rest)?,)*
                        properties::USER_PROPERTY => {
                            properties::check_user_property(&mut rest)?;
                            set.user = UserProperties::of_block(block.rest());
                        }
                        id => return Err(properties::refuse(id, &mut rest, PacketType::$packet)),
                    }
                }
                Ok(set)
            }

            /// Whether no property is set.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                $(self.$field.is_none() &&)* self.user.is_empty()
            }

            /// Bytes of the properties without the length in front of them.
            pub(in crate::wire::mqtt) fn content_len(&self) -> usize {
                $(properties::optional_len(self.$field) +)* self.user.encoded_len()
            }

            /// Appends the block, length included.
            pub(in crate::wire::mqtt) fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
                write::variable_byte_integer(self.content_len(), out)?;
                $(properties::write_optional($id, self.$field, out)?;)*
                self.user.write(out)
            }
        }
    };
}
pub(super) use property_set;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_properties_are_found_among_others() {
        let block = [
            0x26, 0, 1, b'a', 0, 1, b'b', 0x01, 0x01, 0x0B, 0x05, 0x26, 0, 1, b'a', 0, 0,
        ];
        let user = UserProperties::of_block(&block);
        assert_eq!(user.iter().collect::<Vec<_>>(), [("a", "b"), ("a", "")]);
        assert_eq!(user, UserProperties::from_pairs(&[("a", "b"), ("a", "")]));
        let ids = SubscriptionIds::of_block(&block);
        assert_eq!(
            ids.iter().map(SubscriptionId::value).collect::<Vec<_>>(),
            [5]
        );
    }

    #[test]
    fn user_properties_survive_a_block() {
        let user = UserProperties::from_pairs(&[("name", "value"), ("", "ü")]);
        let mut block = BytesMut::new();
        user.write(&mut block).unwrap();
        assert_eq!(block.len(), user.encoded_len());
        assert_eq!(UserProperties::from_block(&block), Ok(user));
        assert_eq!(
            UserProperties::from_block(&[0x01, 0x01]),
            Err(Error::PropertyUnknown)
        );
        assert_eq!(
            UserProperties::from_block(&[0x26, 0, 1]),
            Err(Error::Truncated)
        );
    }

    #[test]
    fn subscription_ids_have_a_range() {
        assert_eq!(SubscriptionId::new(0), None);
        assert_eq!(
            SubscriptionId::new(268_435_455).map(SubscriptionId::value),
            Some(268_435_455)
        );
        assert_eq!(SubscriptionId::new(268_435_456), None);
    }
}
