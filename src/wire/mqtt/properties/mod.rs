//! The properties of MQTT 5.0 (2.2.2): typed sets, read in one pass and written in a fixed order.

mod repeated;

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use crate::wire::mqtt::read::Reader;
pub(in crate::wire::mqtt) use repeated::check_user_property;
pub use repeated::{SubscriptionIds, UserPairs, UserProperties};

use crate::wire::mqtt::{Error, PacketType, Qos, write};

/// Identifier of the user property, which every packet with properties may carry many times.
pub(in crate::wire::mqtt) const USER_PROPERTY: u8 = 0x26;
/// Identifier of the subscription identifier.
pub(in crate::wire::mqtt) const SUBSCRIPTION_ID: u8 = 0x0B;

/// A subscription identifier: 1 to 268,435,455 (3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The identifier with this value, if it is in range.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        let in_range = usize::try_from(value).is_ok_and(|value| value <= write::MAX_REMAINING_LENGTH);
        if in_range { NonZeroU32::new(value).map(Self) } else { None }
    }

    /// Its value.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

/// A type of property value: how it is read, measured and written (2.2.2.2).
pub(in crate::wire::mqtt) trait Value<'a>: Copy {
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
pub(in crate::wire::mqtt) fn read_once<'a, V: Value<'a>>(slot: &mut Option<V>, from: &mut Reader<'a>) -> Result<(), Error> {
    let value = V::read(from)?;
    if slot.replace(value).is_some() { Err(Error::PropertyDuplicate) } else { Ok(()) }
}

/// Length of a property with its identifier, 0 if it is absent.
pub(in crate::wire::mqtt) fn optional_len<'a, V: Value<'a>>(value: Option<V>) -> usize {
    value.map_or(0, |value| 1 + value.encoded_len())
}

/// Writes a property with its identifier, nothing if it is absent.
pub(in crate::wire::mqtt) fn write_optional<'a, V: Value<'a>>(id: u8, value: Option<V>, out: &mut BytesMut) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    out.put_u8(id);
    value.write(out)
}

/// The fault of a block that holds a property its packet does not know. A block that cannot be read to its end is malformed
/// before it is misplaced.
#[cold]
pub(in crate::wire::mqtt) fn refuse(id: u8, from: &mut Reader<'_>, packet: PacketType) -> Error {
    let mut skipped = skip_value(id, from);
    while skipped.is_ok() && !from.is_empty() {
        skipped = from.u8().and_then(|id| skip_value(id, from));
    }
    skipped.err().unwrap_or(Error::PropertyNotAllowed(packet))
}

/// A fault seen from outside the property block: what is cut short there is told from what is cut short elsewhere.
pub(in crate::wire::mqtt) fn in_block(error: Error) -> Error {
    if error == Error::Truncated { Error::PropertyTruncated } else { error }
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

            /// Appends the block, length included; no properties are a length of 0 [MQTT-2.2.2-1].
            pub(in crate::wire::mqtt) fn write(&self, out: &mut BytesMut) -> Result<(), Error> {
                write::variable_byte_integer(self.content_len(), out)?;
                $(properties::write_optional($id, self.$field, out)?;)*
                self.user.write(out)
            }
        }
    };
}
pub(in crate::wire::mqtt) use property_set;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_ids_have_a_range() {
        assert_eq!(SubscriptionId::new(0), None);
        assert_eq!(SubscriptionId::new(268_435_455).map(SubscriptionId::value), Some(268_435_455));
        assert_eq!(SubscriptionId::new(268_435_456), None);
    }
}
